import { MeshError } from '@spillway/core'

/**
 * What a column holds, and as what it is handed over:
 * - `string`: `(string | null)[]`
 * - `int64`: `BigInt64Array`, or `(bigint | null)[]` where values may be absent
 * - `double`, `float`: `Float64Array`, `Float32Array`; NaN is absent
 * - `boolean`: `(boolean | null)[]`
 * - `timestamp`: `Float64Array`, ms since the epoch, whole ones; NaN is absent
 */
export type ColumnKind = 'string' | 'int64' | 'double' | 'float' | 'boolean' | 'timestamp'

export type ColumnValues =
  | readonly (string | null)[]
  | readonly (boolean | null)[]
  | readonly (bigint | null)[]
  | BigInt64Array
  | Float64Array
  | Float32Array

export interface TableColumn {
  readonly name: string
  readonly kind: ColumnKind
  /** Whether a value may be absent; floats may always be (NaN). */
  readonly nullable: boolean
}

/** A table's columns, and what it says of itself. */
export interface TableSchema {
  readonly columns: readonly TableColumn[]
  readonly metadata: Readonly<Record<string, string>>
}

/** Rows in columns, in the schema's order. */
export interface TableRows {
  readonly rowCount: number
  readonly columns: readonly ColumnValues[]
}

/** Takes a file's rows, in order. Nothing is at its final place before `finish`. */
export interface RowWriter<Rows> {
  /** Resolves when more may come. */
  write(rows: Rows): Promise<void>
  /** Resolves when all rows are on the disk, at their final place. */
  finish(): Promise<void>
  /** Leaves nothing behind. */
  abandon(): Promise<void>
}

export type TableWriter = RowWriter<TableRows>

export const tableFormats = ['parquet', 'csv', 'ndjson'] as const
export type TableFormat = (typeof tableFormats)[number]

/** The format that a file's name says; undefined where it says none, as a folder's. */
export function formatOfName(path: string): TableFormat | undefined {
  const extension = /\.([a-z]+)$/i.exec(path)?.[1]?.toLowerCase()
  if (extension === 'jsonl') return 'ndjson'
  return tableFormats.find((format) => format === extension)
}

/** @throws MeshError INVALID_ARGUMENT */
export function parseFormat(text: string): TableFormat {
  const found = tableFormats.find((format) => format === text)
  if (found === undefined) throw new MeshError('INVALID_ARGUMENT', `there is no format "${text}": choose ${tableFormats.join(', ')}`)
  return found
}

/** Whether row `row` has no value. */
export function isAbsent(values: ColumnValues, row: number): boolean {
  const value = values[row]
  return value === null || value === undefined || Number.isNaN(value)
}
