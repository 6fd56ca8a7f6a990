import { MeshError } from '@spillway/core'
import type { HistoryEntry, HistorySettings } from '../store.ts'
import { EntryColumns } from './entry-columns.ts'
import { decodeBlocks, encodeColumns } from './packed.ts'
import { compareEntries, countUpTo } from './slice-history.ts'

const smallest = 8
/** What a key costs beside its entries: objects, views and its place in the maps. Estimated from heap snapshots, rounded up. */
const overheadBytes = 800

/**
 * One key's entries in typed arrays that grow at the end, so that an event in order costs no copy.
 * Entries past retention are dropped when the arrays are full, or when the key is packed.
 */
export class KeyHistory extends EntryColumns {
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
    super(settings.valueCount)
    this.settings = settings
    this.historyId = historyId
    this.key = key
  }

  get bytes(): number {
    return overheadBytes + this.key.length + this.capacity * (20 + 8 * this.valueCount)
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
    if (this.count === this.capacity) at -= this.makeRoom(at)
    if (at < this.count) this.move(at, at + 1, this.count)
    this.times[at] = timeMs
    this.origins[at] = origin
    this.offsets[at] = offset
    const { valueCount } = this
    for (let v = 0; v < valueCount; v++) this.values[at * valueCount + v] = values[v]!
    this.count++
  }

  /** Entries `start` (inclusive) to `end` (exclusive) to `target`. */
  private move(start: number, target: number, end: number): void {
    const { valueCount } = this
    this.times.copyWithin(target, start, end)
    this.origins.copyWithin(target, start, end)
    this.offsets.copyWithin(target, start, end)
    this.values.copyWithin(target * valueCount, start * valueCount, end * valueCount)
  }

  /** Drops what is past retention, at most `limit` entries, and grows where that gives little. Returns how many it dropped. */
  private makeRoom(limit: number): number {
    const dropped = this.drop(limit)
    if (dropped * 8 < this.capacity || this.capacity === 0) this.resize(Math.max(smallest, Math.ceil(this.capacity * 1.5)))
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

  /** What is kept, as one block: see `packed.ts`. Nothing where there is no entry. */
  pack(): Uint8Array {
    this.drop(this.count)
    return encodeColumns(this, this.valueCount)
  }

  /**
   * Takes in a stored value, whatever blocks it is made of, beside the entries that are there.
   * @returns how many blocks there were: a value of many is due to be packed again
   * @throws MeshError DATA_LOSS where the bytes are not whole blocks
   */
  addPacked(bytes: Uint8Array): number {
    try {
      return decodeBlocks(bytes, this)
    } catch (thrown) {
      const error = MeshError.from(thrown)
      throw new MeshError(error.code, `history ${this.settings.name} of ${this.key}, ${bytes.length} bytes: ${error.message}`, {
        cause: thrown,
      })
    }
  }
}
