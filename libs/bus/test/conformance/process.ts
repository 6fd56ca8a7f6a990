import { MeshError } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import type { Handler, Outputs, ProcessorEvent, Records } from '../../src/port.ts'
import { recordBytes, recordsOf, sliceRecords } from '../../src/records.ts'
import { copyTo, fill, keysByPartition, type MakeHarness, readAll, sliceRows, until, useFixture, valuesOf } from './fixture.ts'

function sequence(partition: number, count: number, first = 0): string[] {
  return Array.from({ length: count }, (_, i) => `p${partition}-${first + i}`)
}

function answerNothing(): Promise<Outputs> {
  return Promise.resolve({ writes: [] })
}

export function processTests(makeHarness: MakeHarness): void {
  describe('process', () => {
    const fixture = useFixture(makeHarness)

    test('every record once, in order on its partition, with its key, headers and time', async () => {
      const [input, output] = [await fixture.topic('in', 3), await fixture.topic('out', 3)]
      await fill(fixture.bus, input, 3, 250)
      await fixture.bus.publish(
        input,
        recordsOf([{ key: keysByPartition(3)[0]!, value: 'p0-250', headers: { a: 'b' }, timestampMs: 1234 }]),
      )
      const processor = await fixture.processor([input], fixture.unique('group'), copyTo(output))
      await until(async () => (await processor.lags()).every((lag) => lag.committedOffset === lag.endOffset), 'all to be committed')
      const rows = await readAll(fixture.bus, output)
      for (let partition = 0; partition < 3; partition++)
        expect(valuesOf(rows.filter((row) => row.partition === partition))).toEqual(sequence(partition, partition === 0 ? 251 : 250))
      expect(rows.find((row) => row.value === 'p0-250')).toMatchObject({
        key: keysByPartition(3)[0],
        headers: { a: 'b' },
        timestampMs: 1234,
      })
    })

    test('records published while it waits are offered', async () => {
      const [input, output] = [await fixture.topic('in'), await fixture.topic('out')]
      const processor = await fixture.processor([input], fixture.unique('group'), copyTo(output))
      for (let i = 0; i < 5; i++) {
        await fill(fixture.bus, input, 1, 1, i)
        await until(async () => (await processor.lags())[0]!.committedOffset === BigInt(i + 1), `record ${i}`)
      }
      expect(valuesOf(await readAll(fixture.bus, output))).toEqual(sequence(0, 5))
    })

    test('outputs go to the partition given, or by their keys', async () => {
      const input = await fixture.topic('in')
      const [aimed, keyed] = [await fixture.topic('aimed', 4), await fixture.topic('keyed', 4)]
      await fill(fixture.bus, input, 1, 1)
      const keys = keysByPartition(4)
      const records = recordsOf(keys.map((key) => ({ key, value: key })))
      const handle = () =>
        Promise.resolve({
          writes: [
            { topic: aimed, partition: 3, records },
            { topic: keyed, records },
          ],
        })
      const processor = await fixture.processor([input], fixture.unique('group'), handle)
      await until(async () => (await processor.lags())[0]!.committedOffset === 1n, 'the commit')
      expect((await readAll(fixture.bus, aimed)).map((row) => row.partition)).toEqual([3, 3, 3, 3])
      const rows = await readAll(fixture.bus, keyed)
      expect(rows.map((row) => keys[row.partition]!).toSorted()).toEqual(rows.map((row) => row.value).toSorted())
    })

    test('empty outputs advance the position', async () => {
      const input = await fixture.topic('in')
      await fill(fixture.bus, input, 1, 30)
      const group = fixture.unique('group')
      const processor = await fixture.processor([input], group, answerNothing, { maxSliceRecords: 10 })
      await until(async () => (await processor.lags())[0]!.committedOffset === 30n, 'the commits')
      await processor.drain()
      await fill(fixture.bus, input, 1, 1, 30)
      const offered: string[] = []
      await fixture.processor([input], group, (slice) => {
        offered.push(...valuesOf(sliceRows(slice)))
        return Promise.resolve({ writes: [] })
      })
      await until(() => offered.length > 0, 'the new record')
      expect(offered).toEqual(['p0-30'])
    })

    test('`consumed` commits a prefix; the rest is offered again, first thing', async () => {
      const [input, output] = [await fixture.topic('in'), await fixture.topic('out')]
      await fill(fixture.bus, input, 1, 20)
      const offered: string[][] = []
      const handle = (slice: Parameters<ReturnType<typeof copyTo>>[0]) => {
        offered.push(valuesOf(sliceRows(slice)))
        const consumed = Math.min(3, slice.records.count)
        return Promise.resolve({ writes: [{ topic: output, partition: 0, records: sliceRecords(slice.records, 0, consumed) }], consumed })
      }
      const processor = await fixture.processor([input], fixture.unique('group'), handle, { maxSliceRecords: 10 })
      await until(async () => (await processor.lags())[0]!.committedOffset === 20n, 'all to be committed')
      expect(offered.map((values) => values[0])).toEqual([0, 3, 6, 9, 12, 15, 18].map((i) => `p0-${i}`))
      expect(valuesOf(await readAll(fixture.bus, output))).toEqual(sequence(0, 20))
    })

    test('`consumed` outside 1..count fails the attempt', async () => {
      const input = await fixture.topic('in')
      await fill(fixture.bus, input, 1, 2)
      const events: ProcessorEvent[] = []
      let consumed = 3
      const handle = () => Promise.resolve({ writes: [], consumed: consumed-- })
      const options = { onEvent: (event: ProcessorEvent) => void (event.kind === 'retrying' && events.push(event)) }
      const processor = await fixture.processor([input], fixture.unique('group'), handle, options)
      await until(async () => (await processor.lags())[0]!.committedOffset === 2n, 'the valid answer')
      expect(events).toMatchObject([{ kind: 'retrying', error: { code: 'INVALID_ARGUMENT' } }])
    })

    test('slices are bounded by records and by bytes, and a large record is offered alone', async () => {
      const input = await fixture.topic('in')
      const sizes = [100, 100, 100, 5000, 100, 1200, 1200, 1200, 100]
      await fixture.bus.publish(input, recordsOf(sizes.map((size) => ({ key: 'k', value: 'x'.repeat(size) }))))
      const offered: Records[] = []
      const handle = (slice: { records: Records }) => {
        offered.push(slice.records)
        return Promise.resolve({ writes: [] })
      }
      const processor = await fixture.processor([input], fixture.unique('group'), handle, { maxSliceRecords: 2, maxSliceBytes: 2500 })
      await until(async () => (await processor.lags())[0]!.committedOffset === 9n, 'all records')
      expect(offered.reduce((sum, records) => sum + records.count, 0)).toBe(9)
      for (const records of offered) {
        expect(records.count).toBeLessThanOrEqual(2)
        let bytes = 0
        for (let i = 0; i < records.count; i++) bytes += recordBytes(records, i)
        if (records.count > 1) expect(bytes).toBeLessThanOrEqual(2500)
      }
    })

    test('partition i of several topics', async () => {
      const [left, right, output] = [await fixture.topic('left', 2), await fixture.topic('right', 2), await fixture.topic('out', 2)]
      await fill(fixture.bus, left, 2, 40)
      await fill(fixture.bus, right, 2, 40, 1000)
      const processor = await fixture.processor([left, right], fixture.unique('group'), copyTo(output))
      await until(async () => (await processor.lags()).every((lag) => lag.committedOffset === 40n), 'both topics')
      expect((await processor.lags()).map((lag) => `${lag.topic}/${lag.partition}`).toSorted()).toEqual(
        [`${left}/0`, `${left}/1`, `${right}/0`, `${right}/1`].toSorted(),
      )
      const rows = await readAll(fixture.bus, output)
      for (const partition of [0, 1]) {
        const values = valuesOf(rows.filter((row) => row.partition === partition))
        expect(values).toHaveLength(80)
        expect(values.filter((value) => sequence(partition, 40).includes(value))).toEqual(sequence(partition, 40))
        expect(values.filter((value) => sequence(partition, 40, 1000).includes(value))).toEqual(sequence(partition, 40, 1000))
      }
    })

    test('start refuses an unknown topic, and topics with different counts of partitions', async () => {
      const [two, three] = [await fixture.topic('two', 2), await fixture.topic('three', 3)]
      const group = fixture.unique('group')
      await expect(fixture.processor([fixture.unique('unknown')], group, copyTo(two))).rejects.toMatchObject({ code: 'NOT_FOUND' })
      await expect(fixture.processor([two, three], group, copyTo(two))).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    })

    test('two groups are independent', async () => {
      const input = await fixture.topic('in')
      const outputs = [await fixture.topic('out-1'), await fixture.topic('out-2')]
      await fill(fixture.bus, input, 1, 50)
      const processors = await Promise.all(
        outputs.map((output) => fixture.processor([input], fixture.unique('group'), copyTo(output), { maxSliceRecords: 7 })),
      )
      for (const processor of processors) await until(async () => (await processor.lags())[0]!.committedOffset === 50n, 'both groups')
      for (const output of outputs) expect(valuesOf(await readAll(fixture.bus, output))).toEqual(sequence(0, 50))
    })

    test('from the latest: what is published after start, and the choice outlives a restart', async () => {
      const [input, output] = [await fixture.topic('in', 2), await fixture.topic('out', 2)]
      await fill(fixture.bus, input, 2, 5)
      const group = fixture.unique('group')
      const first = await fixture.processor([input], group, copyTo(output), { from: 'latest' })
      await fill(fixture.bus, input, 2, 5, 5)
      await until(async () => (await first.lags()).every((lag) => lag.committedOffset === 10n), 'the new records')
      await first.drain()
      await fill(fixture.bus, input, 2, 5, 10)
      const second = await fixture.processor([input], group, copyTo(output), { from: 'latest' })
      await until(async () => (await second.lags()).every((lag) => lag.committedOffset === 15n), 'what came in between')
      const rows = await readAll(fixture.bus, output)
      for (const partition of [0, 1])
        expect(valuesOf(rows.filter((row) => row.partition === partition))).toEqual(sequence(partition, 10, 5))
    })

    test('from the latest: the choice stands before anything was processed', async () => {
      const input = await fixture.topic('in')
      await fill(fixture.bus, input, 1, 5)
      const group = fixture.unique('group')
      const first = await fixture.processor([input], group, answerNothing, { from: 'latest' })
      await first.drain()
      await fill(fixture.bus, input, 1, 3, 5)
      const offered: string[] = []
      const handle: Handler = (slice) => {
        offered.push(...valuesOf(sliceRows(slice)))
        return answerNothing()
      }
      await fixture.processor([input], group, handle, { from: 'latest' })
      await until(() => offered.length >= 3, 'what came in between')
      expect(offered).toEqual(sequence(0, 3, 5))
    })

    test('lags tell the committed and the next offset', async () => {
      const input = await fixture.topic('in')
      await fill(fixture.bus, input, 1, 12)
      const release = Promise.withResolvers<void>()
      const handle = async () => {
        await release.promise
        return { writes: [] }
      }
      const processor = await fixture.processor([input], fixture.unique('group'), handle)
      expect(await processor.lags()).toEqual([{ topic: input, partition: 0, committedOffset: 0n, endOffset: 12n }])
      release.resolve()
      await until(async () => (await processor.lags())[0]!.committedOffset === 12n, 'the commit')
    })

    test('a chain of two processors delivers each record once', async () => {
      const [input, middle, output] = [await fixture.topic('in', 2), await fixture.topic('middle', 2), await fixture.topic('out', 2)]
      const first = fixture.processor([input], fixture.unique('first'), copyTo(middle), { maxSliceRecords: 11 })
      const second = fixture.processor([middle], fixture.unique('second'), copyTo(output), { maxSliceRecords: 17 })
      await Promise.all([first, second])
      await fill(fixture.bus, input, 2, 200)
      const seen: string[] = []
      const stop = new AbortController()
      for await (const slice of fixture.bus.subscribe({ topic: output, from: 'earliest', maxSliceRecords: 100, signal: stop.signal })) {
        seen.push(...valuesOf(sliceRows(slice)))
        if (seen.length >= 400) break
      }
      const rows = await readAll(fixture.bus, output)
      for (const partition of [0, 1]) expect(valuesOf(rows.filter((row) => row.partition === partition))).toEqual(sequence(partition, 200))
    })

    test('an error that is no MeshError is retried like any other', async () => {
      const input = await fixture.topic('in')
      await fill(fixture.bus, input, 1, 1)
      const errors: MeshError[] = []
      let attempts = 0
      const handle = () => (++attempts === 1 ? Promise.reject(new TypeError('a bug')) : Promise.resolve({ writes: [] }))
      const options = { onEvent: (event: ProcessorEvent) => void (event.kind === 'retrying' && errors.push(event.error)) }
      const processor = await fixture.processor([input], fixture.unique('group'), handle, options)
      await until(async () => (await processor.lags())[0]!.committedOffset === 1n, 'the second attempt')
      expect(errors).toHaveLength(1)
      expect(errors[0]).toBeInstanceOf(MeshError)
      expect(errors[0]!.message).toContain('a bug')
    })
  })
}
