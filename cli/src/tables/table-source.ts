/** Columns that a reader asks for, by name. */
export interface WantedColumns {
  /** Absent values are ''. */
  readonly texts: readonly string[]
  /** Booleans are 0 and 1, times ms since the epoch; absent values are NaN. */
  readonly numbers: readonly string[]
}

/** Consecutive rows of a table, in columns, each of `rowCount` values. */
export interface ReadRows {
  readonly rowCount: number
  readonly texts: ReadonlyMap<string, readonly string[]>
  readonly numbers: ReadonlyMap<string, Float64Array>
}

/** One table file, opened. */
export interface TableSource {
  readonly path: string
  readonly columns: readonly string[]
  readonly metadata: Readonly<Record<string, string>>
  /** In batches of bounded size; a column that the file does not have is left out. @throws MeshError INVALID_ARGUMENT where the file is not what it should be */
  read(wanted: WantedColumns): AsyncIterable<ReadRows>
}

/** What a value of any reader is as a number. */
export function asNumber(value: unknown): number {
  if (typeof value === 'number') return value
  if (value === null || value === undefined || value === '') return NaN
  if (typeof value === 'boolean') return value ? 1 : 0
  if (value instanceof Date) return value.getTime()
  if (typeof value === 'string') return textNumber(value)
  return Number(value)
}

function textNumber(text: string): number {
  if (text === 'true') return 1
  if (text === 'false') return 0
  const number = Number(text)
  return Number.isNaN(number) ? Date.parse(text) : number
}

/** What a value of any reader is as text. */
export function asText(value: unknown): string {
  if (typeof value === 'string') return value
  if (value === null || value === undefined) return ''
  if (value instanceof Date) return value.toISOString()
  return typeof value === 'object' ? JSON.stringify(value) : String(value as number | bigint | boolean)
}
