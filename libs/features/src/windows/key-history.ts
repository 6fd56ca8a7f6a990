import { MeshError } from '@spillway/core'
import type { HistorySettings } from '../store.ts'
import { compareEntries, countUpTo, type HistoryEntry } from './entries.ts'
import { EntryColumns } from './entry-columns.ts'
import { decodeBlocks, encodeColumns } from './packed.ts'
import { Tiles } from './tiles.ts'

const smallest = 8
/** Entries of a tile: what is walked over at a window's edges, and made anew when a late entry comes. */
const defaultTileSize = 64
/** Where an entry goes is looked for so far back one by one: nearly always it is the newest. */
const nearEnd = 8
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
  /** What it takes in memory, as those that are dirty were told. */
  dirtyBytes = 0
  /** Of a key that has no row: up to which time entries of it may have been forgotten. */
  forgottenBeforeMs: number = -Infinity
  settings: HistorySettings
  readonly historyId: number
  readonly key: string
  /** Entries at or before this may be dropped. */
  private horizonMs = -Infinity
  private readonly tileSize: number
  private tileIndex: Tiles | undefined

  /** @param tileSize entries of a tile; Infinity for none */
  constructor(settings: HistorySettings, historyId: number, key: string, tileSize: number = defaultTileSize) {
    super(settings.valueCount)
    this.tileSize = tileSize
    this.settings = settings
    this.historyId = historyId
    this.key = key
  }

  get bytes(): number {
    const tiles = this.tileIndex === undefined ? 0 : this.tileIndex.bytes
    return overheadBytes + this.key.length + this.capacity * (20 + 8 * this.valueCount) + tiles
  }

  /** Where there are enough entries to be worth it. */
  get tiles(): Tiles | undefined {
    if (this.tileIndex === undefined && this.count >= 4 * this.tileSize) this.tileIndex = new Tiles(this, this.tileSize)
    return this.tileIndex
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
    let at = this.placeOf(timeMs, origin, offset)
    if (at < 0) return
    if (this.count === this.capacity) at -= this.makeRoom(at)
    if (at < this.count) this.move(at, at + 1, this.count)
    this.times[at] = timeMs
    this.origins[at] = origin
    this.offsets[at] = offset
    const { valueCount } = this
    for (let v = 0; v < valueCount; v++) this.values[at * valueCount + v] = values[v]!
    this.count++
    if (at < this.count - 1) this.tileIndex?.inserted(at)
  }

  /** Where such an entry goes; -1 where it is there. */
  private placeOf(timeMs: number, origin: number, offset: number): number {
    const { times, origins, offsets } = this
    let high = this.count
    let low = 0
    for (let probe = high - 1; low < high; probe = high - low <= nearEnd || this.count - high < nearEnd ? high - 1 : (low + high) >>> 1) {
      const order = compareEntries(times[probe]!, origins[probe]!, offsets[probe]!, timeMs, origin, offset)
      if (order === 0) return -1
      if (order < 0) low = probe + 1
      else high = probe
    }
    return low
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
    const old = Math.min(limit, countUpTo(this, this.horizonMs))
    const dropped = this.tileIndex?.wholeUpTo(old) ?? old
    if (dropped > 0) {
      this.move(dropped, 0, this.count)
      this.count -= dropped
      this.tileIndex?.dropped(dropped)
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
  unpack(bytes: Uint8Array): number {
    this.tileIndex = undefined
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
