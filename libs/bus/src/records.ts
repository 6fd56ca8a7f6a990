import { bytesAt, type BytesColumn, bytesColumn, bytesCount, concatBytes, MeshError, sliceBytes, takeBytes } from '@spillway/core'
import type { RecordHeaders, Records } from './port.ts'

/** One record as a caller has it at hand; text is written as UTF-8. */
export interface RecordInput {
  readonly key?: string | Uint8Array
  readonly value: string | Uint8Array
  readonly headers?: RecordHeaders
  /** ms since the epoch; the bus stamps the time of acceptance where absent. */
  readonly timestampMs?: number
}

const encoder = new TextEncoder()
const noBytes = new Uint8Array(0)

function asBytes(value: string | Uint8Array | undefined): Uint8Array {
  if (value === undefined) return noBytes
  return typeof value === 'string' ? encoder.encode(value) : value
}

/** Rows as columns. A column that no row fills is absent; where only some rows give a timestamp, the others hold NaN. */
export function recordsOf(rows: readonly RecordInput[]): Records {
  const values = bytesColumn(rows.map((row) => asBytes(row.value)))
  return {
    count: rows.length,
    values,
    ...(rows.some((row) => row.key !== undefined) && { keys: bytesColumn(rows.map((row) => asBytes(row.key))) }),
    ...(rows.some((row) => row.timestampMs !== undefined) && { timestampsMs: Float64Array.from(rows, (row) => row.timestampMs ?? NaN) }),
    ...(rows.some((row) => row.headers !== undefined) && { headers: rows.map((row) => row.headers) }),
  }
}

/** No records. */
export const noRecords: Records = { count: 0, values: bytesColumn([]) }

type Timestamps = { readonly timestampsMs: Float64Array }

/** Records `start` (inclusive) to `end` (exclusive), sharing the data. */
export function sliceRecords(records: Records & Timestamps, start: number, end: number): Records & Timestamps
export function sliceRecords(records: Records, start: number, end: number): Records
export function sliceRecords(records: Records, start: number, end: number): Records {
  if (start === 0 && end === records.count) return records
  return {
    count: end - start,
    values: sliceBytes(records.values, start, end),
    ...(records.keys && { keys: sliceBytes(records.keys, start, end) }),
    ...(records.timestampsMs && { timestampsMs: records.timestampsMs.subarray(start, end) }),
    ...(records.headers && { headers: records.headers.slice(start, end) }),
  }
}

/** The records at `indices`, copied, in that order. */
export function takeRecords(records: Records, indices: ArrayLike<number>): Records {
  const { timestampsMs, headers } = records
  return {
    count: indices.length,
    values: takeBytes(records.values, indices),
    ...(records.keys && { keys: takeBytes(records.keys, indices) }),
    ...(timestampsMs && { timestampsMs: Float64Array.from(indices, (index) => timestampsMs[index]!) }),
    ...(headers && { headers: Array.from(indices, (index) => headers[index]) }),
  }
}

/** All records, one part after the other, copied. A part without keys, timestamps or headers gets empty keys, NaN or none where another has them. */
export function concatRecords(parts: readonly (Records & Timestamps)[]): Records & Timestamps
export function concatRecords(parts: readonly Records[]): Records
export function concatRecords(parts: readonly Records[]): Records {
  if (parts.length === 1) return parts[0]!
  const count = parts.reduce((sum, part) => sum + part.count, 0)
  return {
    count,
    values: concatBytes(parts.map((part) => part.values)),
    ...(parts.some((part) => part.keys) && { keys: concatBytes(parts.map((part) => part.keys ?? emptyColumn(part.count))) }),
    ...(parts.some((part) => part.timestampsMs) && { timestampsMs: concatTimestamps(parts, count) }),
    ...(parts.some((part) => part.headers) && {
      headers: parts.flatMap((part) => part.headers ?? new Array<RecordHeaders | undefined>(part.count).fill(undefined)),
    }),
  }
}

function emptyColumn(count: number): BytesColumn {
  return { bytes: noBytes, offsets: new Uint32Array(count + 1) }
}

function concatTimestamps(parts: readonly Records[], count: number): Float64Array {
  const joined = new Float64Array(count).fill(NaN)
  let end = 0
  for (const part of parts) {
    if (part.timestampsMs) joined.set(part.timestampsMs, end)
    end += part.count
  }
  return joined
}

