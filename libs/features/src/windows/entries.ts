/**
 * One thing that happened to a key. Its identity is (origin, offset): adding it again changes nothing.
 * `values` are the numbers that this history's windows aggregate, in the order that the history declares.
 */
export interface HistoryEntry {
  /** Event time, ms since the epoch. */
  readonly timeMs: number
  /** The source partition's number in the store, from `HistoryStore.origin`. */
  readonly origin: number
  readonly offset: number
  readonly values: readonly number[]
}

/**
 * A key's entries, packed: `count` entries sorted by (time, origin, offset), entry `i` at `times[i]`, `origins[i]`, `offsets[i]`, `values[i * valueCount ..]`.
 * Read-only to callers: a cache may hand out its own copy.
 */
export interface PackedHistory {
  readonly count: number
  readonly times: Float64Array
  readonly origins: Uint32Array
  readonly offsets: Float64Array
  readonly values: Float64Array
  /** Sums of runs of entries, where there are so many that windows are better not walked over. */
  readonly tiles?: EntrySums | undefined
  /** Of a key that the store does not know: entries up to this time may have been let go with all that was known of it. Never, where absent. */
  readonly forgottenBeforeMs?: number
}

/** What runs of entries come to, known beforehand. */
export interface EntrySums {
  /** Gathers the entries from `from` (inclusive) to `to` (exclusive), but for those behind the reader. */
  gather<G extends Gatherer<G>>(into: G, from: number, to: number, reader: Reader): void
}

/** Whose windows are computed: what lies behind a row on its own partition has not happened yet, and is in a store because a slice is given again. */
export interface Reader {
  /** Of the row; 0, which is no partition's, for a call. */
  origin: number
  /** The last offset on that partition that the row's windows hold. */
  lastOffset: number
}

/** What windows gather from entries, in whatever order they are given. */
export interface Gatherer<G> {
  /** Its place among the summaries of a tile: one for each manner and value. */
  readonly slot: number
  /** Whether tiles of few entries are worth a summary, or only groups of them. */
  readonly summarisesTiles: boolean
  /**
   * Takes in entries below `to`, backwards to `from`, or to the first that is not after `afterMs`; none that are behind the reader.
   * @returns the index of the last one that it came to, or `to`
   */
  addEntries(entries: PackedHistory, from: number, to: number, afterMs: number, reader: Reader): number
  addNumber(number: number): void
  addSummary(summary: G): void
  /** An empty one of the same sort. */
  fresh(): G
  clear(): void
  /** What it takes in memory: an estimate. */
  readonly bytes: number
}

/** Entries are in order of (time, origin, offset). Negative where a comes first. */
export function compareEntries(aTime: number, aOrigin: number, aOffset: number, bTime: number, bOrigin: number, bOffset: number): number {
  return aTime - bTime || aOrigin - bOrigin || aOffset - bOffset
}

/** How many of the entries have a time at or below `timeMs`. */
export function countUpTo(entries: PackedHistory, timeMs: number): number {
  const { times } = entries
  let high = entries.count
  // Nearly always all of them: events come about in order.
  if (high === 0 || times[high - 1]! <= timeMs) return high
  let low = 0
  while (low < high) {
    const middle = (low + high) >>> 1
    if (times[middle]! <= timeMs) low = middle + 1
    else high = middle
  }
  return low
}

/** Index of the entry with that identity and time; -1 where it is not among them. */
export function indexOfEntry(entries: PackedHistory, timeMs: number, origin: number, offset: number): number {
  for (let i = countUpTo(entries, timeMs) - 1; i >= 0 && entries.times[i] === timeMs; i--)
    if (entries.origins[i] === origin && entries.offsets[i] === offset) return i
  return -1
}
