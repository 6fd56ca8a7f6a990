import {
  type Batch,
  bytesAt,
  type BytesColumn,
  bytesColumn,
  column,
  type FailedRows,
  type MeshError,
  sliceBatch,
  textColumn,
} from '@spillway/core'
import { recordBytes, recordBytesLimit, type RecordHeaders, type Records, takeRecords, type Write } from '@spillway/bus'
import { cloudEventHeaders, encodeFrame, type FrameInfo, splitFrames } from '@spillway/wire'
import { letterHeaders } from './dead-letter-headers.ts'

/** The column in which a stage gives an edge event's JSON. */
export const eventColumn = 'event'

/** Room kept for what a bus adds to a frame's record. */
const recordOverheadBytes = 4096

/**
 * What a topic takes: frames (whose schema is the pipeline's unless it is given), or events of an output with their CloudEvents type.
 * `answers`: each row there is the answer to one that was read; otherwise it comes beside one.
 */
export type Sink =
  | { readonly kind: 'frames'; readonly schema?: string; readonly answers: boolean }
  | { readonly kind: 'events'; readonly type: string; readonly answers: boolean }

export interface Encoded {
  readonly write: Write
  /** Rows that are too large for any record, by their places in the batch: what is written is without them. */
  readonly oversize: readonly number[]
}

export interface SinkContext {
  readonly topic: string
  /** Partition of the slice that the rows came from: outputs stay on it. */
  readonly partition: number
  readonly maxRecordBytes: number
  readonly frame: FrameInfo
}

/** Rows for a topic link: one record is one frame. */
export function encodeFrames(batch: Batch, { topic, partition, frame, maxRecordBytes }: SinkContext): Encoded {
  const { frames, oversize } = splitFrames(batch, frame, maxRecordBytes - recordOverheadBytes)
  const records: Records = { count: frames.length, values: bytesColumn(frames) }
  return { write: { topic, partition, records }, oversize }
}

/** Rows for an output topic: one record is one event, with CloudEvents binary-mode headers. */
export function encodeEvents(batch: Batch, type: string, source: string, { topic, partition, maxRecordBytes }: SinkContext): Encoded {
  const all: Records = {
    count: batch.rowCount,
    keys: textColumn(batch.meta.keys),
    values: column(batch, eventColumn).data as BytesColumn,
    headers: cloudEventHeaders(batch.meta, { type, source }),
  }
  const oversize: number[] = []
  for (let row = 0; row < all.count; row++)
    if (recordBytesLimit(all, row) > maxRecordBytes && recordBytes(all, row) > maxRecordBytes) oversize.push(row)
  const records = oversize.length === 0 ? all : takeRecords(all, rowsWithout(all.count, oversize))
  return { write: { topic, partition, records }, oversize }
}

function rowsWithout(rowCount: number, left: readonly number[]): number[] {
  const out = new Set(left)
  return Array.from({ length: rowCount }, (_, row) => row).filter((row) => !out.has(row))
}

/**
 * Dead letters: each record's value is the event as it came in; what failed, where and why stands in its headers, and so does the
 * row that the failing stage was given, as a base64 frame, where one row fits. What the bus's limit leaves no room for is cut, and named in
 * `spillway-incomplete`: the whole lies at the source position.
 */
export function encodeDeadLetters(segment: string, failures: readonly FailedRows[], context: SinkContext): Write {
  const keys: string[] = []
  const values: Uint8Array[] = []
  const headers: RecordHeaders[] = []
  for (const { failed, row } of inOrder(failures)) {
    const { stage, batch, errors } = failed
    const letter = deadLetter(batch, row, deadLetterHeaders(segment, stage, batch, row, errors[row]!), context)
    keys.push(letter.key)
    values.push(letter.value)
    headers.push(letter.headers)
  }
  return {
    topic: context.topic,
    partition: context.partition,
    records: { count: values.length, keys: textColumn(keys), values: bytesColumn(values), headers },
  }
}

