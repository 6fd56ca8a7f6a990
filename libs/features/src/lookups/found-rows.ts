import type { MeshError, RowFailure } from '@spillway/core'
import type { LookupData, LookupRows } from './source.ts'
import type { UniqueKeys } from './unique-keys.ts'
import type { ValueColumns } from './value-columns.ts'

/** What was read of unique keys, for each row that has one. @param wrong by index of the key */
export function rowsOf(unique: UniqueKeys, columns: ValueColumns, wrong: ReadonlyMap<number, MeshError>): LookupRows {
  const failures: RowFailure[] = []
  for (let row = 0; wrong.size > 0 && row < unique.indices.length; row++) {
    const error = wrong.get(unique.indices[row]!)
    if (error !== undefined) failures.push({ row, error })
  }
  return { ...foundRows(columns.data(unique.count), unique.indices), failures }
}

interface Rows {
  readonly values: readonly LookupData[]
  readonly timesMs: Float64Array | undefined
}

/** The rows at `indices`, absent where one is negative. */
export function foundRows({ values, timesMs }: Rows, indices: Int32Array): LookupRows {
  return {
    values: values.map((column) => gather(column, indices)),
    timesMs: timesMs === undefined ? undefined : gatherNumbers(timesMs, indices),
    failures: [],
  }
}

function gatherNumbers(values: Float64Array, indices: Int32Array): Float64Array {
  const gathered = new Float64Array(indices.length)
  for (let i = 0; i < indices.length; i++) gathered[i] = indices[i]! < 0 ? NaN : values[indices[i]!]!
  return gathered
}

function gather(column: LookupData, indices: Int32Array): LookupData {
  if (column.kind === 'text') return { kind: 'text', values: Array.from(indices, (row) => (row < 0 ? '' : column.values[row]!)) }
  if (column.kind === 'vector') {
    const { width } = column
    const values = new Float64Array(indices.length * width).fill(NaN)
    for (let i = 0; i < indices.length; i++)
      if (indices[i]! >= 0) values.set(column.values.subarray(indices[i]! * width, (indices[i]! + 1) * width), i * width)
    return { kind: 'vector', values, width }
  }
  return { kind: column.kind, values: gatherNumbers(column.values, indices) }
}
