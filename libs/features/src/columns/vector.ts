import type { Batch, FixedTensor, RowFailure } from '@spillway/core'
import type { InputPlan, PlannedColumn } from '../plan.ts'
import type { ColumnData, ColumnKind } from './column-data.ts'
import { elementNames } from './compile-columns.ts'
import { ColumnEvaluation } from './evaluate.ts'

const largestFp32 = 3.4028234663852886e38
/** Rows are written in blocks of about this size, so that a row's cache lines are still there when its next column is written. */
const blockBytes = 32_768

interface Computed {
  /** FP32 [rows, width]. */
  readonly vector: FixedTensor
  /** Rows whose vector must not be used, one failure a row: INVALID_ARGUMENT where a column says so, OUT_OF_RANGE for a number beyond FP32. */
  readonly failures: readonly RowFailure[]
}

/** The vector of every row. @param windows by column, what windows computed; @param lookups by index of the column, what was looked up */
export function computeVector(
  plan: InputPlan,
  batch: Batch,
  windows: readonly Float64Array[],
  lookups: ReadonlyMap<number, ColumnData>,
): Computed {
  const evaluation = new ColumnEvaluation(plan.columns, batch, (index) => lookups.get(index) ?? windowColumn(plan, index, windows))
  const columns = plan.vector.map((index) => evaluation.column(index))
  const width = plan.vector.reduce((sum, index) => sum + elementCount(plan.columns[index]!.kind), 0)
  const data = new Float32Array(batch.rowCount * width)
  const rows = Math.max(16, Math.floor(blockBytes / (4 * Math.max(1, width))))
  for (let start = 0; start < batch.rowCount; start += rows) {
    const block = { data, width, start, end: Math.min(start + rows, batch.rowCount) }
    let at = 0
    plan.vector.forEach((index, place) => (at = write(block, at, { evaluation, column: plan.columns[index]!, data: columns[place]! })))
  }
  return { vector: { datatype: 'FP32', shape: [batch.rowCount, width], data }, failures: evaluation.failures }
}

/** What the engine computed for a column that is a window. */
export function windowColumn(plan: InputPlan, index: number, windows: readonly Float64Array[]): ColumnData | undefined {
  const { source } = plan.columns[index]!
  if (source.kind !== 'window') return undefined
  const { width } = source
  return width === 1 ? { kind: 'number', values: windows[index]! } : { kind: 'vector', values: windows[index]!, width }
}

export function elementCount(kind: ColumnKind): number {
  return kind.kind === 'vector' || kind.kind === 'flags' ? kind.elements.length : 1
}

interface Block {
  readonly data: Float32Array
  readonly width: number
  readonly start: number
  readonly end: number
}

interface Part {
  readonly evaluation: ColumnEvaluation
  readonly column: PlannedColumn
  readonly data: ColumnData
}

/** Writes one column's elements at `at`; gives where the next begins. */
function write(block: Block, at: number, part: Part): number {
  const { data } = part
  const { kind } = part.column
  if (data.kind === 'index') {
    if (kind.kind === 'flags') writeFlags(block, at, data.values)
    else writeIndices(block, at, data)
  } else if (data.kind === 'vector') {
    for (let element = 0; element < data.width; element++)
      if (writeNumbers(block, at + element, data.values, { width: data.width, element })) refuse(part, block, element)
  } else if (data.kind !== 'text' && writeNumbers(block, at, data.values, { width: 1, element: 0 })) refuse(part, block, 0)
  return at + elementCount(kind)
}

function writeFlags({ data, width, start, end }: Block, at: number, indices: Int32Array): void {
  for (let row = start, to = start * width + at; row < end; row++, to += width) {
    const index = indices[row]!
    if (index >= 0) data[to + index] = 1
  }
}

function writeIndices(
  { data, width, start, end }: Block,
  at: number,
  { values, first }: { readonly values: Int32Array; readonly first: number },
): void {
  for (let row = start, to = start * width + at; row < end; row++, to += width) data[to] = values[row]! < 0 ? NaN : values[row]! + first
}

/** Whether some number is beyond FP32. */
function writeNumbers(
  { data, width, start, end }: Block,
  at: number,
  values: Float64Array,
  from: { readonly width: number; readonly element: number },
): boolean {
  let largest = 0
  for (let row = start, to = start * width + at, of = start * from.width + from.element; row < end; row++, to += width, of += from.width) {
    const value = values[of]!
    data[to] = value
    if (value > largest) largest = value
    else if (-value > largest) largest = -value
  }
  return largest > largestFp32
}

function refuse({ evaluation, column, data }: Part, { start, end }: Block, element: number): void {
  const width = data.kind === 'vector' ? data.width : 1
  const values = data.values as Float64Array
  const name = elementNames(column)[element]!
  for (let row = start; row < end; row++) {
    const value = values[row * width + element]!
    if (Math.abs(value) > largestFp32) evaluation.overflow(row, name, value)
  }
}