/** As their events were read, whichever failed first: letters are given back in the order in which they lie, and a history is to get them in that of the events. */
function inOrder(failures: readonly FailedRows[]): readonly { readonly failed: FailedRows; readonly row: number }[] {
  const rows = failures.flatMap((failed) => Array.from({ length: failed.batch.rowCount }, (_, row) => ({ failed, row })))
  const offsetOf = ({ failed, row }: (typeof rows)[number]): bigint => failed.batch.meta.offsets[row]!
  return rows.sort((a, b) => (offsetOf(a) < offsetOf(b) ? -1 : offsetOf(a) > offsetOf(b) ? 1 : 0))
}

/** A letter that fits a record, whatever came in: one that did not would stop its partition for ever. */
function deadLetter(
  batch: Batch,
  row: number,
  own: RecordHeaders,
  context: SinkContext,
): { key: string; value: Uint8Array; headers: RecordHeaders } {
  const event = bytesAt(batch.meta.events, row)
  const key = batch.meta.keys[row]!
  const passed = batch.meta.headers[row]!
  const incomplete: string[] = []
  let room = context.maxRecordBytes - headerBytes(own) - incompleteBytes
  const takes = (name: string, bytes: number): boolean => {
    const fits = bytes <= room
    if (fits) room -= bytes
    else incomplete.push(name)
    return fits
  }
  const keptKey = takes('key', Buffer.byteLength(key)) ? key : ''
  const value = takes('event', event.byteLength) ? event : event.subarray(0, Math.max(0, room))
  if (value !== event) room -= value.byteLength
  const kept = takes('headers', headerBytes(passed)) ? { ...passed, ...own } : own
  const frame = encodedRow(batch, row, context.frame)
  const whole = frame.length + frameHeader.length <= room ? { ...kept, [frameHeader]: frame } : kept
  return { key: keptKey, value, headers: incomplete.length === 0 ? whole : { ...whole, [letterHeaders.incomplete]: incomplete.join(', ') } }
}

const frameHeader = letterHeaders.frame
/** Of the header that says what was cut. */
const incompleteBytes = 64
/** Longest error message and event id in a header, in characters. */
const maxHeaderText = 1000

function headerBytes(headers: RecordHeaders): number {
  let bytes = 0
  for (const [name, value] of Object.entries(headers)) bytes += Buffer.byteLength(name) + Buffer.byteLength(value)
  return bytes
}

function deadLetterHeaders(segment: string, stage: string, batch: Batch, row: number, error: MeshError): RecordHeaders {
  const { meta } = batch
  return {
    [letterHeaders.code]: error.code,
    [letterHeaders.message]: error.message.slice(0, maxHeaderText),
    ...(error.field === undefined ? {} : { [letterHeaders.field]: error.field.slice(0, maxHeaderText) }),
    [letterHeaders.segment]: segment,
    [letterHeaders.stage]: stage,
    [letterHeaders.eventId]: meta.ids[row]!.slice(0, maxHeaderText),
    [letterHeaders.eventTimeMs]: String(meta.eventTimesMs[row]),
    [letterHeaders.ingestTimeMs]: String(meta.ingestTimesMs[row]),
    [letterHeaders.sourceTopic]: meta.topics[row]!,
    [letterHeaders.sourcePartition]: String(meta.partitions[row]),
    [letterHeaders.sourceOffset]: String(meta.offsets[row]),
    ...(meta.traceParents[row] === '' ? {} : { traceparent: meta.traceParents[row]! }),
  }
}

function encodedRow(batch: Batch, row: number, frame: FrameInfo): string {
  const one = sliceBatch(batch, row, row + 1)
  const events = bytesColumn([new Uint8Array(0)])
  return Buffer.from(encodeFrame({ ...one, meta: { ...one.meta, events } }, frame)).toString('base64')
}
