import type { Batch, FixedTensor } from '@spillway/core'
import { matchableField, numberField } from './field-values.ts'
import type { InputPlan, PlannedColumn } from '../plan.ts'
import type { ColumnData } from './column-data.ts'
import { oneHotInto } from './steps.ts'

/**
 * Every column's numbers, one a row; of a one-hot column what is matched. `windows` has, by column, those that windows computed; `lookups` what was
 * looked up, by index of the column.
 */
export function evaluateColumns(
  plan: InputPlan,
  batch: Batch,
  windows: readonly Float64Array[],
  lookups: ReadonlyMap<number, ColumnData>,
): readonly ArrayLike<string | number>[] {
  const evaluated: ArrayLike<string | number>[] = []
  plan.columns.forEach((column, index) => {
    const source = column.source.kind === 'lookup' ? lookups.get(index)!.values : sourceOf(column, batch, evaluated, windows[index]!)
    evaluated.push(column.steps.reduce((values, step) => step(values as Float64Array), source))
  })
  return evaluated
}

function sourceOf(
  { source, steps, oneHot }: PlannedColumn,
  batch: Batch,
  evaluated: readonly ArrayLike<string | number>[],
  window: Float64Array,
): ArrayLike<string | number> {
  switch (source.kind) {
    case 'field':
      return oneHot !== undefined && steps.length === 0 ? matchableField(batch, source.field) : numberField(batch, source.field)
    case 'column':
      return evaluated[source.column]!
    case 'lookup':
    case 'window':
      return window
    default:
      return source satisfies never
  }
}

/** FP32 [rows, width]. */
export function assembleVector(plan: InputPlan, columns: readonly ArrayLike<string | number>[], batch: Batch, width: number): FixedTensor {
  const rows = batch.rowCount
  const data = new Float32Array(rows * width)
  let at = 0
  for (const index of plan.vector) {
    const { oneHot } = plan.columns[index]!
    const values = columns[index]!
    if (oneHot === undefined) {
      for (let row = 0; row < rows; row++) data[row * width + at] = (values as Float64Array)[row]!
      at++
    } else {
      oneHotInto(data, { at, width }, values, oneHot)
      at += oneHot.length
    }
  }
  return { datatype: 'FP32', shape: [rows, width], data }
}
