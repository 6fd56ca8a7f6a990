import { MeshError } from '@spillway/core'
import { type Admission, noRoom, type Place } from './admission.ts'
import { ArrivalClock } from './arrival-clock.ts'
import type { BidiStreamRpc, ServerStreamRpc, UnaryRpc } from './handler.ts'
import { encodeFields } from './http2/field-encoder.ts'
import type { RequestHead } from './http2/request-head.ts'
import type { ServerStream, StreamReader } from './http2/server-stream.ts'
import { prefixBytes, type ServedMethod } from './method.ts'
import type { Relay } from './relay.ts'
import { answerFields, type Arrival, type ServedCall } from './served-call.ts'
import { statusFields, statusOf } from './status.ts'
import { StreamedCall } from './streamed-call.ts'
import { UnaryCall } from './unary-call.ts'

interface Route {
  readonly method: ServedMethod
  readonly admission: Admission | undefined
}

/** gRPC over HTTP2, "Content-Type". */
const grpcType = 'application/grpc'
const notGrpc = encodeFields([':status', '415', 'accept-post', 'application/grpc, application/grpc+proto'])
const noRoomForCalls = refusal(noRoom('calls'))
const noRoomForBytes = refusal(noRoom('bytes'))
const tooSlow = refusal(new MeshError('DEADLINE_EXCEEDED', 'the request did not arrive in time'))

/**
 * Begins the calls of served methods, relays those of grpc-js's, and refuses the others, and what there is no room for: a refusal is one header frame, and what comes of
 * its request is thrown away.
 */
export class Front {
  readonly #routes = new Map<string, Route>()
  readonly #requestTimeoutMs: number
  readonly #clock = new ArrivalClock()
  readonly #streamed = new Set<StreamedCall>()

  /** @param requestTimeoutMs how long a request of a method with an admission may take to arrive */
  constructor(requestTimeoutMs: number) {
    this.#requestTimeoutMs = requestTimeoutMs
  }

  serve(method: ServedMethod, admission: Admission | undefined): void {
    this.#routes.set(method.path, { method, admission })
  }

  begin(stream: ServerStream, head: RequestHead, relay: Relay): void {
    if (!isGrpc(head['content-type'])) return stream.end(notGrpc)
    const path = head[':path']!
    const route = this.#routes.get(path)
    if (route === undefined && relay.takes(path)) return relay.begin(stream, head)
    if (route === undefined) return stream.end(refusal(new MeshError('UNIMPLEMENTED', `the server does not implement the method ${path}`)))
    const { method, admission } = route
    const place = admission?.admit(head['grpc-timeout'] === undefined)
    // Thrown away, not reset: a client that met a reset by one of its own for each call would look like an attack (CVE-2023-44487).
    if (admission !== undefined && place === undefined) return stream.end(noRoomForCalls)
    const call = this.#call(method, { stream, head, place, arrivedMs: this.#clock.arrivedMs() })
    stream.reader = place === undefined ? call : new BoundedRequest(stream, call, { place, method, timeoutMs: this.#requestTimeoutMs })
    call.start()
  }

  #call(method: ServedMethod, arrival: Arrival): ServedCall {
    if (method.rpc.kind === 'unary') return new UnaryCall(method as ServedMethod<UnaryRpc>, arrival)
    return new StreamedCall(method as ServedMethod<ServerStreamRpc | BidiStreamRpc>, arrival, this.#streamed)
  }

  /** Ends the calls that would go on for ever. */
  endStreams(reason: MeshError): void {
    for (const { call } of this.#streamed) call.abort(reason)
  }
}

interface Bounds {
  readonly place: Place
  readonly method: ServedMethod
  readonly timeoutMs: number
}

/** Refuses the request at its first bytes, which say how long it is, or when it has not arrived in time. */
class BoundedRequest implements StreamReader {
  readonly #stream: ServerStream
  readonly #reader: StreamReader
  readonly #place: Place
  readonly #maxMessageBytes: number
  readonly #timer: NodeJS.Timeout
  #fits: boolean | undefined

  constructor(stream: ServerStream, reader: StreamReader, { place, method, timeoutMs }: Bounds) {
    this.#stream = stream
    this.#reader = reader
    this.#place = place
    this.#maxMessageBytes = method.maxMessageBytes
    this.#timer = setTimeout(() => this.#cut(tooSlow), timeoutMs)
  }

  data(chunk: Buffer): void {
    if (this.#fits === undefined) {
      const sent = this.#sentBytes(chunk)
      // What is compressed may become as large as is allowed.
      this.#fits = this.#place.reserve(chunk[0] === 0 ? sent : this.#maxMessageBytes, sent)
      if (!this.#fits) return this.#cut(noRoomForBytes)
    }
    this.#reader.data(chunk)
  }

  end(): void {
    clearTimeout(this.#timer)
    this.#reader.end()
  }

  closed(): void {
    clearTimeout(this.#timer)
    this.#place.release()
    this.#reader.closed()
  }

  /** The message's length by the request's first bytes; where they do not say, as much as is allowed. */
  #sentBytes(chunk: Buffer): number {
    return chunk.length < prefixBytes ? this.#maxMessageBytes : Math.min(chunk.readUInt32BE(1), this.#maxMessageBytes)
  }

  #cut(block: Buffer): void {
    this.#stream.reader = undefined
    this.#stream.end(block)
    this.closed()
  }
}

/** gRPC-Web's types begin like gRPC's, and frame the end of an answer otherwise. */
function isGrpc(type: string | undefined): boolean {
  if (type?.startsWith(grpcType) !== true) return false
  const next = type[grpcType.length]
  return next === undefined || next === '+' || next === ';'
}

/** When to come again as in gRPC's retry design (A6, "Pushback"). */
function refusal(error: MeshError): Buffer {
  const status = statusOf(error)
  if (error.code === 'RESOURCE_EXHAUSTED') status.metadata.set('grpc-retry-pushback-ms', '1000')
  return encodeFields([...answerFields, ...statusFields(status)])
}
