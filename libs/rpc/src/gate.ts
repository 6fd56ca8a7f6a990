import type { Http2Server, IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import type { Server } from '@grpc/grpc-js'
import { codeNumbers, MeshError } from '@spillway/core'
import { type Admission, noRoom, type Place } from './admission.ts'
import { ArrivalClock } from './arrival-clock.ts'
import { endOptions, isPlain, prefixBytes, serveUnary, type UnaryRoute } from './unary-stream.ts'

export interface GateOptions {
  /** Methods with one request and one response, by path: answered here. */
  readonly routes: ReadonlyMap<string, UnaryRoute>
  /** By path: `/package.Service/Method`. */
  readonly admissions: ReadonlyMap<string, Admission>
  readonly maxMessageBytes: number
  /** How long a request may take to arrive. */
  readonly requestTimeoutMs: number
}

type StreamListener = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void
type DataListener = (chunk: Buffer) => void

/**
 * What a client may send ahead of the server's reading, on a stream and on a connection. HTTP/2's own 65,535 bytes are few: so much went over a connection in
 * one round trip, and no more of large requests could wait to be run together.
 */
const windowBytes = 2 ** 20

const noRoomForCalls = trailersOnly(noRoom('calls'))
const noRoomForBytes = trailersOnly(noRoom('bytes'))
const tooSlow = trailersOnly(new MeshError('DEADLINE_EXCEEDED', 'the request did not arrive in time'))

/**
 * Stands between the HTTP/2 server and grpc-js: answers unary calls, and refuses those of methods with an admission, of which grpc-js would make a call first
 * (four times the work of a bare answer) and read its request whatever else is being read. A refusal is one header frame; what comes of its request is thrown
 * away.
 * @throws MeshError INTERNAL where grpc-js has changed: it has no public way to its HTTP/2 servers.
 */
export function gateStreams(server: Server, options: GateOptions): void {
  const { http2Servers } = server as unknown as { readonly http2Servers?: ReadonlyMap<Http2Server, unknown> }
  if (http2Servers === undefined || http2Servers.size === 0) throw unknownLayout()
  for (const http2Server of http2Servers.keys()) gate(http2Server, options)
}

function unknownLayout(): MeshError {
  return new MeshError('INTERNAL', 'this version of grpc-js keeps its HTTP/2 servers elsewhere: calls cannot be bounded')
}

function gate(http2Server: Http2Server, options: GateOptions): void {
  const [next, ...others] = http2Server.listeners('stream') as StreamListener[]
  if (next === undefined || others.length > 0) throw unknownLayout()
  http2Server.removeListener('stream', next)
  const clock = new ArrivalClock()
  http2Server.updateSettings({ initialWindowSize: windowBytes })
  http2Server.on('session', (session) => session.setLocalWindowSize(windowBytes))
  http2Server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    const path = headers[':path'] ?? ''
    const route = options.routes.get(path)
    const serve = (place?: Place): void =>
      route !== undefined && isPlain(headers)
        ? serveUnary(route, stream, headers, { place, arrivedMs: clock.arrivedMs() })
        : next(stream, headers)
    const admission = options.admissions.get(path)
    if (admission === undefined) return serve()
    const place = admission.admit(headers['grpc-timeout'] === undefined)
    if (place === undefined) return refuse(stream, noRoomForCalls)
    stream.once('close', () => place.release())
    serve(place)
    watchRequest(stream, place, options)
  })
}

/** Refuses the request at its first bytes, which say how long it is, or when it has not arrived in time. */
function watchRequest(stream: ServerHttp2Stream, place: Place, { maxMessageBytes, requestTimeoutMs }: GateOptions): void {
  const [read] = stream.listeners('data') as DataListener[]
  if (read === undefined) return
  const timer = setTimeout(() => cut(stream, tooSlow), requestTimeoutMs)
  const arrived = (): void => clearTimeout(timer)
  stream.once('end', arrived).once('close', arrived)
  let fits: boolean | undefined
  stream.removeListener('data', read)
  stream.on('data', (chunk: Buffer) => {
    if (fits === undefined) {
      const sent = sentBytes(chunk, maxMessageBytes)
      // What is compressed may become as large as is allowed.
      fits = place.reserve(chunk[0] === 0 ? sent : maxMessageBytes, sent)
      if (!fits) cut(stream, noRoomForBytes)
    }
    if (fits) read(chunk)
  })
}

/** The message's length by the request's first bytes; where they do not say, as much as is allowed. */
function sentBytes(chunk: Buffer, maxMessageBytes: number): number {
  if (chunk.length < prefixBytes) return maxMessageBytes
  return Math.min(chunk.readUInt32BE(1), maxMessageBytes)
}

function ignore(): void {
  // Of a stream that is over: its close is all that counts.
}

function refuse(stream: ServerHttp2Stream, headers: readonly string[]): void {
  stream.on('error', ignore)
  stream.respond(headers, endOptions)
  // Thrown away, not reset: a client that met a reset by one of its own for each call would look to Node.js like an attack (CVE-2023-44487).
  stream.resume()
}

/** Ends a stream that grpc-js knows of, which then takes it as cancelled. */
function cut(stream: ServerHttp2Stream, headers: readonly string[]): void {
  if (stream.destroyed || stream.closed) return
  if (!stream.headersSent) stream.respond(headers, endOptions)
  stream.close()
}

/** gRPC over HTTP2, "Trailers-Only"; when to come again as in gRPC's retry design (A6, "Pushback"). */
function trailersOnly({ code, message }: MeshError): readonly string[] {
  const pushback = code === 'RESOURCE_EXHAUSTED' ? ['grpc-retry-pushback-ms', '1000'] : []
  const status = ['grpc-status', String(codeNumbers[code]), 'grpc-message', encodeURI(message)]
  return [':status', '200', 'content-type', 'application/grpc+proto', ...status, ...pushback]
}
