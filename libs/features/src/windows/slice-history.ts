import { compareEntries, indexOfEntry, type PackedHistory } from './entries.ts'

/** Where each row of a slice stands: its time and the position of its event. */
export interface RowPlaces {
  readonly times: Float64Array
  readonly origins: Uint32Array
  /** -1 where the row has no position: a synchronous call. */
  readonly offsets: Float64Array
  /** Rows of dead letters that were given back: what lies behind them on their partition may be long after them. */
  readonly late?: boolean
}

/**
 * One history as a slice sees it: what the store holds of each key, and the slice's own rows so far, as a chain a key from the newest entry to the oldest.
 * A row that the store holds already (a slice given again) is not chained: it is found in the store.
 */
export class SliceHistory {
  /** One a row: index of its key in `keys`; -1 where it has none. */
  readonly keyIndices: Int32Array
  readonly keys: string[] = []
  /** One a row, `valueCount` numbers each. */
  readonly values: readonly Float64Array[]
  stored: readonly PackedHistory[] = []
  private readonly places: RowPlaces
  /** One a key: the chain's newest row; -1 where it is empty. */
  private newest: Int32Array = new Int32Array(0)
  /** One a row: the next older row of the chain; -1 at its end. */
  readonly older: Int32Array
  /** One a key: the newest time among the rows of this slice. */
  private newestTimes: Float64Array = new Float64Array(0)

  constructor(keyOfRow: readonly string[], values: readonly Float64Array[], places: RowPlaces) {
    this.keyIndices = new Int32Array(keyOfRow.length).fill(-1)
    this.older = new Int32Array(keyOfRow.length).fill(-1)
    this.values = values
    this.places = places
    const indices = new Map<string, number>()
    for (let row = 0; row < keyOfRow.length; row++) {
      const key = keyOfRow[row]!
      if (key === '') continue
      let index = indices.get(key)
      if (index === undefined) {
        index = this.keys.push(key) - 1
        indices.set(key, index)
      }
      this.keyIndices[row] = index
    }
  }

  /** One packed history a key, in the order of `keys`. */
  hold(stored: readonly PackedHistory[]): void {
    this.stored = stored
    this.newest = new Int32Array(this.keys.length).fill(-1)
    this.newestTimes = new Float64Array(this.keys.length).fill(-Infinity)
  }

  newestRow(row: number): number {
    return this.newest[this.keyIndices[row]!]!
  }

  storedFor(row: number): PackedHistory {
    return this.stored[this.keyIndices[row]!]!
  }

  /**
   * From when on the store has all that there was of the row's key: it keeps `retentionMs` back from the newest event. Those behind the row on its own
   * partition do not count: they are there because a slice is given again, and have not made it forget. Behind a row that comes late they may have.
   */
  keptFromMs(row: number, retentionMs: number): number {
    const stored = this.storedFor(row)
    if (stored.count === 0) return stored.forgottenBeforeMs ?? -Infinity
    const origin = this.places.origins[row]!
    const offset = this.places.offsets[row]!
    let newest = stored.count - 1
    if (this.places.late !== true) while (newest >= 0 && stored.origins[newest] === origin && stored.offsets[newest]! > offset) newest--
    return newest < 0 ? -Infinity : stored.times[newest]! - retentionMs
  }

  /** The newest event time of the row's key among what lies before the row on its partition; -Infinity where nothing does. */
  newestTimeBefore(row: number): number {
    const stored = this.storedFor(row)
    const origin = this.places.origins[row]!
    const offset = this.places.offsets[row]!
    const inSlice = this.newestTimes[this.keyIndices[row]!]!
    for (let i = stored.count - 1; i >= 0; i--) {
      const time = stored.times[i]!
      if (time <= inSlice) break
      if (offset < 0 || (stored.origins[i] === origin && stored.offsets[i]! < offset)) return time
    }
    return inSlice
  }

  /** Takes the row into its key's chain. */
  add(row: number): void {
    const key = this.keyIndices[row]!
    const { times, origins, offsets } = this.places
    const time = times[row]!
    if (time > this.newestTimes[key]!) this.newestTimes[key] = time
    const stored = this.stored[key]!
    const last = stored.count - 1
    if (last >= 0 && stored.times[last]! >= time && indexOfEntry(stored, time, origins[row]!, offsets[row]!) >= 0) return
    let newer = -1
    let next = this.newest[key]!
    while (next >= 0 && compareEntries(times[next]!, origins[next]!, offsets[next]!, time, origins[row]!, offsets[row]!) > 0) {
      newer = next
      next = this.older[next]!
    }
    this.older[row] = next
    if (newer === -1) this.newest[key] = row
    else this.older[newer] = row
  }

  /** Forgets the rows of the row's key: those of a call do not see each other. */
  clear(row: number): void {
    const key = this.keyIndices[row]!
    this.newest[key] = -1
    this.newestTimes[key] = -Infinity
  }
}
