import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { Metadata, status as Status, type StatusObject } from '@grpc/grpc-js'
import { MeshError } from '@spillway/core'
import type { Place } from './admission.ts'
import { type CallOrigin, ServerCall } from './call.ts'
import { answerUnary, type Binding, type UnaryRpc } from './handler.ts'
import { statusOf } from './status.ts'

/** A method with one request and one response. */
export interface UnaryRoute {
  readonly rpc: UnaryRpc
  readonly binding: Binding
  /** A response's bytes. */
  readonly write: (response: unknown) => Uint8Array
  /** Limit of a message in and out. */
  readonly maxMessageBytes: number
}

/** How a call came to be served. */
export interface Arrival {
  /** The room that it has been given, where there are bounds. */
  readonly place: Place | undefined
  /** From when on its time counts, ms since the epoch. */
  readonly arrivedMs: number
}

/** Compressed flag and length (gRPC over HTTP2, "Length-Prefixed-Message"). */
export const prefixBytes = 5

/** setTimeout's limit. */
const maxTimerMs = 0x7fffffff

/** gRPC over HTTP2, "Timeout". */
const timeoutFormat = /^(\d{1,8})([HMSmun])$/
const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 0.001, n: 0.000_001 }

const answerHeaders: readonly string[] = [':status', '200', 'content-type', 'application/grpc+proto']
const answerOptions = { waitForTrailers: true, sendDate: false } as const
/** For trailers alone. */
export const endOptions = { endStream: true, sendDate: false } as const
const okTrailers = { 'grpc-status': '0', 'grpc-message': 'OK' } as const

/** Whether `serveUnary` can read the request: what is compressed, or no gRPC, is left to grpc-js. */
export function isPlain(headers: IncomingHttpHeaders): boolean {
  const encoding = headers['grpc-encoding']
  return headers['content-type']?.startsWith('application/grpc') === true && (encoding === undefined || encoding === 'identity')
}

/** What the headers say of a call: metadata is made of them only for a handler that asks. */
class StreamOrigin implements CallOrigin {
  readonly deadlineMs: number
  readonly #headers: IncomingHttpHeaders

  constructor(headers: IncomingHttpHeaders, deadlineMs: number) {
    this.#headers = headers
    this.deadlineMs = deadlineMs
  }

  get metadata(): Metadata {
    const metadata = Metadata.fromHttp2Headers(this.#headers)
    for (const name of ['grpc-timeout', 'grpc-encoding', 'grpc-accept-encoding', 'te', 'content-type']) metadata.remove(name)
    return metadata
  }

  header(name: string): string {
    const value = this.#headers[name]
    return typeof value === 'string' ? value : ''
  }
}

/**
 * Answers a unary call on its HTTP/2 stream: grpc-js, which holds one call like a stream of many messages, takes about as much of the processor again as
 * HTTP/2 itself.
 */
export function serveUnary(route: UnaryRoute, stream: ServerHttp2Stream, headers: IncomingHttpHeaders, arrival: Arrival): void {
  new UnaryStream(route, stream, headers, arrival).start()
}

class UnaryStream {
  readonly #route: UnaryRoute
  readonly #stream: ServerHttp2Stream
  readonly #call: ServerCall
  readonly #place: Place | undefined
  #deadline: NodeJS.Timeout | undefined
  readonly #timeoutMs: number | undefined
  readonly #parts: Buffer[] = []
  #received = 0
  /** Prefix and message; undefined while the prefix is not there. */
  #expected: number | undefined
  /** The status is on its way: what comes of the request is thrown away. */
  #answered = false

  constructor(route: UnaryRoute, stream: ServerHttp2Stream, headers: IncomingHttpHeaders, { place, arrivedMs }: Arrival) {
    this.#route = route
    this.#stream = stream
    this.#place = place
    this.#timeoutMs = timeoutOf(headers['grpc-timeout'])
    this.#call = new ServerCall(new StreamOrigin(headers, arrivedMs + (this.#timeoutMs ?? Infinity)))
  }

