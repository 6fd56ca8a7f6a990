import { describe, expect, test } from 'vitest'
import type { Handler } from '../../src/port.ts'
import { fill, gate, type MakeHarness, until, useFixture } from './fixture.ts'

export function schedulingTests(makeHarness: MakeHarness): void {
  describe('scheduling', () => {
    const fixture = useFixture(makeHarness)

    test('slices of different partitions are handled side by side', async () => {
      const input = await fixture.topic('in', 4)
      await fill(fixture.bus, input, 4, 3)
      const together = gate()
      const inFlight = new Set<number>()
      const handle: Handler = async (slice) => {
        inFlight.add(slice.partition)
        if (inFlight.size === 4) together.open()
        await together.opened
        return { writes: [] }
      }
      const processor = await fixture.processor([input], fixture.unique('group'), handle, { concurrency: 4 })
      await until(async () => (await processor.lags()).every((lag) => lag.committedOffset === 3n), 'all four at once')
    })

    test('never more at once than `concurrency`, and one a partition', async () => {
      const input = await fixture.topic('in', 5)
      const inFlight: number[] = []
      let most = 0
      const handle: Handler = async (slice) => {
        expect(inFlight).not.toContain(slice.partition)
        inFlight.push(slice.partition)
        most = Math.max(most, inFlight.length)
        for (let i = 0; i < 3; i++) await new Promise((resolve) => setTimeout(resolve, 1))
        inFlight.splice(inFlight.indexOf(slice.partition), 1)
        return { writes: [] }
      }
      await fill(fixture.bus, input, 5, 60)
      const processor = await fixture.processor([input], fixture.unique('group'), handle, { concurrency: 2, maxSliceRecords: 5 })
      await until(async () => (await processor.lags()).every((lag) => lag.committedOffset === 60n), 'all records')
      expect(most).toBe(2)
    })

    test('with a concurrency of one, no partition starves', async () => {
      const input = await fixture.topic('in', 3)
      await fill(fixture.bus, input, 3, 30)
      const order: number[] = []
      const handle: Handler = (slice) => {
        order.push(slice.partition)
        return Promise.resolve({ writes: [] })
      }
      const processor = await fixture.processor([input], fixture.unique('group'), handle, { concurrency: 1, maxSliceRecords: 1 })
      await until(async () => (await processor.lags()).every((lag) => lag.committedOffset === 30n), 'all records')
      expect(new Set(order.slice(0, 45)).size).toBe(3)
    })
  })
}
