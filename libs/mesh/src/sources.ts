import { type Batch, bytesAt, concatBatches, emptyBatch, type FailedRows, MeshError, rowMeta, takeRows } from '@spillway/core'
import type { Slice } from '@spillway/bus'
import {
  compileEventReader,
  decodeFrame,
  type EventReader,
  type EventRecords,
  type EventSource as RecordSource,
  type Frame,
  type FrameInfo,
} from '@spillway/wire'
import type { Pipeline, PipelineInput } from './pipeline.ts'
import type { LatePolicy } from './pipeline-schema.ts'

/** A slice as rows: the good ones, in order, and those that could not be read. */
export interface Decoded {
  readonly batch: Batch
  readonly failures: readonly FailedRows[]
  /** Records behind the first one that was left for a later slice; all where the slice was taken whole. */
  readonly consumed: number
}

/** Reads a segment's records into rows. */
export interface Source {
  decode(slice: Slice, nowMs: number): Decoded
}

/** An event this far ahead of the clock is taken for a mistake: its time would hold up, or make too late, all that follow it. */
const maxFutureMs = 86_400_000

/** Reads an input's events, and refuses those that cannot be. */
export class InputReader {
  private readonly reader: EventReader
  private readonly stage: string
  private readonly timeField: string | undefined

  constructor(pipeline: Pipeline, input: PipelineInput, stage: string) {
    this.reader = compileEventReader(input.definition, { maxEventBytes: pipeline.maxEventBytes })
    this.stage = stage
    this.timeField = input.definition.time
  }

  /** Rows that were refused keep their place in the records as `refused`. */
  read(
    records: EventRecords,
    source: RecordSource | undefined,
    nowMs: number,
  ): { batch: Batch; failures: readonly FailedRows[]; refused: readonly number[] } {
    const { batch, failures, rejected } = this.reader.read(records, source, nowMs)
    const unread = failures.length === 0 ? [] : [{ stage: this.stage, batch: rejected, errors: failures.map((failure) => failure.error) }]
    const refused = failures.map((failure) => failure.row)
    const { eventTimesMs } = batch.meta
    if (!eventTimesMs.some((timeMs) => timeMs > nowMs + maxFutureMs)) return { batch, failures: unread, refused }
    const places = Array.from({ length: records.count }, (_, row) => row).filter((row) => !refused.includes(row))
    const ahead: number[] = []
    const kept: number[] = []
    eventTimesMs.forEach((timeMs, row) => (timeMs > nowMs + maxFutureMs ? ahead : kept).push(row))
    const errors = ahead.map((row) => this.tooFarAhead(eventTimesMs[row]!))
    return {
      batch: takeRows(batch, kept),
      // Without columns, as what could not be read: given back, it is read again.
      failures: [...unread, { stage: this.stage, batch: { ...takeRows(batch, ahead), columns: new Map() }, errors }],
      refused: [...refused, ...ahead.map((row) => places[row]!)],
    }
  }

  private tooFarAhead(timeMs: number): MeshError {
    const field = this.timeField
    const time = new Date(timeMs).toISOString()
    return new MeshError(
      'INVALID_ARGUMENT',
      `${field ?? 'the event time'}: ${time} lies more than a day in the future`,
      field === undefined ? {} : { field },
    )
  }
}

/** Rows whose time was over before they were read, as after an outage, are answered as if they had no deadline. */
function liftPassed(batch: Batch, nowMs: number): Batch {
  const { deadlinesMs } = batch.meta
  if (!deadlinesMs.some((deadlineMs) => deadlineMs <= nowMs)) return batch
  return { ...batch, meta: { ...batch.meta, deadlinesMs: deadlinesMs.map((deadlineMs) => (deadlineMs <= nowMs ? Infinity : deadlineMs)) } }
}

/** Events of an input, as they came from outside. */
export class EventSource implements Source {
  private readonly reader: InputReader
  private readonly deadline: Pipeline['deadline']

