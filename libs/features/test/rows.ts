import { type Batch, rowMeta, type Tensor, text } from '@spillway/core'
import type { FeatureInput, FieldType } from '../src/mod.ts'

/** Values by field: undefined is absent. */
export type Row = Readonly<Record<string, string | number | boolean | undefined>>

export function inputOf(fields: Readonly<Record<string, FieldType>>): ReadonlyMap<string, FeatureInput> {
  return new Map([['events', { fields: new Map(Object.entries(fields)), latenessMs: 0, predict: true }]])
}

/** A batch of one input's events as the mesh decodes them, optional fields being FP64 with NaN. */
export function rowsOf(fields: Readonly<Record<string, FieldType>>, rows: readonly Row[]): Batch {
  const shape = [rows.length]
  const columns = new Map<string, Tensor>()
  for (const [field, type] of Object.entries(fields)) {
    const values = rows.map((row) => row[field])
    if (type === 'string') columns.set(field, text(values.map((value) => (value ?? '') as string)))
    else if (type === 'integer' && !values.includes(undefined))
      columns.set(field, { datatype: 'INT64', shape, data: BigInt64Array.from(values, (value) => BigInt(value as number)) })
    else if (type === 'boolean' && !values.includes(undefined))
      columns.set(field, { datatype: 'BOOL', shape, data: Uint8Array.from(values, Number) })
    else columns.set(field, { datatype: 'FP64', shape, data: Float64Array.from(values, (value) => (value === undefined ? NaN : Number(value))) })
  }
  return { rowCount: rows.length, meta: rowMeta(rows.length), columns }
}