  start(): void {
    const timeoutMs = this.#timeoutMs
    this.#stream
      .on('error', ignore)
      .on('data', (chunk: Buffer) => this.#read(chunk))
      .on('end', () => this.#run())
      .on('close', () => this.#closed())
    if (timeoutMs === undefined) return
    if (Number.isNaN(timeoutMs)) return this.#refuse('INTERNAL', 'Invalid grpc-timeout value')
    const leftMs = this.#call.deadlineMs - Date.now()
    if (leftMs <= 0) this.#expired()
    else if (leftMs <= maxTimerMs) this.#deadline = setTimeout(() => this.#expired(), leftMs)
  }

  #read(chunk: Buffer): void {
    if (this.#answered) return
    this.#parts.push(chunk)
    this.#received += chunk.length
    if (this.#expected === undefined && this.#received >= prefixBytes) this.#expect(this.#all())
    if (this.#expected !== undefined && this.#received > this.#expected)
      this.#refuse('UNIMPLEMENTED', `${this.#route.binding.path} takes one message: more came`)
  }

  /** Reads the prefix. */
  #expect(bytes: Buffer): void {
    const { maxMessageBytes } = this.#route
    const length = bytes.readUInt32BE(1)
    this.#expected = prefixBytes + length
    if (bytes[0] !== 0) this.#refuse('INTERNAL', 'the message is compressed, and the headers name no encoding')
    else if (length > maxMessageBytes)
      this.#refuse('RESOURCE_EXHAUSTED', `Received message larger than max (${length} vs. ${maxMessageBytes})`)
  }

  #all(): Buffer {
    return this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts, this.#received)
  }

  /** The request has come to its end. */
  #run(): void {
    if (this.#isOver()) return
    const { rpc, binding } = this.#route
    if (this.#received === 0) return this.#refuse('UNIMPLEMENTED', `${binding.path} takes one message: none came`)
    if (this.#received !== this.#expected) return this.#refuse('INTERNAL', 'the message ends before its length')
    const bytes = this.#all().subarray(prefixBytes)
    this.#parts.length = 0
    answerUnary(rpc, binding, bytes, this.#call, this.#respond)
  }

  readonly #respond = (status: StatusObject | null, response?: unknown): void => {
    if (status !== null) return this.#end(status)
    const message = this.#route.write(response)
    const { maxMessageBytes } = this.#route
    if (message.length > maxMessageBytes)
      return this.#refuse('RESOURCE_EXHAUSTED', `Sent message larger than max (${message.length} vs. ${maxMessageBytes})`)
    if (this.#isOver()) return
    const stream = this.#stream
    const frame = Buffer.allocUnsafe(prefixBytes + message.length)
    frame[0] = 0
    frame.writeUInt32BE(message.length, 1)
    frame.set(message, prefixBytes)
    this.#answered = true
    this.#tellPlace(this.#call.deadlineMs - Date.now())
    stream.respond(answerHeaders, answerOptions)
    stream.once('wantTrailers', sendOk)
    stream.end(frame)
  }

  #refuse(code: MeshError['code'], message: string): void {
    this.#end(statusOf(new MeshError(code, message)))
  }

  /** Trailers alone. */
  #end({ code, details, metadata }: StatusObject): void {
    if (this.#isOver()) return
    this.#answered = true
    this.#parts.length = 0
    if (code === Status.DEADLINE_EXCEEDED) this.#tellPlace(0)
    const status = { 'grpc-status': String(code), 'grpc-message': encodeURI(details) }
    this.#stream.respond({ ':status': 200, 'content-type': 'application/grpc+proto', ...status, ...metadata.toHttp2Headers() }, endOptions)
    this.#stream.resume()
  }

  #tellPlace(leftMs: number): void {
    if (this.#timeoutMs !== undefined) this.#place?.answered?.(leftMs, this.#timeoutMs)
  }

  #isOver(): boolean {
    return this.#answered || this.#stream.destroyed || this.#stream.closed
  }

  #expired(): void {
    this.#refuse('DEADLINE_EXCEEDED', 'Deadline exceeded')
    this.#call.giveUp()
  }

  #closed(): void {
    clearTimeout(this.#deadline)
    // Callers hang up when their time is over, which they may know first.
    if (!this.#answered && this.#call.deadlineMs - Date.now() <= (this.#timeoutMs ?? 0) / 10) this.#tellPlace(0)
    this.#call.giveUp()
  }
}

function sendOk(this: ServerHttp2Stream): void {
  this.sendTrailers(okTrailers)
}

function ignore(): void {
  // A close follows, which is all that counts.
}

/** In ms; undefined where there is none, NaN where it is malformed. */
function timeoutOf(header: string | string[] | undefined): number | undefined {
  if (header === undefined) return undefined
  const match = timeoutFormat.exec(String(header))
  return match === null ? NaN : Number(match[1]) * unitMs[match[2]!]!
}
