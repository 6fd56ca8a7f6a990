import { type RecordHeaders, type ReplaySource, type Slice, takeRecords, type Write } from '@spillway/bus'
import { tierStages } from '@spillway/cascade-router'
import { type BytesColumn, type Stage, systemClock, textAt } from '@spillway/core'
import type { Pipeline } from '@spillway/mesh'
import { postprocessingStage } from '@spillway/postprocessing'
import type { Telemetry } from '@spillway/telemetry'
import { deadlineHeader, type FieldType } from '@spillway/wire'
import { asNumber } from '../tables/table-source.ts'
import type { ColumnKind, ColumnValues, TableColumn, TableRows, TableSchema } from '../tables/table.ts'
import { type BatchParts, unlogged } from './batch-process.ts'
import { localModels } from './local-models.ts'
import { fieldColumn } from './vector-table.ts'

/** Event times of the outputs that are kept, ms since the epoch: from inclusive, to exclusive. */
export interface TimeRange {
  readonly fromMs: number
  readonly toMs: number
}

/** Every stage in one process, joined by calls. Deadlines are those of callers who have long gone. */
export function backfillPipeline(pipeline: Pipeline): Pipeline {
  return {
    ...unlogged(pipeline),
    placement: { features: 'local', escalations: 'local', scored: 'local', models: 'local' },
    deadline: { withinMs: Infinity, late: 'wait' },
  }
}

/** The stages behind preprocessing. */
export async function backfillStages(pipeline: Pipeline, telemetry: Telemetry, parts: BatchParts): Promise<readonly Stage[]> {
  const modelOf = await localModels(pipeline, telemetry, parts)
  const { metrics, signal } = parts
  return [...(await tierStages({ pipeline, modelOf, clock: systemClock, metrics, telemetry, signal })), postprocessingStage(pipeline)]
}

/** Records of a write of events whose event time (`ce_time`) lies in the range. */
export function withinRange(write: Write, { fromMs, toMs }: TimeRange): Write {
  if (fromMs === -Infinity && toMs === Infinity) return write
  const { records } = write
  const kept: number[] = []
  for (let record = 0; record < records.count; record++) {
    const timeMs = Date.parse(records.headers?.[record]?.['ce_time'] ?? '')
    if (timeMs >= fromMs && timeMs < toMs) kept.push(record)
  }
  return kept.length === records.count ? write : { ...write, records: takeRecords(records, kept) }
}

/** A slice whose events have no deadline. */
export function withoutDeadlines(slice: Slice): Slice {
  const { headers } = slice.records
  if (headers?.some((own) => own?.[deadlineHeader] !== undefined) !== true) return slice
  return { ...slice, records: { ...slice.records, headers: headers.map((own) => own && withoutDeadline(own)) } }
}

function withoutDeadline(headers: RecordHeaders): RecordHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name !== deadlineHeader))
}

/** A source whose events have no deadline. */
export function timelessSource(source: ReplaySource): ReplaySource {
  return {
    topic: source.topic,
    open: (resumed, signal) => source.open(resumed, signal),
    async *read(partition, from, maxSliceRecords, signal) {
      for await (const slice of source.read(partition, from, maxSliceRecords, signal)) yield withoutDeadlines(slice)
    },
    ...(source.readShare && { readShare: (partition: number) => source.readShare!(partition) }),
  }
}

const ownColumns: readonly (readonly [string, ColumnKind])[] = [
  ['id', 'string'],
  ['event_time', 'timestamp'],
  ['score', 'double'],
  ['decision', 'boolean'],
  ['tier', 'string'],
  ['reason', 'string'],
  ['degraded', 'boolean'],
  ['model_version', 'string'],
]

/** A prediction's members as columns. */
export function predictionSchema(pipeline: Pipeline, metadata: Readonly<Record<string, string>>): TableSchema {
  const included = pipeline.predictions.include.map((name): TableColumn => fieldColumn(name, includedType(pipeline, name)))
  return { columns: [...ownColumns.map(([name, kind]) => ({ name, kind, nullable: true })), ...included], metadata }
}

function includedType(pipeline: Pipeline, name: string): FieldType {
  for (const { predict, definition } of pipeline.inputs.values())
    if (predict && Object.hasOwn(definition.fields, name)) return definition.fields[name]!.type
  return 'string'
}

/** Predictions, JSON each, as rows of that table. */
export function predictionRows({ columns }: TableSchema, events: BytesColumn): TableRows {
  const rowCount = events.offsets.length - 1
  const objects = Array.from({ length: rowCount }, (_, row) => JSON.parse(textAt(events, row)) as Readonly<Record<string, unknown>>)
  return {
    rowCount,
    columns: columns.map(({ name, kind }) =>
      valuesOf(
        kind,
        objects.map((object) => object[name]),
      ),
    ),
  }
}

function valuesOf(kind: ColumnKind, values: readonly unknown[]): ColumnValues {
  switch (kind) {
    case 'double':
    case 'timestamp':
      return Float64Array.from(values, asNumber)
    case 'float':
      return Float32Array.from(values, asNumber)
    case 'int64':
      return values.map((value) => (value === null || value === undefined ? null : BigInt(value as number | string)))
    case 'string':
    case 'boolean':
      return values.map((value) => value ?? null) as (string | null)[] | (boolean | null)[]
    default:
      return kind satisfies never
  }
}
