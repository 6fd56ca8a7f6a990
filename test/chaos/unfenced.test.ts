import { expect, test } from 'vitest'
import { proxiedKafka } from './brokers.ts'
import { DistributedSystem } from './distributed-system.ts'
import type { PlannedFault } from './plan.ts'
import { runChaos } from './run.ts'
import { isKept, verdict } from './verdict.ts'

/** Away for longer than its session, so that another owner has gone on with its partitions when it wakes with work in hand. */
const zombie: PlannedFault = { fault: { kind: 'pause', instance: 'postprocessing-2', forMs: 13_000 }, gapMs: 500, settles: true }

test('a zombie that is not fenced doubles outputs, and the checker finds them', { timeout: 240_000 }, async () => {
  const system = await DistributedSystem.start({ links: 'topic', startBroker: proxiedKafka, unfenced: true })
  if ('skipped' in system) return console.warn(`no Kafka, its zombies are skipped: ${system.skipped}`)
  try {
    const options = { name: 'kafka', seed: 1, plan: [zombie], minutes: 3, ratePerS: 200, calmMs: 1000, sample: 500 }
    const outcome = await runChaos(system, { ...options, say: () => {} })
    expect(outcome.report.duplicated.count, verdict(outcome)).toBeGreaterThan(0)
    expect([outcome.report.lost.count, outcome.stuck, isKept(outcome)]).toEqual([0, [], false])
  } finally {
    await system.close()
  }
})
