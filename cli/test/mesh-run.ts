import type { Bus } from '@spillway/bus'
import { bytesAt } from '@spillway/core'
import { createTelemetry, type OwnedTelemetry } from '@spillway/telemetry'
import { expect } from 'vitest'

export function testTelemetry(): OwnedTelemetry {
  return createTelemetry({ service: 'test', logLevel: 'silent', otlp: false })
}

export interface ReadRecord {
  readonly partition: number
  readonly value: Buffer
  readonly headers: Readonly<Record<string, string>>
}

/** The first `count` records of a topic; waits for them. */
export async function read(bus: Bus, topic: string, count: number): Promise<readonly ReadRecord[]> {
  const records: ReadRecord[] = []
  const enough = new AbortController()
  const signal = AbortSignal.any([enough.signal, AbortSignal.timeout(20_000)])
  for await (const { partition, records: slice } of bus.subscribe({ topic, from: 'earliest', maxSliceRecords: 100, signal })) {
    for (let row = 0; row < slice.count; row++)
      records.push({ partition, value: Buffer.from(bytesAt(slice.values, row)), headers: slice.headers?.[row] ?? {} })
    if (records.length >= count) break
  }
  enough.abort()
  expect(records).toHaveLength(count)
  return records
}
