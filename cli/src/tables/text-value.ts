import { type ColumnKind, type ColumnValues, isAbsent } from './table.ts'

/** A value as CSV holds it: nothing where it is absent, a time as RFC 3339 in UTC, an FP32 number in the fewest digits that give it back. */
export function csvText(kind: ColumnKind, values: ColumnValues, row: number): string {
  if (isAbsent(values, row)) return ''
  if (kind === 'timestamp') return new Date(values[row] as number).toISOString()
  if (kind === 'float') return String(shortest(values[row] as number))
  return String(values[row])
}

/** A value as JSON holds it. A 64-bit integer is a number where a reader of IEEE doubles gets it back, else a string. */
export function jsonValue(kind: ColumnKind, values: ColumnValues, row: number): string | number | boolean | null {
  if (isAbsent(values, row)) return null
  const value = values[row]!
  if (kind === 'timestamp') return new Date(value as number).toISOString()
  if (kind === 'float') return shortest(value as number)
  if (typeof value !== 'bigint') return value
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : String(value)
}

/** The FP64 number of fewest decimal digits whose nearest FP32 number is `value`; nine always do (IEEE 754-2019, section 5.12.2). */
export function shortest(value: number): number {
  if (Number.isInteger(value) || !Number.isFinite(value)) return value
  for (let digits = 6; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits))
    if (Math.fround(short) === value) return short
  }
  return Number(value.toPrecision(9))
}
