import type { WindowKind } from './definition.ts'
import type { HistorySettings } from '../store.ts'

/** A history that some window looks at, with all that is needed to feed it and to look it up. */
export interface PlannedHistory extends HistorySettings {
  /** Its name in the definition; `name` also holds what it is made of, so that another definition is another history. */
  readonly title: string
  readonly input: string
  readonly keyFields: readonly string[]
  readonly valueFields: readonly string[]
  /** Whether all of a key's events are on one partition of its input: then that partition's owner alone writes the key. */
  readonly owned: boolean
}

/** A window's column: which of the group's lengths, and what of its aggregates. */
export interface WindowOutput {
  /** Index in the input's columns. */
  readonly column: number
  /** Index in the group's lengths. */
  readonly length: number
  readonly kind: WindowKind
  /** Counts entries whose value is there, not entries. */
  readonly ofValue: boolean
  readonly empty: number
  /** Numbers a row. */
  readonly width: number
}

/** How a group's windows are computed: aggregates of any order, how many different values, or what is newest. */
export type WindowScanKind = 'aggregate' | 'distinct' | 'newest'

/** Windows that one walk through a key's history computes: the same history, value, delay and manner. */
export interface WindowGroup {
  readonly scan: WindowScanKind
  /** Index in the plan's histories. */
  readonly history: number
  /** Index in the entry's values; -1 where entries are only counted. */
  readonly value: number
  readonly delayMs: number
  /** Whether the windows hold the row's own event, where it is one of the history's. */
  readonly current: boolean
  /** Ascending. */
  readonly lengthsMs: readonly number[]
  readonly outputs: readonly WindowOutput[]
}
