/**
 * A column between two steps, one value a row. Absent is NaN in a number or a timestamp (ms since the epoch), '' in text;
 * a vector has `width` numbers a row, row after row. Shared: never written to by a step.
 */
export type ColumnData =
  | { readonly kind: 'number' | 'timestamp'; readonly values: Float64Array }
  | { readonly kind: 'text'; readonly values: readonly string[] }
  | { readonly kind: 'vector'; readonly values: Float64Array; readonly width: number }