/** Key, value and headers (names and values as UTF-8) of a record, in bytes: what `maxRecordBytes` and `maxSliceBytes` count. */
export function recordBytes(records: Records, index: number): number {
  const { values, keys, headers } = records
  let bytes = values.offsets[index + 1]! - values.offsets[index]!
  if (keys) bytes += keys.offsets[index + 1]! - keys.offsets[index]!
  const named = headers?.[index]
  if (named) for (const name of Object.keys(named)) bytes += Buffer.byteLength(name) + Buffer.byteLength(named[name]!)
  return bytes
}

/** At least `recordBytes`, without looking at the headers' characters: a UTF-16 unit takes at most three bytes of UTF-8. */
export function recordBytesLimit(records: Records, index: number): number {
  const { values, keys, headers } = records
  let bytes = values.offsets[index + 1]! - values.offsets[index]!
  if (keys) bytes += keys.offsets[index + 1]! - keys.offsets[index]!
  const named = headers?.[index]
  if (named) for (const name in named) bytes += (name.length + named[name]!.length) * 3
  return bytes
}

/** The sum of `recordBytesLimit`. */
export function recordsBytesLimit(records: Records): number {
  const { count, values, keys, headers } = records
  let bytes = values.offsets[count]! - values.offsets[0]!
  if (keys) bytes += keys.offsets[count]! - keys.offsets[0]!
  for (const named of headers ?? []) for (const name in named) bytes += (name.length + named[name]!.length) * 3
  return bytes
}

/** @throws MeshError INVALID_ARGUMENT naming the first record over `maxRecordBytes`, or a column whose length is not `count`. */
export function checkRecords(records: Records, maxRecordBytes: number): void {
  const { count, values, keys, timestampsMs, headers } = records
  const lengths = {
    values: bytesCount(values),
    keys: keys ? bytesCount(keys) : count,
    timestampsMs: timestampsMs?.length ?? count,
    headers: headers?.length ?? count,
  }
  for (const [name, length] of Object.entries(lengths)) {
    if (length !== count)
      throw new MeshError('INVALID_ARGUMENT', `records.${name} has ${length} entries, expected ${count}`, { field: `records.${name}` })
  }
  for (let i = 0; i < count; i++) {
    if (recordBytesLimit(records, i) <= maxRecordBytes) continue
    const bytes = recordBytes(records, i)
    if (bytes > maxRecordBytes)
      throw new MeshError(
        'INVALID_ARGUMENT',
        `record ${i} has ${bytes} bytes (key, value and headers), expected at most ${maxRecordBytes}`,
        { field: `records[${i}]` },
      )
  }
}

/** Where keyless records go next, so that they spread over calls too. One a topic. */
export interface RoundRobin {
  next: number
}

/** Each record's partition: a non-empty key by murmur2 as Java's client, an empty one or none by turns. */
export function choosePartitions(records: Records, partitions: number, turn: RoundRobin): Int32Array {
  const chosen = new Int32Array(records.count)
  const { keys } = records
  for (let i = 0; i < chosen.length; i++) {
    if (keys !== undefined && keys.offsets[i + 1]! > keys.offsets[i]!) chosen[i] = keyPartition(bytesAt(keys, i), partitions)
    else {
      chosen[i] = turn.next % partitions
      turn.next = (chosen[i]! + 1) % partitions
    }
  }
  return chosen
}

/** Apache Kafka, clients/.../producer/internals/BuiltInPartitioner.java, `partitionForKey`. */
export function keyPartition(key: Uint8Array, partitions: number): number {
  return (murmur2(key) & 0x7fffffff) % partitions
}

/** Signed 32-bit hash. Apache Kafka, clients/.../common/utils/Utils.java, `murmur2`. */
export function murmur2(data: Uint8Array): number {
  const m = 0x5bd1e995
  const { length } = data
  let h = 0x9747b28c ^ length
  const whole = length & ~3
  for (let i = 0; i < whole; i += 4) {
    let k = data[i]! | (data[i + 1]! << 8) | (data[i + 2]! << 16) | (data[i + 3]! << 24)
    k = Math.imul(k, m)
    k = Math.imul(k ^ (k >>> 24), m)
    h = Math.imul(h, m) ^ k
  }
  const left = length - whole
  if (left === 3) h ^= data[whole + 2]! << 16
  if (left >= 2) h ^= data[whole + 1]! << 8
  if (left >= 1) h = Math.imul(h ^ data[whole]!, m)
  h = Math.imul(h ^ (h >>> 13), m)
  return (h ^ (h >>> 15)) | 0
}
