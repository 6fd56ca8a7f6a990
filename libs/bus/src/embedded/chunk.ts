import { type BytesColumn, MeshError } from '@spillway/core'
import type { RecordHeaders, Records } from '../port.ts'
import { recordBytes } from '../records.ts'

/** Consecutive records of one partition as they are stored: one row of the database. */
export interface Chunk {
  /** Offset of the first record. */
  readonly base: number
  readonly records: Records & { readonly timestampsMs: Float64Array }
  /** `count + 1` running totals of `recordBytes`. */
  readonly sizes: Uint32Array
}

/** A chunk is read whole, so it stays small enough to be held by each reader. */
const maxChunkRecords = 4096
const maxChunkBytes = 1 << 20

/*
 * A chunk's bytes, little-endian, every part aligned for a typed array to view it in place:
 *   uint32 format (1), flags (1 keys, 2 headers), record count, bytes of values, bytes of keys, bytes of headers
 *   float64[count] timestamps, uint32[count + 1] sizes, value offsets, and with keys key offsets
 *   values, keys, headers (JSON, see `headersText`: native JSON is faster than a codec in JavaScript)
 */
const format = 1
const headBytes = 24
const withKeys = 1
const withHeaders = 2

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** Running totals of `recordBytes`. */
export function runningSizes(records: Records): Uint32Array {
  const sizes = new Uint32Array(records.count + 1)
  for (let i = 0; i < records.count; i++) sizes[i + 1] = sizes[i]! + recordBytes(records, i)
  return sizes
}

/** The end of the chunk that starts at record `start`. */
export function chunkEnd(sizes: Uint32Array, start: number): number {
  return endWithin(sizes, start, Math.min(sizes.length - 1, start + maxChunkRecords), maxChunkBytes)
}

/** The largest end in `start + 1 .. limit` with at most `maxBytes` in between; `start + 1` where one record has more. */
export function endWithin(sizes: Uint32Array, start: number, limit: number, maxBytes: number): number {
  const most = sizes[start]! + maxBytes
  if (sizes[limit]! <= most) return limit
  let [low, high] = [start + 1, limit]
  while (low < high) {
    const middle = (low + high + 1) >>> 1
    if (sizes[middle]! <= most) low = middle
    else high = middle - 1
  }
  return low
}

/** Records without a timestamp get `acceptedMs`. */
export function encodeChunk(records: Records, sizes: Uint32Array, acceptedMs: number): Uint8Array {
  const { count, values, keys } = records
  const headers = records.headers?.some((named) => named !== undefined) ? encoder.encode(headersText(records.headers)) : undefined
  const valueBytes = dataBytes(values)
  const keyBytes = keys ? dataBytes(keys) : new Uint8Array(0)
  const tables = headBytes + 8 * count + 4 * (count + 1) * (keys ? 3 : 2)
  const chunk = new Uint8Array(tables + valueBytes.byteLength + keyBytes.byteLength + (headers?.byteLength ?? 0))
  const flags = (keys ? withKeys : 0) | (headers ? withHeaders : 0)
  new Uint32Array(chunk.buffer, 0, 6).set([format, flags, count, valueBytes.byteLength, keyBytes.byteLength, headers?.byteLength ?? 0])
  const timestamps = new Float64Array(chunk.buffer, headBytes, count)
  if (records.timestampsMs)
    for (let i = 0; i < count; i++) timestamps[i] = Number.isNaN(records.timestampsMs[i]) ? acceptedMs : records.timestampsMs[i]!
  else timestamps.fill(acceptedMs)
  let at = headBytes + 8 * count
  for (const table of [sizes, values.offsets, ...(keys ? [keys.offsets] : [])]) {
    const target = new Uint32Array(chunk.buffer, at, count + 1)
    const first = table[0]!
    for (let i = 0; i <= count; i++) target[i] = table[i]! - first
    at += 4 * (count + 1)
  }
  chunk.set(valueBytes, at)
  chunk.set(keyBytes, at + valueBytes.byteLength)
  if (headers) chunk.set(headers, at + valueBytes.byteLength + keyBytes.byteLength)
  return chunk
}

function dataBytes(column: BytesColumn): Uint8Array {
  return column.bytes.subarray(column.offsets[0], column.offsets.at(-1))
}

/** Views into `data`, which the chunk then owns. @throws MeshError DATA_LOSS where the bytes are no chunk. */
export function decodeChunk(base: number, data: Uint8Array): Chunk {
  const chunk = data.byteOffset % 8 === 0 ? data : data.slice()
  const head = chunk.byteLength >= headBytes ? new Uint32Array(chunk.buffer, chunk.byteOffset, 6) : new Uint32Array(6)
  const [found, flags, count, valueBytes, keyBytes, headerBytes] = head as unknown as [number, number, number, number, number, number]
  const hasKeys = (flags & withKeys) !== 0
  const tables = headBytes + 8 * count + 4 * (count + 1) * (hasKeys ? 3 : 2)
  if (found !== format || tables + valueBytes + keyBytes + headerBytes !== chunk.byteLength)
    throw new MeshError('DATA_LOSS', `the stored records at offset ${base} are damaged: restore the file, or start with a new one`)
  const table = (index: number): Uint32Array =>
    new Uint32Array(chunk.buffer, chunk.byteOffset + headBytes + 8 * count + 4 * (count + 1) * index, count + 1)
  const values = chunk.subarray(tables, tables + valueBytes)
  const keys = chunk.subarray(tables + valueBytes, tables + valueBytes + keyBytes)
  return {
    base,
    sizes: table(0),
    records: {
      count,
      timestampsMs: new Float64Array(chunk.buffer, chunk.byteOffset + headBytes, count),
      values: { bytes: values, offsets: table(1) },
      ...(hasKeys && { keys: { bytes: keys, offsets: table(2) } }),
      ...((flags & withHeaders) !== 0 && { headers: parseHeaders(chunk.subarray(tables + valueBytes + keyBytes), count) }),
    },
  }
}

type Headers = readonly (RecordHeaders | undefined)[]
type HeaderColumns = Readonly<Record<string, string | readonly string[]>>

/**
 * Headers as JSON. Where all records have the same names, which outputs do, an object of columns: a value that is the same in all of them stands
 * once. Otherwise an array of objects and nulls.
 */
function headersText(headers: Headers): string {
  return JSON.stringify(headerColumns(headers) ?? headers)
}

function headerColumns(headers: Headers): HeaderColumns | undefined {
  const [first] = headers
  if (first === undefined) return undefined
  const names = Object.keys(first)
  // Assigning to this name would set a prototype; the other form is parsed, which does not.
  if (names.includes('__proto__')) return undefined
  for (const named of headers) {
    if (named === undefined) return undefined
    let count = 0
    for (const name in named) {
      if (!Object.hasOwn(first, name)) return undefined
      count++
    }
    if (count !== names.length) return undefined
  }
  return Object.fromEntries(
    names.map((name) => {
      const same = headers.every((named) => named![name] === first[name])
      return [name, same ? first[name]! : headers.map((named) => named![name]!)]
    }),
  )
}

function parseHeaders(bytes: Uint8Array, count: number): Headers {
  const stored = JSON.parse(decoder.decode(bytes)) as HeaderColumns | (RecordHeaders | null)[]
  if (Array.isArray(stored)) return stored.map((named) => named ?? undefined)
  const columns = Object.entries(stored as HeaderColumns)
  return Array.from({ length: count }, (_, row) => {
    const named: Record<string, string> = {}
    for (const [name, values] of columns) named[name] = typeof values === 'string' ? values : values[row]!
    return named
  })
}
