import type { Component } from '@spillway/core'
import type { HistoryEntry, PackedHistory } from './windows/entries.ts'

export type { HistoryEntry, PackedHistory }

/** A history as its definition fixes it. `name` is part of the stored key. */
export interface HistorySettings {
  readonly name: string
  readonly valueCount: number
  /** Entries older than the key's newest by more than this may be dropped. */
  readonly retentionMs: number
}

/** The partition that a slice came from: its process alone writes the keys of histories that go by the partition key, for as long as it has the partition. */
export interface Owner {
  readonly topic: string
  readonly partition: number
}

/** The keys of one history that a slice needs, once each. */
export interface HistoryRead {
  readonly history: HistorySettings
  readonly keys: readonly string[]
  /** Given where the reader alone writes these keys: a store may answer from what it remembers of them. */
  readonly owner?: Owner
}

export interface HistoryWrite {
  readonly history: HistorySettings
  readonly key: string
  readonly entries: readonly HistoryEntry[]
  /** Given where the writer alone writes this key. */
  readonly owner?: Owner
}

/** What one process says of a partition to the others that share a store. */
export interface LaneReport {
  /** `<topic>/<partition>` */
  readonly lane: string
  /** Event time up to which the partition has come, ms since the epoch; -Infinity where nothing is known. */
  readonly watermarkMs: number
  /** No records left, and none for the idle time-out. */
  readonly idle: boolean
  /** Grows with every report of the lane's owner: a report that stays as it is comes from a process that is gone. */
  readonly beat: number
}

/** How far each partition of a pipeline has come in event time, told among the processes that share a store. */
export interface WatermarkBoard {
  /** Writes the caller's lanes, and gives those of all, its own among them. @throws MeshError UNAVAILABLE */
  exchange(own: readonly LaneReport[]): Promise<readonly LaneReport[]>
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
  origin(topic: string, partition: number): Promise<number>
  /** The partition went to another owner: nothing that is remembered of its keys counts any more. */
  release(owner: Owner): void
  /** Who may use it: one process, or several side by side. */
  readonly scope: 'process' | 'shared'
  /** Made once with the store, and lost with its data: a position of a consumer group that rests on other histories must not be taken on. Known once started. */
  readonly identity: string
  /**
   * Of a shared store: the board of processes that feed just these histories, by name. A watermark says what is history, and in a history that a changed
   * definition has begun anew there is nothing of what was fed to others.
   */
  watermarks?(histories: readonly string[]): WatermarkBoard
}