  constructor(pipeline: Pipeline, input: PipelineInput, stage: string) {
    this.reader = new InputReader(pipeline, input, stage)
    this.deadline = pipeline.deadline
  }

  decode(slice: Slice, nowMs: number): Decoded {
    const { batch, failures } = this.reader.read(slice.records, slice, nowMs)
    const { withinMs, late } = this.deadline
    const { deadlinesMs, ingestTimesMs } = batch.meta
    if (withinMs !== Infinity)
      for (let row = 0; row < batch.rowCount; row++) deadlinesMs[row] = Math.min(deadlinesMs[row]!, ingestTimesMs[row]! + withinMs)
    return { batch: late === 'wait' ? liftPassed(batch, nowMs) : batch, failures, consumed: slice.records.count }
  }
}

/** Frames of a topic link. A frame of another release is taken where its rows were made as this one makes them, and its rows are dead letters otherwise. */
export class FrameSource implements Source {
  private readonly stage: string
  private readonly schema: string
  private readonly maxRows: number
  private readonly late: LatePolicy

  constructor(options: { readonly stage: string; readonly schema: string; readonly maxRows: number; readonly late: LatePolicy }) {
    this.stage = options.stage
    this.schema = options.schema
    this.maxRows = options.maxRows
    this.late = options.late
  }

  decode(slice: Slice, nowMs: number): Decoded {
    const batches: Batch[] = []
    const failures: FailedRows[] = []
    let rows = 0
    let consumed = 0
    for (; consumed < slice.records.count; consumed++) {
      let frame: Frame
      try {
        frame = decodeFrame(bytesAt(slice.records.values, consumed))
      } catch (error) {
        failures.push(this.unreadable(slice, consumed, MeshError.from(error)))
        continue
      }
      const { batch, info } = frame
      if (info.schema !== this.schema) {
        const error = otherSchema(info)
        failures.push({ stage: this.stage, batch, errors: new Array<MeshError>(batch.rowCount).fill(error) })
        continue
      }
      if (consumed > 0 && (rows + batch.rowCount > this.maxRows || !sameColumns(batches[0], batch))) break
      rows += batch.rowCount
      batches.push(batch)
    }
    const batch = batches.length === 0 ? emptyBatch : concatBatches(batches)
    return { batch: this.late === 'wait' ? liftPassed(batch, nowMs) : batch, failures, consumed }
  }

  /** A frame that cannot be read is one letter: its bytes as they are. */
  private unreadable(slice: Slice, record: number, error: MeshError): FailedRows {
    const value = bytesAt(slice.records.values, record)
    const meta = rowMeta(1, {
      ids: [`${slice.topic}/${slice.partition}/${slice.offsets[record]}`],
      topics: [slice.topic],
      partitions: Int32Array.of(slice.partition),
      offsets: BigInt64Array.of(slice.offsets[record]!),
      ingestTimesMs: Float64Array.of(slice.records.timestampsMs[record]!),
      events: { bytes: value, offsets: Uint32Array.of(0, value.byteLength) },
    })
    return { stage: this.stage, batch: { rowCount: 1, meta, columns: new Map() }, errors: [error] }
  }
}

/** Rows that were made with other features or fields: what a column means may have changed, though its name and type have not. */
export function otherSchema({ release, schema }: FrameInfo): MeshError {
  return new MeshError(
    'FAILED_PRECONDITION',
    `the row was made by release ${release} with other features or fields (schema ${schema}): give its event again`,
  )
}

/** Whether rows of both may lie in one batch. */
export function sameColumns(a: Batch | undefined, b: Batch): boolean {
  if (a === undefined) return true
  if (a.columns.size !== b.columns.size) return false
  for (const [name, column] of a.columns) {
    const other = b.columns.get(name)
    if (other === undefined || other.datatype !== column.datatype || other.shape.slice(1).join() !== column.shape.slice(1).join())
      return false
  }
  return true
}
