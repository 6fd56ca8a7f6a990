import type { Batch, FixedTensor, RowFailure } from '@spillway/core'
import type { InputPlan, PlannedColumn } from '../plan.ts'
import type { ColumnData, ColumnKind } from './column-data.ts'
import { elementNames } from './compile-columns.ts'
import { ColumnEvaluation } from './evaluate.ts'
import type { Scaling } from './step.ts'
import type { Scratch } from './scratch.ts'

const largestFp32 = 3.4028234663852886e38
/** Rows are written in blocks of about this size, so that a row's cache lines are still there when its next column is written. */
const blockBytes = 32_768

interface Computed {
  /** FP32 [rows, width]. */
  readonly vector: FixedTensor
  /** Rows whose vector must not be used, one failure a row: INVALID_ARGUMENT where a column says so, OUT_OF_RANGE for a number beyond FP32. */
  readonly failures: readonly RowFailure[]
}

/**
 * The vector of every row.
 * @param given by column, what windows computed, and what was looked up
 * @param scratch of the caller, for batch after batch
 */
export function computeVector(
  plan: InputPlan,
  batch: Batch,
  { windows, lookups }: { readonly windows: readonly Float64Array[]; readonly lookups: ReadonlyMap<number, ColumnData> },
  scratch: Scratch,
): Computed {
  const evaluation = new ColumnEvaluation(plan.columns, batch, (index) => lookups.get(index) ?? windowColumn(plan, index, windows), scratch)
  const parts: Part[] = []
  let width = 0
  for (const index of plan.vector) {
    const column = plan.columns[index]!
    parts.push({ column, at: width, ...evaluation.unscaled(index) })
    width += elementCount(column.kind)
  }
  const data = new Float32Array(batch.rowCount * width)
  const rows = Math.max(16, Math.floor(blockBytes / (4 * Math.max(1, width))))
  for (let start = 0; start < batch.rowCount; start += rows) {
    const block = { data, width, start, end: Math.min(start + rows, batch.rowCount) }
    for (const part of parts) write(block, part, evaluation)
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

function elementCount(kind: ColumnKind): number {
  return kind.kind === 'vector' || kind.kind === 'flags' ? kind.elements.length : 1
}

interface Block {
  readonly data: Float32Array
  readonly width: number
  readonly start: number
  readonly end: number
}

interface Part {
  readonly column: PlannedColumn
  /** The first of its elements. */
  readonly at: number
  readonly data: ColumnData
  readonly scaling: Scaling | undefined
}

function write(block: Block, { column, at, data, scaling }: Part, evaluation: ColumnEvaluation): void {
  switch (data.kind) {
    case 'index':
      if (column.kind.kind === 'flags') writeFlags(block, at, data.values)
      else writeIndices(block, at, data)
      break
    case 'vector':
      for (let element = 0; element < data.width; element++)
        if (writeElements(block, at + element, { ...data, element })) refuse(block, { column, at, element }, evaluation)
      break
    case 'number': {
      const beyond = scaling === undefined ? writeNumbers(block, at, data.values) : writeScaled(block, at, data.values, scaling)
      if (beyond) refuse(block, { column, at, element: 0 }, evaluation)
      break
    }
    case 'timestamp':
    case 'text':
      throw new TypeError(`column ${column.name} is no number`)
    default:
      data satisfies never
  }
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
  for (let row = start, to = start * width + at; row < end; row++, to += width) {
    const index = values[row]!
    data[to] = index < 0 ? NaN : index + first
  }
}

/** Whether some number is beyond FP32; as the two below it. */
function writeNumbers({ data, width, start, end }: Block, at: number, values: Float64Array): boolean {
  let beyond = false
  for (let row = start, to = start * width + at; row < end; row++, to += width) {
    const value = values[row]!
    data[to] = value
    if (value > largestFp32 || value < -largestFp32) beyond = true
  }
  return beyond
}

function writeScaled({ data, width, start, end }: Block, at: number, values: Float64Array, { offset, scale }: Scaling): boolean {
  let beyond = false
  for (let row = start, to = start * width + at; row < end; row++, to += width) {
    const value = (values[row]! - offset) / scale
    data[to] = value
    if (value > largestFp32 || value < -largestFp32) beyond = true
  }
  return beyond
}

function writeElements(
  { data, width, start, end }: Block,
  at: number,
  of: { readonly values: Float64Array; readonly width: number; readonly element: number },
): boolean {
  let beyond = false
  for (let row = start, to = start * width + at, from = start * of.width + of.element; row < end; row++, to += width, from += of.width) {
    const value = of.values[from]!
    data[to] = value
    if (value > largestFp32 || value < -largestFp32) beyond = true
  }
  return beyond
}

/** Beyond FP32 is infinite in it. */
function refuse(
  { data, width, start, end }: Block,
  { column, at, element }: { readonly column: PlannedColumn; readonly at: number; readonly element: number },
  evaluation: ColumnEvaluation,
): void {
  const name = elementNames(column)[element]!
  for (let row = start; row < end; row++) {
    const value = data[row * width + at + element]!
    if (Math.abs(value) === Infinity) evaluation.overflow(row, name)
  }
}
