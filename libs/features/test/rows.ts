import { type Batch, type RowFailure, rowMeta, type Tensor, text } from '@spillway/core'
import type { ColumnData } from '../src/columns/column-data.ts'
import { ColumnEvaluation } from '../src/columns/evaluate.ts'
import { Scratch } from '../src/columns/scratch.ts'
import { computeVector } from '../src/columns/vector.ts'
import { type CompileOptions, compileFeatures, type FeatureInput, type FeaturePlan, featuresSchema, type FieldType } from '../src/mod.ts'

export type Fields = Readonly<Record<string, FieldType>>
/** Values by field: undefined is absent. */
export type Row = Readonly<Record<string, string | number | boolean | undefined>>

export function eventsOf(fields: Fields): ReadonlyMap<string, FeatureInput> {
  return new Map([['events', { fields: new Map(Object.entries(fields)), latenessMs: 0, predict: true }]])
}

/** A batch of one input's events as the mesh decodes them; a field with an absent number is FP64. */
export function rowsOf(fields: Fields, rows: readonly Row[]): Batch {
  const shape = [rows.length]
  const columns = new Map<string, Tensor>()
  for (const [field, type] of Object.entries(fields)) {
    const values = rows.map((row) => row[field])
    const whole = !values.includes(undefined)
    if (type === 'string') columns.set(field, text(values.map((value) => (value ?? '') as string)))
    else if (type === 'integer' && whole)
      columns.set(field, { datatype: 'INT64', shape, data: BigInt64Array.from(values, (value) => BigInt(value as number)) })
    else if (type === 'boolean' && whole) columns.set(field, { datatype: 'BOOL', shape, data: Uint8Array.from(values, Number) })
    else {
      const data = Float64Array.from(values, (value) => (value === undefined ? NaN : Number(value)))
      columns.set(field, { datatype: 'FP64', shape, data })
    }
  }
  return { rowCount: rows.length, meta: rowMeta(rows.length), columns }
}

export function planOf(section: unknown, fields: Fields, options: CompileOptions = {}): FeaturePlan {
  return compileFeatures(featuresSchema.parse(section), eventsOf(fields), options)
}

export interface Vectors {
  readonly rows: readonly (readonly number[])[]
  readonly failures: readonly RowFailure[]
}

export function vectorsOf(plan: FeaturePlan, batch: Batch, scratch: Scratch = new Scratch()): Vectors {
  const input = plan.inputs.get('events')!
  const { vector, failures } = computeVector(input, batch, { windows: [], lookups: new Map() }, scratch)
  const width = vector.shape[1]!
  const data = vector.data as Float32Array
  return { rows: Array.from({ length: batch.rowCount }, (_, row) => [...data.subarray(row * width, (row + 1) * width)]), failures }
}

/** What a column has of the rows: numbers (NaN: absent), text, or a list of numbers a row. */
export function columnOf(plan: FeaturePlan, name: string, batch: Batch): { values: readonly unknown[]; failures: readonly RowFailure[] } {
  const { columns } = plan.inputs.get('events')!
  const evaluation = new ColumnEvaluation(columns, batch, () => undefined)
  const data = evaluation.column(columns.findIndex((column) => column.name === name))
  return { values: plain(data, batch.rowCount), failures: evaluation.failures }
}

function plain(data: ColumnData, rowCount: number): readonly unknown[] {
  if (data.kind === 'text') return data.values.strings
  if (data.kind === 'index') return Array.from(data.values, (index) => (index < 0 ? NaN : index + data.first))
  if (data.kind !== 'vector') return [...data.values]
  return Array.from({ length: rowCount }, (_, row) => [...data.values.subarray(row * data.width, (row + 1) * data.width)])
}

/** One column of one field, `value`, beside a number that is the vector. */
export function madeOf(
  type: FieldType,
  steps: readonly unknown[],
  values: readonly Row[string][],
  options: CompileOptions = {},
): readonly unknown[] {
  const fields: Fields = { value: type, other: 'number' }
  const section = { columns: { made: { field: 'value', ...(steps.length > 0 && { steps }) } }, vector: ['other'] }
  const batch = rowsOf(
    fields,
    values.map((value) => ({ value, other: 1 })),
  )
  return columnOf(planOf(section, fields, options), 'made', batch).values
}

/** Of a compilation that is refused. */
export function refusalOf(compile: () => unknown): { readonly field: string | undefined; readonly message: string } {
  try {
    compile()
  } catch (thrown) {
    const { field, message } = thrown as { field?: string; message: string }
    return { field, message }
  }
  throw new Error('it was accepted')
}
