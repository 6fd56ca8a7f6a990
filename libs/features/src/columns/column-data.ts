import type { TextColumn } from './text-column.ts'

/**
 * A column between two steps, one value a row. Absent is NaN in a number, a timestamp (ms since the epoch) and a vector (`width` numbers a row, row
 * after row), '' in text, and -1 in an index: a category's number, 0 to `size` - 1, which as a number is `first` + the index. Shared: a step never
 * writes to what it is given.
 */
export type ColumnData =
  | { readonly kind: 'number' | 'timestamp'; readonly values: Float64Array }
  | { readonly kind: 'text'; readonly values: TextColumn }
  | { readonly kind: 'index'; readonly values: Int32Array; readonly size: number; readonly first: number }
  | { readonly kind: 'vector'; readonly values: Float64Array; readonly width: number }

/** What is known of a column before there are rows. */
export type ColumnKind =
  /** `whole`: integers, so that a value is a category as well. */
  | { readonly kind: 'number'; readonly whole: boolean }
  | { readonly kind: 'timestamp' }
  | { readonly kind: 'text' }
  /** `categories` names them where they have names; `flag`: no or yes. */
  | { readonly kind: 'index'; readonly size: number; readonly first: number; readonly categories?: readonly string[]; readonly flag?: true }
  /** `elements` has what follows the column's name in an element's: `.sin`, `[0]`. */
  | { readonly kind: 'vector'; readonly elements: readonly string[] }
  /** An index that is one 0/1 element a category in the vector. */
  | { readonly kind: 'flags'; readonly elements: readonly string[] }

export const anyNumber: ColumnKind = { kind: 'number', whole: false }

/** As a message names it. */
export function kindName(kind: ColumnKind['kind']): string {
  const names = { number: 'number', timestamp: 'timestamp', text: 'string', index: 'category', vector: 'vector', flags: 'one-hot' }
  return names[kind]
}

/** The numbers of a number, timestamp, vector (all elements) or index column; an index is copied. */
export function numbersIn(data: ColumnData): Float64Array {
  switch (data.kind) {
    case 'number':
    case 'timestamp':
    case 'vector':
      return data.values
    case 'index':
      return numbersOfIndex(data, new Float64Array(data.values.length))
    case 'text':
      throw new TypeError('a column of text has no numbers')
    default:
      return data satisfies never
  }
}

export function numbersOfIndex(
  { values, first }: { readonly values: Int32Array; readonly first: number },
  into: Float64Array,
): Float64Array {
  for (let i = 0; i < into.length; i++) into[i] = values[i]! < 0 ? NaN : values[i]! + first
  return into
}

/** Rows `start` (inclusive) to `end` (exclusive), sharing the data. */
export function sliceColumn(data: ColumnData, start: number, end: number): ColumnData {
  switch (data.kind) {
    case 'number':
    case 'timestamp':
      return { kind: data.kind, values: data.values.subarray(start, end) }
    case 'vector':
      return { ...data, values: data.values.subarray(start * data.width, end * data.width) }
    case 'index':
      return { ...data, values: data.values.subarray(start, end) }
    case 'text':
      return { kind: 'text', values: data.values.slice(start, end) }
    default:
      return data satisfies never
  }
}

/** 0 and 1. */
export const anyFlag: ColumnKind = { kind: 'index', size: 2, first: 0, flag: true }
