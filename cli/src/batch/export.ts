import type { Write } from '@spillway/bus'
import { type Batch, bytesAt, takeRows } from '@spillway/core'
import type { Pipeline } from '@spillway/mesh'
import { decodeFrame } from '@spillway/wire'
import type { TableColumn, TableRows, TableSchema } from '../tables/table.ts'
import type { WriteTaker } from './batch-sink.ts'
import { joinKeys, type LabelDefinition, type LabelIndex } from './label-index.ts'
import type { RowOutput } from './row-output.ts'
import { checkColumnNames, columnOf, fieldColumn, fieldValues, rowColumns, rowValues, vectorColumns, vectorValues } from './vector-table.ts'
import type { FieldType } from '@spillway/wire'

export interface ExportDefinition {
  readonly pipeline: Pipeline
  /** Event times of the rows, ms since the epoch: from inclusive, to exclusive. */
  readonly fromMs: number
  readonly toMs: number
  /** Fields of the event that a row repeats. */
  readonly fields: ReadonlyMap<string, FieldType>
  readonly label: LabelDefinition | undefined
}

/** A row a predicted event: what it is, its fields, its vector and its label. @throws MeshError INVALID_ARGUMENT where names clash */
export function exportSchema(definition: ExportDefinition, metadata: Readonly<Record<string, string>>): TableSchema {
  const { pipeline, fields, label } = definition
  const columns: TableColumn[] = [
    ...rowColumns,
    ...[...fields].map(([name, type]) => fieldColumn(name, type)),
    ...vectorColumns(pipeline),
    ...(label === undefined ? [] : [fieldColumn(label.field, label.type)]),
  ]
  checkColumnNames(columns)
  return { columns, metadata }
}

/** What the preprocessing stage has to keep of an event for it. */
export function keptFields({ fields, label }: ExportDefinition): readonly string[] {
  return [...fields.keys(), ...(label?.on === undefined ? [] : [label.on])]
}

/** Frames of vectors as rows of the table. Counts `rows`, `outside` (of the range of event times) and `labelled`. */
export function exportTaker(definition: ExportDefinition, output: RowOutput<TableRows>, labels: LabelIndex | undefined): WriteTaker {
  return async ({ records }: Write) => {
    const counts = { rows: 0, outside: 0, labelled: 0 }
    for (let record = 0; record < records.count; record++) {
      const { batch } = decodeFrame(bytesAt(records.values, record))
      const kept = within(batch, definition)
      const { rows, labelled } = tableRows(kept, definition, labels)
      await output.write(rows)
      counts.rows += kept.rowCount
      counts.outside += batch.rowCount - kept.rowCount
      counts.labelled += labelled
    }
    return counts
  }
}

function within(batch: Batch, { fromMs, toMs }: ExportDefinition): Batch {
  const kept: number[] = []
  batch.meta.eventTimesMs.forEach((timeMs, row) => {
    if (timeMs >= fromMs && timeMs < toMs) kept.push(row)
  })
  return kept.length === batch.rowCount ? batch : takeRows(batch, kept)
}

function tableRows(batch: Batch, definition: ExportDefinition, labels: LabelIndex | undefined): { rows: TableRows; labelled: number } {
  const { pipeline, fields, label } = definition
  const columns = [
    ...rowValues(batch),
    ...[...fields].map(([name, type]) => fieldValues(batch, name, type)),
    ...vectorValues(batch, pipeline),
  ]
  let labelled = 0
  if (label !== undefined && labels !== undefined) {
    const key = joinKeys(batch, label.on)
    const values = Array.from({ length: batch.rowCount }, (_, row) => labels.get(key(row)) ?? null)
    labelled = values.reduce<number>((count, value) => count + (value === null ? 0 : 1), 0)
    columns.push(columnOf(label.type, values))
  }
  return { rows: { rowCount: batch.rowCount, columns }, labelled }
}
