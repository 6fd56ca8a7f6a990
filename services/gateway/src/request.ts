import { SpanKind, SpanStatusCode } from '@opentelemetry/api'
import { MeshError } from '@spillway/core'
import { noRoom } from '@spillway/rpc'
import { currentTraceParent, HttpError, type Telemetry, withRemoteParent } from '@spillway/telemetry'
import type { FastifyReply, FastifyRequest, onRequestHookHandler } from 'fastify'
import type { Calls } from './calls.ts'
import { errorStatus } from './http-errors.ts'

/** The media type without parameters, in lower case; '' where the request names none. @throws HttpError 415 for a compressed body. */
export function mediaType(request: FastifyRequest): string {
  const encoding = request.headers['content-encoding'] ?? 'identity'
  if (encoding !== 'identity') throw new HttpError(415, `content-encoding ${encoding} is not taken: send the body as it is`)
  return (request.headers['content-type'] ?? '').split(';', 1)[0]!.trim().toLowerCase()
}

/** @throws HttpError 415 */
export function unsupported(type: string, taken: readonly string[]): never {
  throw new HttpError(415, `content-type ${type === '' ? 'is missing' : `${type} is not taken`}: send ${taken.join(' or ')}`)
}

/** The body as it came; empty where there is none. */
export function bodyBytes(request: FastifyRequest): Uint8Array {
  return request.body instanceof Uint8Array ? request.body : new Uint8Array(0)
}

const timeoutUnitsMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 }

/**
 * When the caller wants its answer, ms since the epoch: from `x-spillway-timeout-ms` (whole ms), or `grpc-timeout` as gRPC spells it
 * (`250m` is 250 ms; gRPC over HTTP2, "Timeout"); Infinity where it says nothing.
 * @throws MeshError INVALID_ARGUMENT naming the header.
 */
export function deadlineMs(request: FastifyRequest): number {
  const own = request.headers['x-spillway-timeout-ms']
  const grpc = request.headers['grpc-timeout']
  if (own !== undefined) {
    if (!/^[1-9]\d{0,8}$/.test(String(own))) throw badTimeout('x-spillway-timeout-ms', own, 'whole milliseconds, as in 250')
    return Date.now() + Number(own)
  }
  if (grpc === undefined) return Infinity
  const match = /^(\d{1,8})([HMSmun])$/.exec(String(grpc))
  if (match === null) throw badTimeout('grpc-timeout', grpc, 'a number and one of H M S m u n, as in 250m')
  return Date.now() + Number(match[1]) * timeoutUnitsMs[match[2]!]!
}

function badTimeout(header: string, value: unknown, expected: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', `"${String(value)}" is no timeout: write ${expected}`, { field: header })
}

/** A route option: takes a place for the call before its body is read, and gives it back when the answer is written or the client gone. */
export function admitted(calls: Calls): { onRequest: onRequestHookHandler } {
  return {
    onRequest: (request, reply, done) => {
      const place = calls.admit()
      if (place === undefined) return done(noRoom('calls'))
      reply.raw.once('close', () => place.release())
      done(place.reserve(bodySize(request)) ? undefined : noRoom('bytes'))
    },
  }
}

/** Bytes that the body can take up: one that does not say, as many as are allowed. */
function bodySize({ headers, routeOptions }: FastifyRequest): number {
  const said = headers['content-length']
  if (said === undefined) return headers['transfer-encoding'] === undefined ? 0 : routeOptions.bodyLimit!
  return Math.min(Number(said), routeOptions.bodyLimit!)
}

/** Fires when the client goes away before its answer is written. */
export function clientSignal(reply: FastifyReply): AbortSignal {
  const controller = new AbortController()
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) controller.abort(new MeshError('CANCELLED', 'the client closed the connection'))
  })
  return controller.signal
}

/** Trace headers for whatever the request causes. */
export function traceHeaders(request: FastifyRequest): Record<string, string> {
  const traceparent = currentTraceParent()
  const tracestate = request.headers['tracestate']
  return { ...(traceparent === '' ? {} : { traceparent }), ...(typeof tracestate === 'string' && traceparent !== '' ? { tracestate } : {}) }
}

/** Runs a handler in the client's trace, in a server span where spans are recorded, and answers with its `traceparent`. */
export function traced<T>(telemetry: Telemetry, request: FastifyRequest, reply: FastifyReply, handle: () => Promise<T>): Promise<T> {
  const route = request.routeOptions.url ?? ''
  const run = (): Promise<T> => {
    const traceParent = currentTraceParent()
    if (traceParent !== '') reply.header('traceparent', traceParent)
    return handle()
  }
  const remote = request.headers['traceparent']
  return withRemoteParent(typeof remote === 'string' ? remote : '', () => {
    if (!telemetry.recording) return run()
    const attributes = { 'http.request.method': request.method, 'http.route': route, 'url.path': request.url.split('?', 1)[0]! }
    return telemetry.tracer.startActiveSpan(`${request.method} ${route}`, { kind: SpanKind.SERVER, attributes }, async (span) => {
      try {
        return await run()
      } catch (thrown) {
        const error = MeshError.from(thrown, 'INTERNAL')
        span.setAttributes({ 'error.type': error.code, 'http.response.status_code': errorStatus(error) })
        if (errorStatus(error) >= 500) span.setStatus({ code: SpanStatusCode.ERROR, message: error.message })
        throw thrown
      } finally {
        span.end()
      }
    })
  })
}
