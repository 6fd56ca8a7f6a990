import { describe, expect, test } from 'vitest'
import type { Slice, StartPosition, Subscription } from '../../src/port.ts'
import { recordsOf } from '../../src/records.ts'
import { copyTo, fill, keysByPartition, type MakeHarness, readRows, type Row, sliceRows, until, useFixture, valuesOf } from './fixture.ts'

export function subscribeTests(makeHarness: MakeHarness): void {
  describe('subscribe', () => {
    const fixture = useFixture(makeHarness)

    /** Subscribes in the background. */
    function watch(topic: string, from: StartPosition, maxSliceRecords = 100): { rows: Row[]; slices: Slice[]; stop(): Promise<void> } {
      const rows: Row[] = []
      const slices: Slice[] = []
      const controller = new AbortController()
      const ended = (async () => {
        for await (const slice of fixture.bus.subscribe({ topic, from, maxSliceRecords, signal: controller.signal })) {
          slices.push(slice)
          rows.push(...sliceRows(slice))
        }
      })()
      return {
        rows,
        slices,
        stop: () => {
          controller.abort()
          return ended
        },
      }
    }

    test('from the earliest: all records, in order on each partition, then what is published live', async () => {
      const topic = await fixture.topic('earliest', 2)
      await fill(fixture.bus, topic, 2, 250)
      const watched = watch(topic, 'earliest')
      await until(() => watched.rows.length === 500, 'the stored records')
      await fill(fixture.bus, topic, 2, 5, 250)
      await until(() => watched.rows.length === 510, 'the live records')
      await watched.stop()
      for (const partition of [0, 1]) {
        const rows = watched.rows.filter((row) => row.partition === partition)
        expect(valuesOf(rows)).toEqual(Array.from({ length: 255 }, (_, i) => `p${partition}-${i}`))
      }
    })

    test('slices are of one partition, bounded, with ascending offsets', async () => {
      const topic = await fixture.topic('bounded', 2)
      await fill(fixture.bus, topic, 2, 50)
      const watched = watch(topic, 'earliest', 7)
      await until(() => watched.rows.length === 100, 'all records')
      await watched.stop()
      for (const { records, offsets, topic: name } of watched.slices) {
        expect(name).toBe(topic)
        expect(records.count).toBeGreaterThan(0)
        expect(records.count).toBeLessThanOrEqual(7)
        expect(offsets.length).toBe(records.count)
        expect([...offsets]).toEqual([...offsets].toSorted((a, b) => Number(a - b)))
      }
    })

    test('from the latest: only what comes after', async () => {
      const topic = await fixture.topic('latest')
      await fill(fixture.bus, topic, 1, 20)
      const watched = watch(topic, 'latest')
      let sent = 0
      await until(async () => {
        if (watched.rows.length === 0) await fixture.bus.publish(topic, recordsOf([{ value: `live-${sent++}` }]))
        return watched.rows.length > 0
      }, 'a live record')
      await until(() => watched.rows.at(-1)!.value === `live-${sent - 1}`, 'the last live record')
      await watched.stop()
      const first = Number(watched.rows[0]!.value.slice('live-'.length))
      expect(valuesOf(watched.rows)).toEqual(Array.from({ length: sent - first }, (_, i) => `live-${first + i}`))
    })

    test('from a map: the offset is the next to read; partitions left out start at the earliest', async () => {
      const topic = await fixture.topic('resumed', 2)
      const [, aimed] = keysByPartition(2)
      await fill(fixture.bus, topic, 2, 10)
      const [at] = await fixture.bus.publish(topic, recordsOf([{ key: aimed!, value: 'p1-10' }]))
      await fixture.bus.publish(topic, recordsOf([{ key: aimed!, value: 'p1-11' }]))
      const watched = watch(topic, new Map([[1, at!.offset]]))
      await until(() => watched.rows.length === 12, 'the rest')
      await watched.stop()
      expect(valuesOf(watched.rows.filter((row) => row.partition === 1))).toEqual(['p1-10', 'p1-11'])
      expect(watched.rows.filter((row) => row.partition === 0)).toHaveLength(10)
    })

    test('an offset that is no longer retained starts at the earliest retained', async (context) => {
      const { harness } = fixture
      if (harness.dropBefore === undefined) return context.skip('the harness cannot drop records')
      const topic = await fixture.topic('dropped')
      await fill(fixture.bus, topic, 1, 10)
      await fill(fixture.bus, topic, 1, 10, 10)
      await harness.dropBefore(topic, 0, 13n)
      expect(await fixture.bus.topics.offsets(topic)).toEqual([{ partition: 0, earliest: 13n, end: 20n }])
      for (const from of ['earliest', new Map([[0, 2n]])] as const) {
        const watched = watch(topic, from)
        await until(() => watched.rows.length >= 7, 'what is retained')
        await watched.stop()
        expect(valuesOf(watched.rows)).toEqual(Array.from({ length: 7 }, (_, i) => `p0-${13 + i}`))
      }
      const processed: string[] = []
      await fixture.processor([topic], fixture.unique('group'), (slice) => {
        processed.push(...valuesOf(sliceRows(slice)))
        return Promise.resolve({ writes: [] })
      })
      await until(() => processed.length >= 7, 'the group to get what is retained')
      expect(processed[0]).toBe('p0-13')
    })

    test('ends when its signal fires, idle or not, and when it fired before', async () => {
      const topic = await fixture.topic('aborted')
      const idle = watch(topic, 'earliest')
      await idle.stop()
      expect(idle.rows).toEqual([])
      await fill(fixture.bus, topic, 1, 1)
      const slices: Slice[] = []
      for await (const slice of fixture.bus.subscribe({ topic, from: 'earliest', maxSliceRecords: 1, signal: AbortSignal.abort() }))
        slices.push(slice)
      expect(slices).toEqual([])
    })

    /** Reads to where the subscription ends by itself. */
    async function readUntil(topic: string, ends: ReadonlyMap<number, bigint>, options: Partial<Subscription> = {}): Promise<Row[]> {
      const rows: Row[] = []
      const signal = AbortSignal.timeout(15_000)
      const subscription = { topic, from: 'earliest', until: ends, maxSliceRecords: 7, signal, ...options } as const
      for await (const slice of fixture.bus.subscribe(subscription)) rows.push(...sliceRows(slice))
      signal.throwIfAborted()
      return rows
    }

    const endsOf = async (topic: string): Promise<Map<number, bigint>> =>
      new Map((await fixture.bus.topics.offsets(topic)).map(({ partition, end }) => [partition, end]))

    test('until: ends by itself at the offsets given, without what comes behind them', async () => {
      const topic = await fixture.topic('until', 3)
      const [first] = keysByPartition(3)
      await fixture.bus.publish(topic, recordsOf(Array.from({ length: 30 }, (_, i) => ({ key: first!, value: `p0-${i}` }))))
      const ends = await endsOf(topic)
      await fill(fixture.bus, topic, 3, 10, 30)
      expect(valuesOf(await readUntil(topic, ends))).toEqual(Array.from({ length: 30 }, (_, i) => `p0-${i}`))
      expect(valuesOf(await readUntil(topic, new Map([[0, 5n]])))).toEqual(['p0-0', 'p0-1', 'p0-2', 'p0-3', 'p0-4'])
      expect(valuesOf(await readUntil(topic, new Map([[0, 32n]]), { from: new Map([[0, 29n]]) }))).toEqual(['p0-29', 'p0-30', 'p0-31'])
      expect(await readUntil(topic, new Map([[0, 30n]]), { from: new Map([[0, 30n]]) })).toEqual([])
      expect(await readUntil(topic, new Map())).toEqual([])
    })

    test('until: the end is reached where the last offsets before it hold no record', async () => {
      const [input, topic] = [await fixture.topic('in', 2), await fixture.topic('until-committed', 2)]
      await fill(fixture.bus, input, 2, 40)
      const processor = await fixture.processor([input], fixture.unique('group'), copyTo(topic), { maxSliceRecords: 9 })
      await until(async () => (await processor.lags()).every((lag) => lag.committedOffset === lag.endOffset), 'the copies')
      const ends = await endsOf(topic)
      const rows = await readUntil(topic, ends)
      for (const partition of [0, 1])
        expect(valuesOf(rows.filter((row) => row.partition === partition))).toEqual(
          Array.from({ length: 40 }, (_, i) => `p${partition}-${i}`),
        )
      const last = rows.findLast((row) => row.partition === 0)!
      expect(await readUntil(topic, new Map([[0, ends.get(0)!]]), { from: new Map([[0, last.offset + 1n]]) })).toEqual([])
    })

    test('until: an offset that is not there yet is waited for; a partition that is not there is refused', async () => {
      const topic = await fixture.topic('until-later')
      const reading = readUntil(topic, new Map([[0, 12n]]))
      await fill(fixture.bus, topic, 1, 8)
      await fill(fixture.bus, topic, 1, 8, 8)
      expect(valuesOf(await reading)).toEqual(Array.from({ length: 12 }, (_, i) => `p0-${i}`))
      await expect(readUntil(topic, new Map([[1, 1n]]))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', field: 'until' })
    })

    test('complete: records that retention dropped are DATA_LOSS', async (context) => {
      const { harness } = fixture
      if (harness.dropBefore === undefined) return context.skip('the harness cannot drop records')
      const topic = await fixture.topic('complete')
      await fill(fixture.bus, topic, 1, 10)
      await fill(fixture.bus, topic, 1, 10, 10)
      const ends = await endsOf(topic)
      expect(await readUntil(topic, ends, { complete: true })).toHaveLength(20)
      await harness.dropBefore(topic, 0, 13n)
      expect(await readUntil(topic, ends, { complete: true })).toHaveLength(7)
      expect(await readUntil(topic, ends, { from: new Map([[0, 12n]]) })).toHaveLength(7)
      await expect(readUntil(topic, ends, { complete: true, from: new Map([[0, 12n]]) })).rejects.toMatchObject({
        code: 'DATA_LOSS',
        message: expect.stringContaining(topic),
      })
    })

    test('subscribers do not disturb each other', async () => {
      const topic = await fixture.topic('many-readers')
      await fill(fixture.bus, topic, 1, 100)
      const read = await Promise.all(Array.from({ length: 4 }, () => readRows(fixture.bus, topic, 100)))
      for (const rows of read) expect(valuesOf(rows)).toEqual(Array.from({ length: 100 }, (_, i) => `p0-${i}`))
    })

    test('an unknown topic is NOT_FOUND', async () => {
      const reading = (async () => {
        for await (const slice of fixture.bus.subscribe({
          topic: fixture.unique('unknown'),
          from: 'earliest',
          maxSliceRecords: 1,
          signal: AbortSignal.timeout(5000),
        }))
          return slice
        return undefined
      })()
      await expect(reading).rejects.toMatchObject({ code: 'NOT_FOUND' })
    })
  })
}
