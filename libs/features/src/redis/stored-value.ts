import { MeshError } from '@spillway/core'
import type { HistoryEntry, HistorySettings, HistoryWrite } from '../store.ts'
import { KeyHistory } from '../windows/key-history.ts'
import { encodeBlock } from '../windows/packed.ts'
import { indexOfEntry } from '../windows/entries.ts'
import { headerBytes, nonceBytes } from './scripts.ts'

/** Less than this is not worth writing a value anew. */
const smallestAppended = 256
/** More than a hundred thousand years: for ever. */
const longestTtlMs = 1e15

const noBytes = Buffer.alloc(0)

/** What a key costs beside its history. Estimated, rounded up. */
const overheadBytes = 300

/** A key's stored value as it was last seen, unpacked. */
export interface HeldKey {
  readonly history: KeyHistory
  /** Bytes of the stored value; 0 where there is none. */
  length: number
  /** Its first bytes: with the length they tell whether it has changed. */
  header: Buffer
  /** Bytes of its first block: the rest was appended since the value was last written as a whole. */
  sealedLength: number
  /** Epoch ms; 0 where it is not known. */
  expiresAtMs: number
}

/** What it takes in memory. */
export function heldBytes({ history }: HeldKey, key: string): number {
  return overheadBytes + key.length + history.bytes
}

export function headerOf(nonce: Buffer, sealedLength: number): Buffer {
  const header = Buffer.alloc(headerBytes)
  nonce.copy(header)
  header.writeUInt32LE(sealedLength, nonceBytes)
  return header
}

/** A stored value, or its absence, unpacked into `history`, which is empty. @throws MeshError DATA_LOSS */
export function heldFrom(value: Buffer | null, history: KeyHistory): HeldKey {
  if (value === null) return { history, length: 0, header: noBytes, sealedLength: 0, expiresAtMs: 0 }
  if (value.length <= headerBytes)
    throw new MeshError('DATA_LOSS', `history ${history.settings.name} of ${history.key} is ${value.length} bytes long`)
  history.unpack(value.subarray(headerBytes))
  // A copy: the value lies in a buffer of the whole answer.
  const header = Buffer.from(value.subarray(0, headerBytes))
  return { history, length: value.length, header, sealedLength: header.readUInt32LE(nonceBytes), expiresAtMs: 0 }
}

/** What `appendScript` is told of a key, and what is true of it afterwards. */
export interface PlannedWrite {
  readonly args: readonly (string | Buffer)[]
  /** Of the stored value afterwards, if nobody else has written to it. */
  readonly length: number
  /** To be called when the key has that length. */
  done(held: HeldKey, entries: readonly HistoryEntry[], newHeader: Buffer): void
}

interface WriteConditions {
  /** New with each slice. */
  readonly nonce: Buffer
  readonly graceMs: number
  readonly nowMs: number
  /** `held` is the writer's own: it may be changed now, and is forgotten if the write fails. */
  readonly owned: boolean
}

/** How a slice's entries of a key come to the server. @param held as it was last seen, where it is known. @returns nothing where it has them all */
export function planWrite(write: HistoryWrite, held: HeldKey | undefined, conditions: WriteConditions): PlannedWrite | undefined {
  const { history: settings } = write
  const entries = held === undefined ? write.entries : write.entries.filter((entry) => !holds(held, entry))
  if (entries.length === 0) return undefined
  const block = Buffer.from(encodeBlock(entries, settings.valueCount))
  const ttlMs = Math.ceil(settings.retentionMs + conditions.graceMs)
  const expires = ttlMs < longestTtlMs
  const fresh = held !== undefined && held.expiresAtMs - conditions.nowMs > ttlMs - conditions.graceMs / 2
  const ttl = expires && !fresh ? String(ttlMs) : ''
  const expiresAtMs = fresh ? held.expiresAtMs : conditions.nowMs + ttlMs
  const appended = held === undefined ? 0 : held.length - headerBytes - held.sealedLength + block.length
  if (held !== undefined && held.length > 0 && appended > smallestAppended && appended > held.sealedLength / 2)
    return replacement(write, held, block, expires ? String(ttlMs) : '', conditions)
  const length = held === undefined || held.length === 0 ? headerBytes + block.length : held.length + block.length
  return {
    args: [block, ttl, ''],
    length,
    done: (of, all, newHeader) => {
      of.history.add(all)
      if (of.length === 0) of.header = newHeader
      of.length = length
      of.expiresAtMs = expiresAtMs
    },
  }
}

/** The value as one block, without what no window needs. */
function replacement(
  write: HistoryWrite,
  held: HeldKey,
  block: Buffer,
  ttl: string,
  { nonce, nowMs, graceMs, owned }: WriteConditions,
): PlannedWrite {
  const { history: settings, entries } = write
  const whole = owned ? held.history : copyOf(held.history, settings)
  whole.add(entries)
  const packed = whole.pack()
  const header = headerOf(nonce, packed.length)
  const length = headerBytes + packed.length
  return {
    args: [block, ttl, Buffer.concat([header, packed]), String(held.length), held.header],
    length,
    done: (of) => {
      of.header = header
      of.length = length
      of.sealedLength = packed.length
      of.expiresAtMs = nowMs + settings.retentionMs + graceMs
    },
  }
}

/** A reader may be looking at the one that is given. */
function copyOf(history: KeyHistory, settings: HistorySettings): KeyHistory {
  const copy = new KeyHistory(settings, 0, history.key)
  copy.unpack(history.pack())
  return copy
}

function holds({ history }: HeldKey, { timeMs, origin, offset }: HistoryEntry): boolean {
  const { count } = history
  if (count === 0 || history.times[count - 1]! < timeMs) return false
  return indexOfEntry(history, timeMs, origin, offset) >= 0
}
