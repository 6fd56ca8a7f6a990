import { type Batch, column, MeshError } from '@spillway/core'
import type { Pipeline } from '@spillway/mesh'
import type { ColumnKind, ColumnValues, TableColumn } from '../tables/table.ts'
import { type LabelValue, valueReader } from './label-index.ts'
import type { FieldType } from '@spillway/wire'

/** What every table of vectors says of a row, before its vector. */
export const rowColumns: readonly TableColumn[] = [
  { name: 'id', kind: 'string', nullable: false },
  { name: 'key', kind: 'string', nullable: false },
  { name: 'event_time', kind: 'timestamp', nullable: false },
  { name: 'topic', kind: 'string', nullable: false },
  { name: 'partition', kind: 'int64', nullable: false },
  { name: 'offset', kind: 'int64', nullable: false },
]

export function rowValues({ meta, rowCount }: Batch): ColumnValues[] {
  const partitions = BigInt64Array.from({ length: rowCount }, (_, row) => BigInt(meta.partitions[row]!))
  return [meta.ids, meta.keys, meta.eventTimesMs, meta.topics, partitions, meta.offsets]
}

/** The vector's elements, an FP32 column each. */
export function vectorColumns(pipeline: Pipeline): readonly TableColumn[] {
  return pipeline.features.vector.names.map((name) => ({ name, kind: 'float', nullable: true }))
}

export function vectorValues(batch: Batch, pipeline: Pipeline): ColumnValues[] {
  const { column: name, width } = pipeline.features.vector
  const vector = column(batch, name).data as Float32Array
  return Array.from({ length: width }, (_, element) => {
    const values = new Float32Array(batch.rowCount)
    for (let row = 0; row < batch.rowCount; row++) values[row] = vector[row * width + element]!
    return values
  })
}

const kinds: Readonly<Record<FieldType, ColumnKind>> = {
  string: 'string',
  number: 'double',
  integer: 'int64',
  boolean: 'boolean',
  timestamp: 'timestamp',
}

/** A field of events; any may be absent. */
export function fieldColumn(name: string, type: FieldType): TableColumn {
  return { name, kind: kinds[type], nullable: true }
}

/** A field's values in a batch that has it as a column. */
export function fieldValues(batch: Batch, name: string, type: FieldType): ColumnValues {
  const read = valueReader(batch, name, type)
  return columnOf(
    type,
    Array.from({ length: batch.rowCount }, (_, row) => read(row)),
  )
}

export function columnOf(type: FieldType, values: readonly (LabelValue | null)[]): ColumnValues {
  if (type === 'number' || type === 'timestamp') return Float64Array.from(values, (value) => (value === null ? NaN : Number(value)))
  return values as readonly (string | null)[]
}

/** @throws MeshError INVALID_ARGUMENT where two columns have one name */
export function checkColumnNames(columns: readonly TableColumn[]): void {
  const seen = new Set<string>()
  for (const { name } of columns) {
    if (seen.has(name))
      throw new MeshError(
        'INVALID_ARGUMENT',
        `the table would have two columns called "${name}": leave the field out of --fields, or --label`,
        {
          field: '--fields',
        },
      )
    seen.add(name)
  }
}
