import { expect, test } from 'vitest'
import { proxiedKafka } from './brokers.ts'
import { DistributedSystem } from './distributed-system.ts'
import type { Outcome } from './figures.ts'
import type { PlannedFault } from './plan.ts'
import { runChaos } from './run.ts'
import { isKept, verdict } from './verdict.ts'

/** Zombies: each is away for longer than its session, so that another owner has gone on with its partitions when it wakes with work in hand. */
const zombies: readonly PlannedFault[] = ['postprocessing-2', 'cascade-router-2', 'preprocessing-2'].map((instance) => ({
  fault: { kind: 'pause', instance, forMs: 13_000 },
  gapMs: 500,
  settles: true,
}))

async function withZombies(unfenced: boolean): Promise<Outcome | undefined> {
  const system = await DistributedSystem.start({ links: 'topic', startBroker: proxiedKafka, unfenced })
  if ('skipped' in system) {
    console.warn(`no Kafka, its zombies are skipped: ${system.skipped}`)
    return undefined
  }
  try {
    const say = (): void => {}
    return await runChaos(system, { name: 'kafka', seed: 1, plan: zombies, minutes: 3, ratePerS: 300, calmMs: 1000, sample: 1000, say })
  } finally {
    await system.close()
  }
}

test('zombies of every service wake, and commit nothing', { timeout: 240_000 }, async () => {
  const outcome = await withZombies(false)
  if (outcome !== undefined) expect(isKept(outcome), verdict(outcome)).toBe(true)
})

test('where they are not fenced, the checker finds what they did', { timeout: 240_000 }, async () => {
  const outcome = await withZombies(true)
  if (outcome !== undefined) expect(isKept(outcome), verdict(outcome)).toBe(false)
})
