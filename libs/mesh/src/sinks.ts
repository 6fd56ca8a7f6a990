import { bytesAt, bytesColumn, type Batch, column, MeshError, sliceBatch, takeRows, type BytesColumn, textColumn } from '@spillway/core'
import type { RecordHeaders, Records, Write } from '@spillway/bus'
import { cloudEventHeaders, encodeFrame, type FrameInfo, splitFrames } from '@spillway/wire'
import type { FailedRows } from './runner.ts'

/** The column in which a stage gives an edge event's JSON. */
export const eventColumn = 'event'

/** Room that a record's headers and key take beside the value, at most. */
const recordOverheadBytes = 4096

export interface Encoded {
  readonly write: Write
  /** Rows that are too large for any record. */
  readonly oversize: readonly FailedRows[]
}

export interface SinkContext {
  /** Partition of the slice that the rows came from: outputs stay on it. */
  readonly partition: number
  readonly maxRecordBytes: number
  readonly frame: FrameInfo
}

/** Rows for a topic link: one record is one frame. */
export function encodeFrames(topic: string, batch: Batch, context: SinkContext): Encoded {
  const maxBytes = context.maxRecordBytes - recordOverheadBytes
  const { frames, oversize } = splitFrames(batch, context.frame, maxBytes)
  const records: Records = { count: frames.length, values: bytesColumn(frames) }
  return { write: { topic, partition: context.partition, records }, oversize: tooLarge(topic, batch, oversize, maxBytes) }
}

/** Rows for an output topic: one record is one event, with CloudEvents binary-mode headers. */
export function encodeEvents(topic: string, batch: Batch, type: string, source: string, context: SinkContext): Encoded {
  const maxBytes = context.maxRecordBytes - recordOverheadBytes
  const values = column(batch, eventColumn).data as BytesColumn
  const oversize: number[] = []
  for (let row = 0; row < batch.rowCount; row++) if (values.offsets[row + 1]! - values.offsets[row]! > maxBytes) oversize.push(row)
  const fitting = oversize.length === 0 ? batch : takeRows(batch, rowsWithout(batch.rowCount, oversize))
  const records: Records = {
    count: fitting.rowCount,
    keys: textColumn(fitting.meta.keys),
    values: column(fitting, eventColumn).data as BytesColumn,
    headers: cloudEventHeaders(fitting.meta, { type, source }),
  }
  return { write: { topic, partition: context.partition, records }, oversize: tooLarge(topic, batch, oversize, maxBytes) }
}

function rowsWithout(rowCount: number, left: readonly number[]): number[] {
  const out = new Set(left)
  return Array.from({ length: rowCount }, (_, row) => row).filter((row) => !out.has(row))
}

function tooLarge(topic: string, batch: Batch, rows: readonly number[], maxBytes: number): readonly FailedRows[] {
  if (rows.length === 0) return []
  const error = new MeshError('OUT_OF_RANGE', `the row's record for topic ${topic} is larger than ${maxBytes} bytes, which is what the bus takes`)
  return [{ stage: `sink ${topic}`, batch: takeRows(batch, rows), errors: rows.map(() => error) }]
}

/**
 * Dead letters: each record's value is the event as it came in; what failed, where and why stands in its headers, and so does the
 * row that the failing stage was given, as a base64 frame, where one row fits.
 */
export function encodeDeadLetters(topic: string, segment: string, failures: readonly FailedRows[], context: SinkContext): Write {
  const keys: string[] = []
  const values: Uint8Array[] = []
  const headers: RecordHeaders[] = []
  for (const { stage, batch, errors } of failures) {
    for (let row = 0; row < batch.rowCount; row++) {
      const event = bytesAt(batch.meta.events, row)
      keys.push(batch.meta.keys[row]!)
      values.push(event)
      const header = deadLetterHeaders(segment, stage, batch, row, errors[row]!)
      const frame = encodedRow(batch, row, context.frame)
      headers.push(event.byteLength + frame.length + recordOverheadBytes > context.maxRecordBytes ? header : { ...header, 'spillway-frame': frame })
    }
  }
  return { topic, partition: context.partition, records: { count: values.length, keys: textColumn(keys), values: bytesColumn(values), headers } }
}

function deadLetterHeaders(segment: string, stage: string, batch: Batch, row: number, error: MeshError): RecordHeaders {
  const { meta } = batch
  return {
    ...meta.headers[row],
    'spillway-code': error.code,
    'spillway-message': error.message.slice(0, 1000),
    ...(error.field === undefined ? {} : { 'spillway-field': error.field }),
    'spillway-segment': segment,
    'spillway-stage': stage,
    'spillway-event-id': meta.ids[row]!,
    'spillway-source-topic': meta.topics[row]!,
    'spillway-source-partition': String(meta.partitions[row]),
    'spillway-source-offset': String(meta.offsets[row]),
    ...(meta.traceParents[row] === '' ? {} : { traceparent: meta.traceParents[row]! }),
  }
}

function encodedRow(batch: Batch, row: number, frame: FrameInfo): string {
  const one = sliceBatch(batch, row, row + 1)
  const events = bytesColumn([new Uint8Array(0)])
  return Buffer.from(encodeFrame({ ...one, meta: { ...one.meta, events } }, frame)).toString('base64')
}
