import { MeshError } from '@spillway/core'
import { compareEntries, countUpTo } from './slice-history.ts'
import type { HistoryEntry, HistorySettings, PackedHistory } from '../store.ts'

const smallest = 8
/** What a key costs beside its entries: objects, views and its place in the maps. Estimated from heap snapshots, rounded up. */
const overheadBytes = 800

const noFloats = new Float64Array(0)
const noOrigins = new Uint32Array(0)

/**
 * One key's entries in typed arrays that grow at the end, so that an event in order costs no copy.
 * Entries past retention are dropped when the arrays are full, or when the key is packed.
 */
export class KeyHistory implements PackedHistory {
  count = 0
  times: Float64Array = noFloats
  origins: Uint32Array = noOrigins
  offsets: Float64Array = noFloats
  values: Float64Array = noFloats
  /** Its row in the database; 0 where it has none yet. */
  rowId = 0
  /** The first journal row that holds entries which its own row lacks; 0 where there is none. */
  dirtySince = 0
  /** How many bytes the journal had ever taken before that row. */
  dirtyFromByte = 0
  readonly settings: HistorySettings
  readonly historyId: number
  readonly key: string
  /** Entries at or before this may be dropped. */
  private horizonMs = -Infinity

  constructor(settings: HistorySettings, historyId: number, key: string) {
    this.settings = settings
    this.historyId = historyId
    this.key = key
  }

  get bytes(): number {
    return overheadBytes + this.key.length + this.times.length * (20 + 8 * this.settings.valueCount)
  }

  /** Entries of a slice; those that it has already change nothing. */
  add(entries: readonly HistoryEntry[]): void {
    this.moveHorizon(entries)
    for (const entry of entries) this.addOne(entry)
  }

  /**
   * What lies before the slice on its partition is answered for good, and no row that is still to come may look further back than retention from there.
   * The slice's own entries do not count: it may be given again, and its first rows would miss what its last ones had let go.
   */
  private moveHorizon(entries: readonly HistoryEntry[]): void {
    const { origin } = entries[0]!
    let first = Infinity
    for (const entry of entries) if (entry.origin === origin && entry.offset < first) first = entry.offset
    for (let i = this.count - 1; i >= 0; i--) {
      const horizonMs = this.times[i]! - this.settings.retentionMs
      if (horizonMs <= this.horizonMs) return
      if (this.origins[i] === origin && this.offsets[i]! < first) {
        this.horizonMs = horizonMs
        return
      }
    }
  }

  private addOne({ timeMs, origin, offset, values }: HistoryEntry): void {
    let at = this.count
    while (at > 0) {
      const order = compareEntries(this.times[at - 1]!, this.origins[at - 1]!, this.offsets[at - 1]!, timeMs, origin, offset)
      if (order === 0) return
      if (order < 0) break
      at--
    }
    if (this.count === this.times.length) at -= this.makeRoom(at)
    if (at < this.count) this.move(at, at + 1, this.count)
    this.times[at] = timeMs
    this.origins[at] = origin
    this.offsets[at] = offset
    const { valueCount } = this.settings
    for (let v = 0; v < valueCount; v++) this.values[at * valueCount + v] = values[v]!
    this.count++
  }

  /** Entries `start` (inclusive) to `end` (exclusive) to `target`. */
  private move(start: number, target: number, end: number): void {
    const { valueCount } = this.settings
    this.times.copyWithin(target, start, end)
    this.origins.copyWithin(target, start, end)
    this.offsets.copyWithin(target, start, end)
    this.values.copyWithin(target * valueCount, start * valueCount, end * valueCount)
  }

  /** Drops what is past retention, at most `limit` entries, and grows where that gives little. Returns how many it dropped. */
  private makeRoom(limit: number): number {
    const dropped = this.drop(limit)
    if (dropped * 8 < this.times.length || this.times.length === 0) this.resize(Math.max(smallest, Math.ceil(this.times.length * 1.5)))
    return dropped
  }

  private drop(limit: number): number {
    const dropped = Math.min(limit, countUpTo(this, this.horizonMs))
    if (dropped > 0) {
      this.move(dropped, 0, this.count)
      this.count -= dropped
    }
    return dropped
  }

  private resize(capacity: number): void {
    const { valueCount } = this.settings
    const { times, origins, offsets, values } = this
    this.times = new Float64Array(capacity)
    this.origins = new Uint32Array(capacity)
    this.offsets = new Float64Array(capacity)
    this.values = new Float64Array(capacity * valueCount)
    this.times.set(times)
    this.origins.set(origins)
    this.offsets.set(offsets)
    this.values.set(values)
  }

  /** As `unpack` reads it: times, offsets, values (FP64 each) and origins (UINT32), one array after the other, in the machine's byte order. */
  pack(): Uint8Array {
    this.drop(this.count)
    const { count } = this
    const values = this.values.subarray(0, count * this.settings.valueCount)
    const packed = new Uint8Array(count * 20 + values.byteLength)
    let end = 0
    for (const part of [this.times.subarray(0, count), this.offsets.subarray(0, count), values, this.origins.subarray(0, count)]) {
      packed.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), end)
      end += part.byteLength
    }
    return packed
  }

  /** @throws MeshError DATA_LOSS where the bytes are not whole entries */
  unpack(packed: Uint8Array): void {
    const { valueCount, name } = this.settings
    const count = packed.byteLength / (20 + 8 * valueCount)
    if (!Number.isInteger(count))
      throw new MeshError(
        'DATA_LOSS',
        `history ${name} of ${this.key} is ${packed.byteLength} bytes: not whole entries of ${valueCount} values`,
      )
    this.count = 0
    this.resize(count)
    let end = 0
    for (const part of [this.times, this.offsets, this.values, this.origins]) {
      new Uint8Array(part.buffer).set(packed.subarray(end, end + part.byteLength))
      end += part.byteLength
    }
    this.count = count
  }
}
