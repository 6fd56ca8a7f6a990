import { MeshError, type PassThroughHeaders, type RowMeta } from '@spillway/core'
import type { JsonCursor } from './json-cursor.ts'
import { maxTimeMs, parseRfc3339, rfc3339Writer } from './rfc3339.ts'

/** Headers of a record; text. */
export type RecordHeaders = Readonly<Record<string, string>>

/** Header with an event's deadline, ms since the epoch. */
export const deadlineHeader = 'spillway-deadline-ms'

/** What surrounds an event's data: CloudEvents attributes, trace context, and what Spillway does not know. */
export interface EventContext {
  id: string
  /** NaN where not given. */
  timeMs: number
  /** The `partitionkey` extension. */
  partitionKey: string
  traceParent: string
  /** Infinity where not given. */
  deadlineMs: number
  /** Whether the record's value is a CloudEvent in structured mode. */
  structured: boolean
  headers: PassThroughHeaders
}

const noHeaders: PassThroughHeaders = {}

export const noContext: Readonly<EventContext> = {
  id: '',
  timeMs: NaN,
  partitionKey: '',
  traceParent: '',
  deadlineMs: Infinity,
  structured: false,
  headers: noHeaders,
}

/** Attributes that describe the input event alone; outputs have their own. */
const spentHeaders: ReadonlySet<string> = new Set(['ce_type', 'ce_source', 'ce_datacontenttype', 'ce_dataschema'])

const base64Pattern = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

const traceParentPattern = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}/

/**
 * Binary mode (CloudEvents Kafka binding 1.0.2, section 3.2: `ce_` headers), `traceparent` (W3C Trace Context; an invalid one is left out, as
 * it says) and the deadline. Headers that Spillway does not know pass through. @throws MeshError INVALID_ARGUMENT naming the header
 */
export function readHeaders(headers: RecordHeaders): EventContext {
  const context: EventContext = { ...noContext }
  let passed: Record<string, string> | undefined
  for (const name of Object.keys(headers)) {
    const value = headers[name]!
    if (name === 'ce_id') context.id = value
    else if (name === 'ce_time') context.timeMs = time(value, name)
    else if (name === 'ce_partitionkey' || name === 'partitionkey') context.partitionKey = value
    else if (name === 'traceparent') context.traceParent = traceParentPattern.test(value) ? value : ''
    else if (name === deadlineHeader) context.deadlineMs = deadline(value)
    else if (name === 'ce_specversion') checkVersion(value, name)
    else if (name === 'content-type') context.structured = value.toLowerCase().startsWith('application/cloudevents+json')
    else if (!spentHeaders.has(name)) (passed ??= {})[name] = value
  }
  if (passed !== undefined) context.headers = passed
  return context
}

function time(value: string, name: string): number {
  const bytes = Buffer.from(value)
  const timeMs = parseRfc3339(bytes, 0, bytes.length)
  if (Number.isNaN(timeMs)) throw invalid(name, `must be an RFC 3339 time, as 2018-04-01T00:00:31Z, got "${value.slice(0, 40)}"`)
  return timeMs
}

/** What attributes mean in another major version is not known. */
function checkVersion(value: string, name: string): void {
  if (!value.startsWith('1.')) throw invalid(name, `must be 1.0, got "${value.slice(0, 20)}"`)
}

function deadline(value: string): number {
  const deadlineMs = Number(value)
  if (value.trim() === '' || !Number.isFinite(deadlineMs))
    throw invalid(deadlineHeader, `must be ms since the epoch, got "${value.slice(0, 40)}"`)
  return deadlineMs
}

/** Where a structured event's data is. */
export interface StructuredData {
  readonly bytes: Uint8Array
  readonly start: number
  readonly end: number
}

/**
 * Structured mode (CloudEvents JSON format 1.0.2): passes the envelope at the cursor, puts its attributes into `context`, and gives its data
 * as it stands in `data`, or decoded from `data_base64`. Extensions pass through as `ce_` headers.
 * @throws MeshError INVALID_ARGUMENT naming the attribute
 */
