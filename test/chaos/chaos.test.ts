import { expect, test } from 'vitest'
import { openSystem } from './open-system.ts'
import { planFaults } from './plan.ts'
import { runChaos } from './run.ts'
import type { BusName, Links } from './system.ts'
import { finalLine, verdict } from './verdict.ts'

/** The short form of `npm run chaos`, with seeds whose first faults are of eight kinds, a zombie among them, and soon over. */
test.each<{ bus: BusName; links: Links; seed: number; faults: number }>([
  { bus: 'embedded', links: 'topic', seed: 1, faults: 6 },
  { bus: 'kafka', links: 'topic', seed: 380, faults: 8 },
  { bus: 'nats', links: 'topic', seed: 380, faults: 8 },
])('$bus under $faults faults, $links links: each event is answered once, and right', { timeout: 300_000 }, async (options) => {
  const { bus, links, seed, faults } = options
  const system = await openSystem(bus, links)
  if ('skipped' in system) return console.warn(`no ${bus}, its chaos is skipped: ${system.skipped}`)
  const said: string[] = []
  try {
    const plan = planFaults(seed, system.menu).take(faults)
    const say = (line: string): void => void said.push(line)
    const outcome = await runChaos(system, { name: bus, seed, plan, minutes: 4, ratePerS: 100, calmMs: 2000, sample: 3000, say })
    const all = [...said, verdict(outcome)].join('\n')
    expect(finalLine(outcome), all).toBe(`${bus}: ${faults} faults, 0 lost, 0 duplicated, 0 mismatched: OK (seed ${seed})`)
    expect(outcome.report.featuresChecked, all).toBeGreaterThan(500)
  } finally {
    await system.close()
  }
})
