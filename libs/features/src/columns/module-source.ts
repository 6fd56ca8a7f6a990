import { sliceColumn, type ColumnData, type ColumnKind } from './column-data.ts'
import type { ColumnFunction, ModuleGives } from './definition.ts'
import type { MadeSource, Operand } from './made.ts'
import type { ColumnRun } from './step.ts'
import { TextColumn } from './text-column.ts'

function kindOf(gives: ModuleGives): ColumnKind {
  if (gives === 'number') return { kind: 'number', whole: false }
  if (gives === 'text') return { kind: 'text' }
  if ('index' in gives) return { kind: 'index', size: gives.index, first: 0 }
  return { kind: 'vector', elements: Array.from({ length: gives.vector }, (_, index) => `[${index}]`) }
}

/**
 * What a function of whole columns makes. Where it throws, it is asked again row by row, so that only rows fail that it cannot do; what it gives must be of
 * the declared kind, width and number of rows.
 */
export function moduleSource(
  operands: readonly Operand[],
  {
    made,
    gives,
    settings,
    column,
  }: { readonly made: ColumnFunction; readonly gives: ModuleGives; readonly settings: unknown; readonly column: string },
): MadeSource {
  const kind = kindOf(gives)
  const call = (columns: readonly ColumnData[], rowCount: number): ColumnData =>
    checked(made(Object.fromEntries(operands.map(({ name }, index) => [name, columns[index]!])), settings, rowCount), kind, rowCount)
  const make = (run: ColumnRun): ColumnData => {
    const columns = operands.map(({ index }) => run.column(index))
    try {
      return call(columns, run.rowCount)
    } catch (thrown) {
      if (run.rowCount !== 1) return rowByRow(columns, run, call, { kind, column })
      run.fail(0, column, (thrown as Error).message)
      return absent(kind, 1)
    }
  }
  return { kind, make }
}

function rowByRow(
  columns: readonly ColumnData[],
  run: ColumnRun,
  call: (columns: readonly ColumnData[], rowCount: number) => ColumnData,
  { kind, column }: { readonly kind: ColumnKind; readonly column: string },
): ColumnData {
  const rows: ColumnData[] = []
  for (let row = 0; row < run.rowCount; row++) {
    const own = columns.map((data) => sliceColumn(data, row, row + 1))
    try {
      rows.push(call(own, 1))
    } catch (thrown) {
      run.fail(row, column, (thrown as Error).message)
      rows.push(absent(kind, 1))
    }
  }
  return joined(rows, kind)
}

function absent(kind: ColumnKind, rowCount: number): ColumnData {
  if (kind.kind === 'text') return { kind: 'text', values: TextColumn.of(new Array<string>(rowCount).fill('')) }
  if (kind.kind === 'index') return { kind: 'index', values: new Int32Array(rowCount).fill(-1), size: kind.size, first: 0 }
  if (kind.kind !== 'vector') return { kind: 'number', values: new Float64Array(rowCount).fill(NaN) }
  const width = kind.elements.length
  return { kind: 'vector', values: new Float64Array(rowCount * width).fill(NaN), width }
}

function joined(rows: readonly ColumnData[], kind: ColumnKind): ColumnData {
  if (kind.kind === 'text') return { kind: 'text', values: TextColumn.of(rows.map(({ values }) => (values as TextColumn).strings[0]!)) }
  const width = kind.kind === 'vector' ? kind.elements.length : 1
  const whole = absent(kind, rows.length)
  rows.forEach(({ values }, row) => (whole.values as Float64Array).set(values as Float64Array, row * width))
  return whole
}

function checked(given: ReturnType<ColumnFunction>, kind: ColumnKind, rowCount: number): ColumnData {
  const givenKind = (given as { readonly kind?: unknown } | undefined)?.kind
  if (givenKind !== kind.kind) throw new TypeError(`it gave ${String(givenKind)}, and the column is declared as ${kind.kind} (gives)`)
  if (given.kind === 'text') {
    const values = given.values instanceof TextColumn ? given.values : TextColumn.of(given.values)
    checkLength(values.rowCount, rowCount)
    return { kind: 'text', values }
  }
  if (given.kind === 'index') return checkedIndex(given.values, kind as Extract<ColumnKind, { kind: 'index' }>, rowCount)
  if (!(given.values instanceof Float64Array)) throw new TypeError('numbers are given as a Float64Array')
  const width = kind.kind === 'vector' ? kind.elements.length : 1
  checkLength(given.values.length, rowCount * width)
  return kind.kind === 'vector' ? { kind: 'vector', values: given.values, width } : { kind: 'number', values: given.values }
}

function checkedIndex(values: Int32Array, { size }: { readonly size: number }, rowCount: number): ColumnData {
  if (!(values instanceof Int32Array)) throw new TypeError('indices are given as an Int32Array')
  checkLength(values.length, rowCount)
  const stray = values.find((value) => value < -1 || value >= size)
  if (stray !== undefined) throw new RangeError(`it gave index ${stray}, and indices are 0 to ${size - 1}, or -1 for absent`)
  return { kind: 'index', values, size, first: 0 }
}

function checkLength(length: number, expected: number): void {
  if (length !== expected) throw new RangeError(`it gave ${length} values for what has ${expected}`)
}
