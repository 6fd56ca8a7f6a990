import type { LookupType } from './definition.ts'

export type LookupPlace =
  /** As the pipeline file writes it. */
  | { readonly kind: 'file'; readonly file: string; readonly refreshMs: number | undefined }
  | { readonly kind: 'table'; readonly file: string; readonly table: string }
  /** `pattern` has a placeholder, `{key}` or `{field}`, for each of the key's fields. */
  | { readonly kind: 'redis'; readonly pattern: string; readonly url: string | undefined }

export interface LookupValue {
  readonly name: string
  readonly type: LookupType
}

/** A lookup that some column reads. */
export interface PlannedLookup {
  readonly title: string
  readonly place: LookupPlace
  readonly keyFields: readonly string[]
  /** One a key field, as the events have them: an integer's text has one form. */
  readonly keyTypes: readonly ('string' | 'integer')[]
  readonly values: readonly LookupValue[]
  readonly timeColumn: string | undefined
  readonly versions: boolean
}

/** One column that is looked up. */
export interface LookupOutput {
  /** Index in the input's columns. */
  readonly column: number
  /** Index in the lookup's values. */
  readonly value: number
  /** Infinity where any age will do. */
  readonly maxAgeMs: number
  /** What stands where nothing is found: a number (timestamps in ms, booleans 0 and 1), text, or a vector's numbers; NaN and '' are absent. */
  readonly missing: number | string | readonly number[]
  /** The event's own field that goes before. */
  readonly field: string | undefined
}

/** What one input's events look up in one lookup: one read a slice. */
export interface LookupGroup {
  /** Index in the plan's lookups. */
  readonly lookup: number
  readonly outputs: readonly LookupOutput[]
}
