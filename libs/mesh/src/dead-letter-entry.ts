import type { RecordHeaders } from '@spillway/bus'
import { type Batch, bytesColumn, MeshError, type PassThroughHeaders, redrivenHeader, rowMeta } from '@spillway/core'
import { decodeFrame } from '@spillway/wire'
import { letterHeaders } from './dead-letter-headers.ts'
import type { Graph, SegmentPlan, StageId } from './graph.ts'
import type { Pipeline, PipelineInput } from './pipeline.ts'

/** A dead letter as it lies on a topic. */
export interface LetterRecord {
  readonly key: string
  readonly value: Uint8Array
  readonly headers: RecordHeaders
}

/**
 * Where a letter's row goes on: into the stage that failed it, as the row that this stage was given; as an event, at the head of a segment that reads
 * inputs; or as a frame that could not be read, at the head of the segment that reads frames from that topic.
 */
export type LetterEntry =
  | { readonly kind: 'row'; readonly stage: StageId; readonly batch: Batch }
  | { readonly kind: 'event'; readonly input: PipelineInput }
  | { readonly kind: 'frame'; readonly topic: string }

export interface EntryContext {
  readonly pipeline: Pipeline
  readonly graph: Graph
}

/**
 * The row of the failing stage where it was made with today's features and fields: what was done before it is not done again. Else the event.
 * @throws MeshError FAILED_PRECONDITION where the letter holds nothing that the segment could go on with
 */
export function entryOf({ headers, value }: LetterRecord, plan: SegmentPlan, { pipeline, graph }: EntryContext): LetterEntry {
  const stage = headers[letterHeaders.stage] ?? ''
  const frame = headers[letterHeaders.frame]
  if (frame !== undefined && graph.stages.has(stage)) {
    const batch = currentRow(frame, pipeline.schemaHash)
    if (batch !== undefined) return { kind: 'row', stage, batch: withEvent(batch, value) }
  }
  const topic = headers[letterHeaders.sourceTopic]
  const source = plan.sources.find((each) => each.topic === topic)
  if (source?.input !== undefined) return { kind: 'event', input: pipeline.inputs.get(source.input)! }
  if (source !== undefined) return { kind: 'frame', topic: source.topic }
  throw new MeshError(
    'FAILED_PRECONDITION',
    frame === undefined
      ? `the letter has no room for the row that ${stage} was given: give its event to the pipeline's input instead`
      : `the letter's row was made with other features or fields, or for a stage that there is no more: give its event to the pipeline's input instead`,
  )
}

/** Undefined where it was made with other features or fields, or cannot be read, or has no columns: what could not be read as an event has none. */
function currentRow(frame: string, schema: string): Batch | undefined {
  try {
    const { batch, info } = decodeFrame(Buffer.from(frame, 'base64'))
    return info.schema === schema && batch.rowCount === 1 && batch.columns.size > 0 ? batch : undefined
  } catch (error) {
    // Bytes that are no frame are as good as none: the letter has the event too.
    if (MeshError.from(error).code === 'INVALID_ARGUMENT') return undefined
    throw error
  }
}

function withEvent(batch: Batch, event: Uint8Array): Batch {
  return { ...batch, meta: { ...batch.meta, events: bytesColumn([event]) } }
}

/** Headers that the event came with, and how often its letter was given back. */
export function passedHeaders(headers: RecordHeaders): PassThroughHeaders {
  const passed: Record<string, string> = {}
  for (const [name, value] of Object.entries(headers)) if (!name.startsWith('spillway-') || name === redrivenHeader) passed[name] = value
  return passed
}

/**
 * The headers with which a letter's event is read again as it was the first time: what was taken from them then (its id, its time) was not
 * passed on, and is put back.
 */
export function eventHeaders({ headers, value }: LetterRecord, { definition }: PipelineInput): RecordHeaders {
  const passed: Record<string, string> = { ...passedHeaders(headers) }
  const id = headers[letterHeaders.eventId]
  if (id !== undefined && id !== '') passed['ce_id'] ??= id
  const timeMs = Number(headers[letterHeaders.eventTimeMs] ?? NaN)
  if (Math.abs(timeMs) <= 8.64e15) passed['ce_time'] ??= new Date(timeMs).toISOString()
  if (passed['content-type'] === undefined && !Object.hasOwn(definition.fields, 'specversion') && isEnvelope(value))
    passed['content-type'] = 'application/cloudevents+json'
  return passed
}

/** A CloudEvent in structured mode (CloudEvents JSON format 1.0.2, section 3). */
function isEnvelope(value: Uint8Array): boolean {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(value).toString('utf8'))
    return typeof parsed === 'object' && parsed !== null && 'specversion' in parsed && ('data' in parsed || 'data_base64' in parsed)
  } catch {
    // No JSON is no envelope; what it is, its reader says.
    return false
  }
}

/** A letter as a row without columns: to be a letter again. */
export function letterRow({ key, value, headers }: LetterRecord): Batch {
  const number = (name: string, fallback: number): number => {
    const found = Number(headers[name] ?? NaN)
    return Number.isFinite(found) ? found : fallback
  }
  const offset = headers[letterHeaders.sourceOffset] ?? ''
  const meta = rowMeta(1, {
    ids: [headers[letterHeaders.eventId] ?? ''],
    keys: [key],
    eventTimesMs: Float64Array.of(number(letterHeaders.eventTimeMs, 0)),
    ingestTimesMs: Float64Array.of(number(letterHeaders.ingestTimeMs, 0)),
    topics: [headers[letterHeaders.sourceTopic] ?? ''],
    partitions: Int32Array.of(number(letterHeaders.sourcePartition, -1)),
    offsets: BigInt64Array.of(/^\d{1,18}$/.test(offset) ? BigInt(offset) : -1n),
    events: bytesColumn([value]),
    headers: [passedHeaders(headers)],
  })
  return { rowCount: 1, meta, columns: new Map() }
}
