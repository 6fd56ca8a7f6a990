import type { Component } from '@spillway/core'

/**
 * One thing that happened to a key. Its identity is (origin, offset): adding it again changes nothing.
 * `values` are the numbers that this history's windows aggregate, in the order that the history declares.
 */
export interface HistoryEntry {
  /** Event time, ms since the epoch. */
  readonly timeMs: number
  /** The source partition's number in the store, from `Histories.origin`. */
  readonly origin: number
  readonly offset: number
  readonly values: readonly number[]
}

/** A history as its definition fixes it. `name` is part of the stored key. */
export interface HistorySettings {
  readonly name: string
  readonly valueCount: number
  /** Entries older than the key's newest by more than this may be dropped. */
  readonly retentionMs: number
}

/** The keys of one history that a slice needs, once each. */
export interface HistoryRead {
  readonly history: HistorySettings
  readonly keys: readonly string[]
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
}

export interface HistoryWrite {
  readonly history: HistorySettings
  readonly key: string
  readonly entries: readonly HistoryEntry[]
}

/**
 * Where histories live. A slice costs one `read` and one `append`, whatever its size.
 * `append` is atomic per key and idempotent by (origin, offset); it resolves when the entries survive the process being killed.
 * @throws MeshError UNAVAILABLE where the store is away: the slice is tried again, nothing is scored on half a history.
 */
export interface HistoryStore extends Component {
  /** One packed history a key, in the order of the reads and of their keys; empty where a key is unknown. */
  read(reads: readonly HistoryRead[]): Promise<readonly (readonly PackedHistory[])[]>
  append(writes: readonly HistoryWrite[]): Promise<void>
  /** A small number for a source partition, the same for ever: what `HistoryEntry.origin` holds. */
  origin(topic: string, partition: number): number
}
