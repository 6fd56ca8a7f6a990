import type { PackedHistory } from '../store.ts'

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
