import { MeshError } from '@spillway/core'
import { ByteReader, ByteWriter } from './bytes.ts'
import type { HistoryEntry, PackedHistory } from './entries.ts'
import { EntryColumns } from './entry-columns.ts'
import { isInteger, readValues, writeValues } from './packed-values.ts'

/*
 * A history value is blocks one after the other, each complete in itself, so that a store may append one without reading what is there.
 * Entries of a block ascend by (time, origin, offset); blocks may overlap, and hold the same entry: whoever reads them all sorts and drops doubles.
 *
 *   byte    0xb1
 *   varint  entries, n
 *   varint  values an entry, m
 *   times   byte: unit (index below), or 15; signed first and varint differences, in the unit; or n FP64
 *   origins varint origin and varint run length, until all n have theirs
 *   offsets byte 0; signed first and signed differences; or byte 1; n FP64
 *   values  m times: see packed-values.ts
 */
const blockStart = 0xb1
const unitsMs = [1, 1000, 60_000, 3_600_000, 86_400_000]
const rawTimes = 15
const widest = 2 ** 51

/** One block of entries in any order, each once. @returns for n entries of m values at most 64 + n * (24 + 9 m) + 520 m bytes; usually 6 to 10 an entry */
export function encodeBlock(entries: readonly HistoryEntry[], valueCount: number): Uint8Array {
  const columns = new EntryColumns(valueCount)
  columns.resize(entries.length)
  for (const entry of entries) columns.push(entry)
  if (!columns.inOrderFrom(1)) columns.order()
  return encodeColumns(columns, valueCount)
}

/** One block of the entries as they are: ascending by (time, origin, offset). Nothing where there are none. */
export function encodeColumns(entries: PackedHistory, valueCount: number): Uint8Array {
  const { count } = entries
  if (count === 0) return new Uint8Array(0)
  const writer = new ByteWriter(64 + count * (24 + 9 * valueCount) + 520 * valueCount)
  writer.byte(blockStart)
  writer.varint(count)
  writer.varint(valueCount)
  writeTimes(writer, entries.times, count)
  writeOrigins(writer, entries.origins, count)
  writeOffsets(writer, entries.offsets, count)
  if (valueCount === 1) writeValues(writer, entries.values.subarray(0, count))
  else
    for (let v = 0; v < valueCount; v++) {
      const numbers = new Float64Array(count)
      for (let i = 0; i < count; i++) numbers[i] = entries.values[i * valueCount + v]!
      writeValues(writer, numbers)
    }
  return writer.bytes()
}

/**
 * Puts the entries of all blocks after those of `into`; sorted again, and each once, where they do not come in order.
 * @returns how many blocks there were
 * @throws MeshError DATA_LOSS for bytes that are not whole blocks of that many values; `into` is then as it was
 */
export function decodeBlocks(bytes: Uint8Array, into: EntryColumns): number {
  const reader = new ByteReader(bytes)
  const before = into.count
  let blocks = 0
  try {
    for (; reader.at < bytes.length; blocks++) readBlock(reader, into)
  } catch (thrown) {
    into.count = before
    throw thrown
  }
  if (!into.inOrderFrom(before)) into.order()
  return blocks
}

function readBlock(reader: ByteReader, into: EntryColumns): void {
  const start = reader.byte()
  if (start !== blockStart) throw new MeshError('DATA_LOSS', `a block starts with ${blockStart}, not ${start}`)
  const count = reader.varint()
  const valueCount = reader.varint()
  if (valueCount !== into.valueCount) throw new MeshError('DATA_LOSS', `a block of ${valueCount} values an entry, not ${into.valueCount}`)
  // A time takes a byte at least: what says more is broken, and must not cost memory.
  if (count > reader.bytes.length) throw new MeshError('DATA_LOSS', `a block of ${count} entries in ${reader.bytes.length} bytes`)
  const first = into.count
  const end = first + count
  // Room for the entries that a key that is read is about to get.
  if (end > into.capacity) into.resize(end + 8 + (end >> 3))
  readTimes(reader, into.times, first, end)
  readOrigins(reader, into.origins, first, end)
  readOffsets(reader, into.offsets, first, end)
  for (let v = 0; v < valueCount; v++) readValues(reader, into.values, first * valueCount + v, valueCount, count)
  into.count = end
}

function writeTimes(writer: ByteWriter, times: Float64Array, count: number): void {
  const unit = timeUnit(times, count)
  if (unit === -1) {
    writer.byte(rawTimes)
    for (let i = 0; i < count; i++) writer.double(times[i]!)
    return
  }
  const unitMs = unitsMs[unit]!
  writer.byte(unit)
  writer.signed(times[0]! / unitMs)
  for (let i = 1; i < count; i++) writer.varint((times[i]! - times[i - 1]!) / unitMs)
}

/** The largest unit of which all times are multiples; -1 where they are not even whole milliseconds. */
function timeUnit(times: Float64Array, count: number): number {
  let unit = unitsMs.length - 1
  for (let i = 0; i < count; i++) {
    const time = times[i]!
    if (!isInteger(time)) return -1
    while (time % unitsMs[unit]! !== 0) unit--
  }
  return unit
}

function readTimes(reader: ByteReader, times: Float64Array, first: number, end: number): void {
  const unit = reader.byte()
  if (unit === rawTimes) {
    for (let i = first; i < end; i++) times[i] = reader.double()
    return
  }
  const unitMs = unitsMs[unit]
  if (unitMs === undefined) throw new MeshError('DATA_LOSS', `times in an unknown unit (${unit})`)
  let time = first < end ? reader.signed() * unitMs : 0
  times[first] = time
  for (let i = first + 1; i < end; i++) {
    time += reader.varint() * unitMs
    times[i] = time
  }
}

function writeOrigins(writer: ByteWriter, origins: Uint32Array, count: number): void {
  for (let start = 0; start < count;) {
    let end = start + 1
    while (end < count && origins[end] === origins[start]) end++
    writer.varint(origins[start]!)
    writer.varint(end - start)
    start = end
  }
}

function readOrigins(reader: ByteReader, origins: Uint32Array, first: number, end: number): void {
  for (let at = first; at < end;) {
    const origin = reader.varint()
    const run = reader.varint()
    if (run === 0 || at + run > end) throw new MeshError('DATA_LOSS', `a run of ${run} entries among ${end - first}`)
    origins.fill(origin, at, at + run)
    at += run
  }
}

function writeOffsets(writer: ByteWriter, offsets: Float64Array, count: number): void {
  let whole = true
  for (let i = 0; i < count && whole; i++) whole = isInteger(offsets[i]!) && (i === 0 || Math.abs(offsets[i]! - offsets[i - 1]!) <= widest)
  writer.byte(whole ? 0 : 1)
  for (let i = 0; i < count; i++)
    if (!whole) writer.double(offsets[i]!)
    else writer.signed(i === 0 ? offsets[0]! : offsets[i]! - offsets[i - 1]!)
}

function readOffsets(reader: ByteReader, offsets: Float64Array, first: number, end: number): void {
  if (reader.byte() === 1) {
    for (let i = first; i < end; i++) offsets[i] = reader.double()
    return
  }
  let offset = 0
  for (let i = first; i < end; i++) {
    offset += reader.signed()
    offsets[i] = offset
  }
}
