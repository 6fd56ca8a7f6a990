import { describe, expect, test } from 'vitest'
import type { Handler } from '../../src/port.ts'
import { copyTo, fill, type MakeHarness, readAll, readRows, until, useFixture, valuesOf } from './fixture.ts'

/** For adapters whose log is shared between processes. */
export function instanceTests(makeHarness: MakeHarness): void {
  describe('two instances', () => {
    const fixture = useFixture(makeHarness)

    test('what one publishes, the other reads', async (context) => {
      if (fixture.harness.secondInstance === undefined) return context.skip('the log belongs to one instance')
      const second = await fixture.harness.secondInstance()
      const topic = await fixture.topic('shared', 2)
      await fill(fixture.bus, topic, 2, 20)
      expect(await readRows(second, topic, 40)).toHaveLength(40)
      expect(await second.topics.describe(topic)).toEqual({ name: topic, partitions: 2 })
    })

    test('of one group, partitions are shared, and when one leaves the other takes over: each record once', async (context) => {
      if (fixture.harness.secondInstance === undefined) return context.skip('the log belongs to one instance')
      const second = await fixture.harness.secondInstance()
      const partitions = 4
      const [input, output] = [await fixture.topic('in', partitions), await fixture.topic('out', partitions)]
      const group = fixture.unique('group')
      const handled = [0, 0]
      const counting =
        (instance: number): Handler =>
        async (slice, signal) => {
          handled[instance]! += slice.records.count
          await new Promise((resolve) => setTimeout(resolve, 2))
          return copyTo(output)(slice, signal)
        }
      const leaving = await fixture.processor([input], group, counting(0), { maxSliceRecords: 20 })
      const staying = await fixture.processor([input], group, counting(1), { maxSliceRecords: 20 }, second)
      let sent = 0
      const publish = async () => {
        await fill(fixture.bus, input, partitions, 50, sent)
        sent += 50
      }
      await until(async () => {
        await publish()
        return handled[0]! > 0 && handled[1]! > 0
      }, 'both to have work')
      await publish()
      await leaving.drain()
      await publish()
      await until(async () => {
        const lags = await staying.lags()
        return lags.length === partitions && lags.every((lag) => lag.committedOffset === BigInt(sent))
      }, 'the one that stays to finish')
      const rows = await readAll(fixture.bus, output)
      for (let partition = 0; partition < partitions; partition++)
        expect(valuesOf(rows.filter((row) => row.partition === partition))).toEqual(
          Array.from({ length: sent }, (_, i) => `p${partition}-${i}`),
        )
    })
  })
}
