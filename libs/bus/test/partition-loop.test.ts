import { bytesColumn, MeshError } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { PartitionLoop, type PartitionWork } from '../src/partition-loop.ts'
import { PositionNote } from '../src/position-note.ts'
import type { Handler, ProcessorEvent, Slice } from '../src/port.ts'
import { RecordQueue } from '../src/record-queue.ts'
import { Slots } from '../src/slots.ts'

const process = { topics: ['in'], group: 'g', from: 'earliest', maxSliceRecords: 10, maxSliceBytes: 1000, concurrency: 1 } as const

const slice: Slice = {
  topic: 'in',
  partition: 0,
  offsets: BigInt64Array.of(0n),
  records: { count: 1, values: bytesColumn([Buffer.from('a')]), timestampsMs: Float64Array.of(0) },
}

const attempt = new PositionNote().attempt(
  async () => {},
  () => 1000,
)

function loopOf(handle: Handler = async () => ({ writes: [] }), slots = new Slots(1)): { loop: PartitionLoop; events: ProcessorEvent[] } {
  const events: ProcessorEvent[] = []
  const onEvent = (event: ProcessorEvent): void => void events.push(event)
  return { loop: new PartitionLoop({ topic: 'in', partition: 0, process: { ...process, stamp: 'ours' }, handle, slots, onEvent }), events }
}

const never = (): Promise<void> => Promise.reject(new Error('not expected'))

describe('a partition’s loop', () => {
  test('tries a step that failed again, counting failures on end, until it succeeds', async () => {
    const { loop } = loopOf()
    const attempts: number[] = []
    let steps = 0
    const work: PartitionWork = {
      step: async () => {
        if (++steps === 3 || steps === 5) return
        if (steps > 5) return loop.rest()
        throw new MeshError('UNAVAILABLE', 'away')
      },
      failed: async (_error, count) => void attempts.push(count),
      end: async () => {},
    }
    loop.start(work)
    await expect.poll(() => steps).toBe(6)
    await loop.finish(1000)
    expect(attempts).toEqual([1, 2, 1])
  })

  test('finishes its step, and leaves things in order, before it ends; it does not begin another', async () => {
    const { loop } = loopOf()
    const said: string[] = []
    const { promise, resolve } = Promise.withResolvers<void>()
    loop.start({ step: () => (said.push('step'), promise), failed: never, end: async () => void said.push('end') })
    const finished = loop.finish(10_000).then(() => said.push('finished'))
    expect(loop.halted.aborted).toBe(false)
    resolve()
    await finished
    expect(said).toEqual(['step', 'end', 'finished'])
    await loop.found
  })

  test('gives up what is in flight past its grace', async () => {
    const { loop } = loopOf(() => new Promise(() => {}))
    const outputs: unknown[] = []
    loop.start({ step: async () => void outputs.push(await loop.handle(slice, attempt)), failed: never, end: async () => {} })
    await loop.finish(20)
    expect(outputs).toEqual([undefined])
  })

  test('gives up waiting for a place at once', async () => {
    const slots = new Slots(1)
    await slots.take(new AbortController().signal)
    const { loop } = loopOf(undefined, slots)
    loop.start({ step: async () => void (await loop.handle(slice, attempt)), failed: never, end: async () => {} })
    await loop.finish(60_000)
  })

  test('says of a broker that is away only what lasts', async () => {
    const { loop, events } = loopOf()
    const away = new MeshError('UNAVAILABLE', 'away')
    await loop.backOff(away, 1, true)
    expect(events).toEqual([])
    await loop.backOff(away, 2, true)
    await loop.backOff(new MeshError('INTERNAL', 'the handler failed'), 1, false)
    expect(events).toMatchObject([
      { kind: 'retrying', attempt: 2, delayMs: 100, error: { code: 'UNAVAILABLE' } },
      { kind: 'retrying', attempt: 1, delayMs: 50, error: { code: 'INTERNAL' } },
    ])
  })

  test('waits no longer than 2 s between attempts where a store is away, up to 10 s for what else fails', async () => {
    const { loop, events } = loopOf()
    loop.halt()
    await loop.backOff(new MeshError('UNAVAILABLE', 'the store is away', { isOutage: true }), 20, false)
    await loop.backOff(new MeshError('UNAVAILABLE', 'a model is away'), 20, false)
    expect(events).toMatchObject([{ delayMs: 2000 }, { delayMs: 10_000 }])
  })

  test('says once that a position rests on something else, and when that has changed', async () => {
    const { loop, events } = loopOf()
    const refused = [loop.refused({ offset: 7n, stamp: 'theirs' }), loop.refused({ offset: 7n, stamp: 'theirs' })]
    await loop.found
    expect(loop.committedOffset).toBe(7n)
    loop.halt()
    expect(await Promise.all(refused)).toEqual([true, true])
    expect(await loop.refused({ offset: 7n, stamp: 'ours' })).toBe(false)
    expect(events.map(({ kind }) => kind)).toEqual(['refused', 'assigned'])
  })
})

describe('a queue of records', () => {
  const sliceOf = (topic: string, partition: number, records: readonly number[], start: number, end: number): Slice => ({
    topic,
    partition,
    offsets: BigInt64Array.from(records.slice(start, end), BigInt),
    records: { count: end - start, values: bytesColumn([]), timestampsMs: new Float64Array(end - start) },
  })
  const queueOf = (...sizes: number[]): RecordQueue<number> => {
    const queue = new RecordQueue<number>('in', 0, { bytesOf: (size) => size, sliceOf })
    for (const size of sizes) queue.push(size)
    return queue
  }

  test('cuts slices by records and bytes, one record at least, and gives the same one until some are dropped', () => {
    const queue = queueOf(5, 5, 90, 3)
    const first = queue.slice(10, 12)
    expect([...first.offsets]).toEqual([5n, 5n])
    queue.push(1)
    expect(queue.slice(10, 1000)).toBe(first)
    queue.drop(1)
    expect([...queue.slice(1, 1000).offsets]).toEqual([5n])
    queue.drop(1)
    expect([...queue.slice(10, 12).offsets]).toEqual([90n])
    queue.drop(1)
    expect([queue.length, queue.bytes, queue.at(1), queue.at(2)]).toEqual([2, 4, 1, undefined])
    queue.clear()
    expect([queue.length, queue.bytes]).toEqual([0, 0])
  })
})

test('a note is its owner’s from when it is kept until the next commit', async () => {
  const note = new PositionNote()
  note.found('of the one before')
  const kept: string[] = []
  const keep = async (text: string): Promise<void> => (kept.push(text), note.committed(text))
  const given = note.attempt(keep, () => 1000)
  expect([given.takenOver, given.note, note.isOwn]).toEqual([true, 'of the one before', false])
  await expect(given.keepNote('two\nlines')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await given.keepNote('mine')
  expect([kept, note.isOwn]).toEqual([['mine'], true])
  note.committed(undefined)
  note.advanced()
  expect(note.isOwn).toBe(false)
  expect(note.attempt(keep, () => 1000)).toMatchObject({ takenOver: false, note: undefined })
})
