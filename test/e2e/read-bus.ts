import type { Bus } from '@spillway/bus'
import { bytesAt } from '@spillway/core'
import type { CheckedRecord } from '../checker/record.ts'

/** All that lies on a topic now, headers included. */
export async function readBus(bus: Bus, topic: string): Promise<CheckedRecord[]> {
  let left = 0n
  for (const { earliest, end } of await bus.topics.offsets(topic)) left += end - earliest
  const records: CheckedRecord[] = []
  if (left === 0n) return records
  const enough = new AbortController()
  for await (const { partition, offsets, records: slice } of bus.subscribe({
    topic,
    from: 'earliest',
    maxSliceRecords: 1000,
    signal: enough.signal,
  })) {
    for (let row = 0; row < slice.count; row++) {
      records.push({
        partition,
        offset: Number(offsets[row]),
        key: slice.keys === undefined ? '' : Buffer.from(bytesAt(slice.keys, row)).toString(),
        value: Buffer.from(bytesAt(slice.values, row)).toString(),
        headers: slice.headers?.[row] ?? {},
      })
    }
    if (BigInt(records.length) >= left) break
  }
  enough.abort()
  return records
}
