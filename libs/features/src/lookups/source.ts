import type { Component, RowFailure } from '@spillway/core'

/** One looked-up value, one entry a row: absent is NaN in a number and a timestamp (ms since the epoch), '' in text, all NaN in a vector of `width` a row. */
export type LookupData =
  | { readonly kind: 'number' | 'timestamp'; readonly values: Float64Array }
  | { readonly kind: 'text'; readonly values: readonly string[] }
  | { readonly kind: 'vector'; readonly values: Float64Array; readonly width: number }

/** What a lookup found: one entry a row that was asked for. */
export interface LookupRows {
  /** One a value of the lookup, in its order; absent where nothing was found. */
  readonly values: readonly LookupData[]
  /** As of when each row's values are, ms since the epoch; NaN where that is unknown. Undefined where the lookup has no time. */
  readonly timesMs: Float64Array | undefined
  /** Rows of which what was found is not what the lookup declares: FAILED_PRECONDITION. */
  readonly failures: readonly RowFailure[]
}

/** Values that another job wrote, by key. */
export interface LookupSource extends Component {
  /**
   * @param keys one a row, as `keysOf` gives them; '' finds nothing
   * @param timesMs one a row, the event's: of several versions the newest at or before it counts
   * @throws MeshError UNAVAILABLE where the source is away: the slice is tried again
   */
  read(keys: readonly string[], timesMs: Float64Array): Promise<LookupRows>
}

/** What look-ups have to say; pino's loggers fit. */
export interface LookupLogger {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}
