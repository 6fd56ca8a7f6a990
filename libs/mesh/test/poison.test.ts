import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EmbeddedBus } from '@spillway/bus'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { expectEachOnce, type PoisonRun, publishNames, supervise } from './poison-runs.ts'

const named = (count: number, poison: readonly number[]): readonly string[] =>
  Array.from({ length: count }, (_, i) => (poison.includes(i) ? `poison-${i}` : `good-${i}`))

describe('rows that end the process, over the embedded bus', { timeout: 120_000 }, () => {
  let folder: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'poison-'))
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  async function runs(run: Pick<PoisonRun, 'entry' | 'partitions' | 'names'>, maxDeaths: number): Promise<number> {
    const given: PoisonRun = { kind: 'embedded', address: join(folder, 'bus.db'), prefix: 'p', ...run }
    const withBus = async (work: (bus: EmbeddedBus) => Promise<void>): Promise<void> => {
      const bus = new EmbeddedBus({ path: given.address })
      await bus.start(AbortSignal.timeout(5000))
      await work(bus)
      await bus.drain()
    }
    await withBus((bus) => publishNames(bus, given))
    const deaths = await supervise(given, maxDeaths)
    await withBus((bus) => expectEachOnce(bus, given))
    return deaths
  }

  test('one among 1,000 on four partitions becomes a dead letter; all others are answered', async () => {
    const deaths = await runs({ entry: 'events', partitions: 4, names: named(1000, [333]) }, Math.ceil(Math.log2(1000)) + 2)
    expect(deaths).toBeGreaterThan(2)
  })

  test('one row of a frame too, and two of one slice one after the other', async () => {
    await runs({ entry: 'frames', partitions: 1, names: named(700, [3, 650]) }, 2 * (Math.ceil(Math.log2(700)) + 2))
  })

  test('a row that is all of its slice', async () => {
    await runs({ entry: 'events', partitions: 1, names: ['poison'] }, 4)
  })
})
