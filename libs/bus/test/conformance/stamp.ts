import { describe, expect, test } from 'vitest'
import type { ProcessorEvent } from '../../src/port.ts'
import { recordsOf } from '../../src/records.ts'
import { copyTo, fill, keysByPartition, type MakeHarness, readAll, until, useFixture, valuesOf } from './fixture.ts'

export function stampTests(makeHarness: MakeHarness): void {
  describe('stamped positions', () => {
    const fixture = useFixture(makeHarness)
    const values = (count: number, first = 0): string[] => Array.from({ length: count }, (_, i) => `p0-${first + i}`)

    test('are gone on with by the same stamp, and by none', async () => {
      const [input, output] = [await fixture.topic('in'), await fixture.topic('out')]
      const group = fixture.unique('group')
      let sent = 0
      for (const stamp of ['s'.repeat(200), 's'.repeat(200), undefined, 'another', 'another']) {
        await fill(fixture.bus, input, 1, 5, sent)
        sent += 5
        const processor = await fixture.processor([input], group, copyTo(output), stamp === undefined ? {} : { stamp })
        await until(async () => (await processor.lags())[0]!.committedOffset === BigInt(sent), 'the records')
        await processor.drain()
      }
      expect(valuesOf(await readAll(fixture.bus, output))).toEqual(values(25))
    })

    test('are refused by another stamp, which is said once, while other partitions go on', async () => {
      const [input, output] = [await fixture.topic('in', 2), await fixture.topic('out', 2)]
      const group = fixture.unique('group')
      const [key] = keysByPartition(2)
      await fixture.bus.publish(input, recordsOf(values(5).map((value) => ({ key: key!, value }))))
      const first = await fixture.processor([input], group, copyTo(output), { stamp: 'store-1' })
      await until(async () => (await first.lags()).every((lag) => lag.committedOffset === lag.endOffset), 'the first records')
      await first.drain()
      await fill(fixture.bus, input, 2, 10, 5)
      const events: ProcessorEvent[] = []
      const options = { stamp: 'store-2', onEvent: (event: ProcessorEvent) => void events.push(event) }
      const second = await fixture.processor([input], group, copyTo(output), options)
      await until(
        async () => (await second.lags()).some((lag) => lag.partition === 1 && lag.committedOffset === 10n),
        'the other partition',
      )
      expect((await second.lags()).find((lag) => lag.partition === 0)).toMatchObject({ committedOffset: 5n, endOffset: 15n })
      const refusals = events.filter((event) => event.kind === 'refused')
      expect(refusals).toMatchObject([{ topic: input, partition: 0, error: { code: 'FAILED_PRECONDITION', field: 'stamp' } }])
      for (const part of ['"store-1"', '"store-2"', group, input]) expect(refusals[0]!.error.message).toContain(part)
      await second.drain()
      expect(valuesOf((await readAll(fixture.bus, output)).filter((row) => row.partition === 0))).toEqual(values(5))
      const third = await fixture.processor([input], group, copyTo(output), { stamp: 'store-1' })
      await until(async () => (await third.lags()).some((lag) => lag.partition === 0 && lag.committedOffset === 15n), 'what was left')
      expect(valuesOf((await readAll(fixture.bus, output)).filter((row) => row.partition === 0))).toEqual(values(15))
    })

    test('are looked at again: when one changes, the partition is assigned and goes on', async (context) => {
      const { harness } = fixture
      if (harness.movePosition === undefined) return context.skip('the harness cannot move positions')
      const [input, output] = [await fixture.topic('in'), await fixture.topic('out')]
      const group = fixture.unique('group')
      await fill(fixture.bus, input, 1, 10)
      const first = await fixture.processor([input], group, copyTo(output), { stamp: 'store-1' })
      await until(async () => (await first.lags())[0]!.committedOffset === 10n, 'the first records')
      await first.drain()
      await fill(fixture.bus, input, 1, 10, 10)
      const kinds: string[] = []
      const options = { stamp: 'store-2', onEvent: (event: ProcessorEvent) => void kinds.push(event.kind) }
      const second = await fixture.processor([input], group, copyTo(output), options)
      await until(() => kinds.includes('refused'), 'the refusal')
      await harness.movePosition(group, input, 0, 12n)
      await until(async () => (await second.lags())[0]!.committedOffset === 20n, 'the rest')
      expect(kinds).toEqual(['assigned', 'refused', 'assigned'])
      expect(valuesOf(await readAll(fixture.bus, output))).toEqual([...values(10), ...values(8, 12)])
    })

    test('a stamp that is empty or too long is refused', () => {
      for (const stamp of ['', 's'.repeat(201)]) {
        const limits = { from: 'earliest', maxSliceRecords: 1, maxSliceBytes: 1, concurrency: 1 } as const
        expect(() => fixture.bus.process({ topics: ['in'], group: 'g', ...limits, stamp }, copyTo('out'))).toThrow(
          expect.objectContaining({ code: 'INVALID_ARGUMENT', field: 'stamp' }),
        )
      }
    })
  })
}
