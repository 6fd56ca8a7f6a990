import { Buffer } from 'node:buffer'
import type { HistoryEntry, HistoryWrite } from '../store.ts'

/** One write, as the journal holds it. */
export interface JournalWrite {
  readonly historyId: number
  readonly key: string
  readonly entries: readonly HistoryEntry[]
}

const headBytes = 16
const entryBytes = 20

/** A slice's writes in one value: for each the history's number, key and entries, little-endian. */
export function encodeWrites(writes: readonly HistoryWrite[], historyIds: readonly number[]): Uint8Array {
  let size = 0
  for (const { history, key, entries } of writes)
    size += headBytes + key.length * 3 + entries.length * (entryBytes + 8 * history.valueCount)
  const buffer = Buffer.allocUnsafe(size)
  let end = 0
  for (let i = 0; i < writes.length; i++) {
    const { history, key, entries } = writes[i]!
    const keyBytes = buffer.write(key, end + headBytes)
    buffer.writeUInt32LE(historyIds[i]!, end)
    buffer.writeUInt32LE(history.valueCount, end + 4)
    buffer.writeUInt32LE(keyBytes, end + 8)
    buffer.writeUInt32LE(entries.length, end + 12)
    end += headBytes + keyBytes
    for (const { timeMs, origin, offset, values } of entries) {
      buffer.writeDoubleLE(timeMs, end)
      buffer.writeDoubleLE(offset, end + 8)
      buffer.writeUInt32LE(origin, end + 16)
      end += entryBytes
      for (let v = 0; v < history.valueCount; v++) {
        buffer.writeDoubleLE(values[v]!, end)
        end += 8
      }
    }
  }
  return buffer.subarray(0, end)
}

export function decodeWrites(bytes: Uint8Array): JournalWrite[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const writes: JournalWrite[] = []
  let at = 0
  while (at < buffer.length) {
    const historyId = buffer.readUInt32LE(at)
    const valueCount = buffer.readUInt32LE(at + 4)
    const keyEnd = at + headBytes + buffer.readUInt32LE(at + 8)
    const count = buffer.readUInt32LE(at + 12)
    const key = buffer.toString('utf8', at + headBytes, keyEnd)
    at = keyEnd
    const entries: HistoryEntry[] = []
    for (let i = 0; i < count; i++) {
      const values = new Array<number>(valueCount)
      for (let v = 0; v < valueCount; v++) values[v] = buffer.readDoubleLE(at + entryBytes + 8 * v)
      entries.push({ timeMs: buffer.readDoubleLE(at), offset: buffer.readDoubleLE(at + 8), origin: buffer.readUInt32LE(at + 16), values })
      at += entryBytes + 8 * valueCount
    }
    writes.push({ historyId, key, entries })
  }
  return writes
}
