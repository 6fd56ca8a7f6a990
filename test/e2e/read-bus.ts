import type { Bus, Slice } from '@spillway/bus'
import { bytesAt } from '@spillway/core'
import type { CheckedRecord } from '../checker/record.ts'

/** What lies on a topic now, in the committed view. @throws Error where it is not read to its end in time, MeshError NOT_FOUND where there is no such topic */
export async function* slicesOn(bus: Bus, topic: string, timeoutMs = 60_000): AsyncGenerator<Slice> {
  const ranges = (await bus.topics.offsets(topic)).filter(({ earliest, end }) => end > earliest)
  if (ranges.length === 0) return
  const until = new Map(ranges.map(({ partition, end }) => [partition, end]))
  const signal = AbortSignal.timeout(timeoutMs)
  yield* bus.subscribe({ topic, from: 'earliest', until, maxSliceRecords: 1000, signal })
  // A subscription whose signal fires just ends.
  signal.throwIfAborted()
}

/** A slice's records as text. */
export function* recordsIn({ partition, offsets, records }: Slice): Generator<CheckedRecord> {
  for (let row = 0; row < records.count; row++)
    yield {
      partition,
      offset: Number(offsets[row]),
      key: records.keys === undefined ? '' : Buffer.from(bytesAt(records.keys, row)).toString(),
      value: Buffer.from(bytesAt(records.values, row)).toString(),
      headers: records.headers?.[row] ?? {},
    }
}

/** All that lies on a topic now, headers included. */
export async function readBus(bus: Bus, topic: string): Promise<CheckedRecord[]> {
  const found: CheckedRecord[] = []
  for await (const slice of slicesOn(bus, topic)) found.push(...recordsIn(slice))
  return found
}