export function readEnvelope(cursor: JsonCursor, context: EventContext): StructuredData {
  let data: StructuredData | undefined
  const passed: Record<string, string> = { ...context.headers }
  const given = new Set<string>()
  cursor.expect(0x7b, 'a CloudEvent, which is a JSON object')
  let next = cursor.peek()
  while (next !== 0x7d) {
    cursor.string()
    const name = cursor.stringValue()
    cursor.field = name
    if (given.has(name)) throw invalid(name, 'is given twice')
    given.add(name)
    cursor.expect(0x3a, "':'")
    cursor.peek()
    const start = cursor.position
    cursor.skip()
    if (name === 'data') data = { bytes: cursor.bytes, start, end: cursor.position }
    else {
      const text = cursor.text(start, cursor.position)
      if (name === 'data_base64') {
        const encoded = attribute(name, text)
        // Node passes over what is no base64, and would read another event than was sent.
        if (!base64Pattern.test(encoded)) throw invalid(name, 'must be base64 (RFC 4648, section 4)')
        const bytes = Buffer.from(encoded, 'base64')
        data = { bytes, start: 0, end: bytes.length }
      } else setAttribute(name, attribute(name, text), context, passed)
    }
    cursor.field = undefined
    next = cursor.peek()
    if (next === 0x2c) {
      cursor.position++
      cursor.peek()
    } else if (next !== 0x7d) throw cursor.malformed("expected ',' or '}'")
  }
  cursor.position++
  if (cursor.peek() !== -1) throw cursor.malformed('nothing may follow the object')
  context.headers = passed
  // CloudEvents JSON format, section 3.1.1: they exclude each other.
  if (given.has('data') && given.has('data_base64')) throw invalid('data', 'is given twice: as data and as data_base64')
  if (data === undefined) throw invalid('data', 'is missing: the CloudEvent has neither data nor data_base64')
  return data
}

/** Attributes are text; extensions may be numbers or booleans (CloudEvents JSON format, section 2.2). */
function attribute(name: string, json: string): string {
  const value: unknown = JSON.parse(json)
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'boolean' || value === null) return value === null ? '' : json
  throw invalid(name, 'must be a text, as a CloudEvent attribute')
}

function setAttribute(name: string, value: string, context: EventContext, passed: Record<string, string>): void {
  if (name === 'id') context.id = value
  else if (name === 'time') context.timeMs = value === '' ? NaN : time(value, name)
  else if (name === 'partitionkey') context.partitionKey = value
  else if (name === 'traceparent') context.traceParent = traceParentPattern.test(value) ? value : context.traceParent
  else if (name === 'tracestate') passed[name] = value
  else if (name === 'specversion') checkVersion(value, name)
  else if (!spentHeaders.has(`ce_${name}`) && value !== '') passed[`ce_${name}`] = value
}

function invalid(field: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', `"${field}" ${message}`, { field })
}

export interface OutputEvents {
  /** `ce_type`, `ce_source`: others than the input's, so that no loop forms. */
  readonly type: string
  readonly source: string
}

/** Headers of output events, one a row: CloudEvents binary mode, the trace, and the input's headers that passed through. */
export function cloudEventHeaders(meta: RowMeta, output: OutputEvents): RecordHeaders[] {
  const timeText = rfc3339Writer()
  return meta.ids.map((id, row) => {
    const timeMs = meta.eventTimesMs[row]!
    const headers: Record<string, string> = {
      ...meta.headers[row],
      ce_specversion: '1.0',
      ce_id: id,
      ce_type: output.type,
      ce_source: output.source,
      ce_time: timeText(Math.abs(timeMs) <= maxTimeMs ? timeMs : 0),
      'content-type': 'application/json',
    }
    const traceParent = meta.traceParents[row]!
    if (traceParent !== '') headers['traceparent'] = traceParent
    return headers
  })
}
