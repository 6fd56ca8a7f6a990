import { MeshError } from '@spillway/core'
import type { PredictResult } from '@spillway/mesh'
import { currentTraceParent, type Telemetry } from '@spillway/telemetry'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Calls } from './calls.ts'
import { errorBody, errorStatus } from './http-errors.ts'
import { elementSlices, lineSlices, memberSlices, parseJson } from './json-slices.ts'
import { admitted, bodyBytes, clientSignal, deadlineMs, mediaType, traced, unsupported } from './request.ts'

interface PredictBody {
  readonly events: readonly Uint8Array[]
  /** Asked for with `event`: answered with the result itself, and with its error as the status. */
  readonly single: boolean
}

/** `POST /v1/pipelines/{name}:predict`. */
export function predictRoutes(app: FastifyInstance, calls: Calls, telemetry: Telemetry): void {
  app.post<{ Params: { name: string } }>('/v1/pipelines/:name(^[^:]+)::predict', admitted(calls), (request, reply) =>
    traced(telemetry, request, reply, async () => {
      const { events, single } = readBody(request)
      const results = await calls.predict(request.params.name, events, {
        signal: clientSignal(reply),
        deadlineMs: deadlineMs(request),
        traceParent: currentTraceParent(),
        principal: '',
      })
      return single ? sendOne(reply, results[0]!) : sendAll(reply, results)
    }),
  )
}

/** @throws MeshError INVALID_ARGUMENT naming the member, HttpError 415 */
function readBody(request: FastifyRequest): PredictBody {
  const type = mediaType(request)
  const body = bodyBytes(request)
  if (type === 'application/x-ndjson') return { events: lineSlices(body), single: false }
  if (type !== 'application/json') unsupported(type, ['application/json', 'application/x-ndjson'])
  const { bytes, value } = parseJson(body, 'the body')
  const expected = 'send {"event": {…}} for one event, {"events": [{…}, …]} for many'
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new MeshError('INVALID_ARGUMENT', `the body is no JSON object: ${expected}`)
  const unknown = Object.keys(value).find((name) => name !== 'event' && name !== 'events')
  if (unknown !== undefined) throw new MeshError('INVALID_ARGUMENT', `"${unknown}" is not known: ${expected}`, { field: unknown })
  if ('event' in value === 'events' in value) throw new MeshError('INVALID_ARGUMENT', expected, { field: 'events' })
  const members = memberSlices(bytes)
  if ('event' in value) return { events: [members.get('event')!], single: true }
  if (!Array.isArray((value as { events: unknown }).events))
    throw new MeshError('INVALID_ARGUMENT', `"events" is no array: ${expected}`, { field: 'events' })
  return { events: elementSlices(members.get('events')!), single: false }
}

const json = 'application/json; charset=utf-8'

function sendOne(reply: FastifyReply, result: PredictResult): FastifyReply {
  if ('error' in result) {
    const status = errorStatus(result.error)
    if (status === 429 || status === 503) reply.header('retry-after', '1')
    return reply.code(status).type(json).send(resultJson(result))
  }
  return reply.type(json).send(resultJson(result))
}

function sendAll(reply: FastifyReply, results: readonly PredictResult[]): FastifyReply {
  const parts: Uint8Array[] = [Buffer.from('{"results":[')]
  for (const [row, result] of results.entries()) {
    if (row > 0) parts.push(Buffer.from(','))
    parts.push(resultJson(result))
  }
  parts.push(Buffer.from(']}'))
  return reply.type(json).send(Buffer.concat(parts))
}

/** Predictions and alerts as the bytes that the pipeline made. */
function resultJson(result: PredictResult): Buffer {
  if ('error' in result) return Buffer.from(JSON.stringify({ error: { ...errorBody(result.error), stage: result.stage } }))
  const parts: Uint8Array[] = [Buffer.from('{"prediction":'), result.prediction]
  if (result.alert !== undefined) parts.push(Buffer.from(',"alert":'), result.alert)
  parts.push(Buffer.from('}'))
  return Buffer.concat(parts)
}
