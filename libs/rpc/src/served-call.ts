import { Metadata, status as Status, type StatusObject } from '@grpc/grpc-js'
import { MeshError } from '@spillway/core'
import type { Place } from './admission.ts'
import { type CallOrigin, ServerCall } from './call.ts'
import { encodeFields } from './http2/field-encoder.ts'
import type { RequestHead } from './http2/request-head.ts'
import type { ServerStream, StreamReader } from './http2/server-stream.ts'
import { acceptedEncodings } from './message-reader.ts'
import { statusFields, statusOf } from './status.ts'

/** How a call came to be served. */
export interface Arrival {
  readonly stream: ServerStream
  readonly head: RequestHead
  /** The room that it has been given, where there are bounds. */
  readonly place: Place | undefined
  /** From when on its time counts, ms since the epoch. */
  readonly arrivedMs: number
}

/** setTimeout's limit. */
const maxTimerMs = 0x7fffffff

/** gRPC over HTTP2, "Timeout". */
const timeoutFormat = /^(\d{1,8})([HMSmun])$/
const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 0.001, n: 0.000_001 }

export const answerFields: readonly string[] = [':status', '200', 'content-type', 'application/grpc+proto']
const answerHead: Buffer = encodeFields(answerFields)
const okTrailers: Buffer = encodeFields(['grpc-status', '0', 'grpc-message', 'OK'])

/** What the headers say of a call: metadata is made of them only for a handler that asks. */
class StreamOrigin implements CallOrigin {
  readonly deadlineMs: number
  readonly #head: RequestHead

  constructor(head: RequestHead, deadlineMs: number) {
    this.#head = head
    this.deadlineMs = deadlineMs
  }

  get metadata(): Metadata {
    const metadata = Metadata.fromHttp2Headers(this.#head)
    for (const name of ['grpc-timeout', 'grpc-encoding', 'grpc-accept-encoding', 'te', 'content-type']) metadata.remove(name)
    return metadata
  }

  header(name: string): string {
    return this.#head[name] ?? ''
  }
}

/** A gRPC call on its HTTP/2 stream: its time, and its end. What comes of its request is its kind's. */
export abstract class ServedCall implements StreamReader {
  readonly call: ServerCall
  protected readonly stream: ServerStream
  readonly #place: Place | undefined
  readonly #timeoutMs: number | undefined
  #deadline: NodeJS.Timeout | undefined
  #hasHead = false
  /** The status is on its way: what comes of the request is thrown away. */
  #isAnswered = false

  constructor({ stream, head, place, arrivedMs }: Arrival) {
    this.stream = stream
    this.#place = place
    this.#timeoutMs = timeoutOf(head['grpc-timeout'])
    this.call = new ServerCall(new StreamOrigin(head, arrivedMs + (this.#timeoutMs ?? Infinity)))
  }

  abstract data(chunk: Buffer): void
  abstract end(): void

  start(): void {
    const timeoutMs = this.#timeoutMs
    if (timeoutMs === undefined) return
    if (Number.isNaN(timeoutMs)) return this.refuse(new MeshError('INTERNAL', 'Invalid grpc-timeout value'))
    const leftMs = this.call.deadlineMs - Date.now()
    if (leftMs <= 0) this.#expired()
    else if (leftMs <= maxTimerMs) this.#deadline = setTimeout(() => this.#expired(), leftMs)
  }

  /** Whether nothing can be answered any more. */
  protected get isOver(): boolean {
    return this.#isAnswered || this.stream.isClosed
  }

  /** Sends a message with its prefix. */
  protected send(message: Buffer): void {
    if (!this.#hasHead) this.stream.respond(answerHead)
    this.#hasHead = true
    this.stream.write(message)
  }

  /** All that was to be sent has been. */
  protected succeed(): void {
    if (this.isOver) return
    this.#isAnswered = true
    this.#tellPlace(this.call.deadlineMs - Date.now())
    this.stream.end(this.#hasHead ? okTrailers : encodeFields([...answerFields, 'grpc-status', '0', 'grpc-message', 'OK']))
  }

  protected refuse(error: MeshError): void {
    this.fail(statusOf(error))
  }

  protected fail(status: StatusObject): void {
    if (this.isOver) return
    this.#isAnswered = true
    if (status.code === Status.DEADLINE_EXCEEDED) this.#tellPlace(0)
    // gRPC's compression, "Specifics": a caller that compressed as nobody reads it is told what is read.
    const accepted = status.code === Status.UNIMPLEMENTED ? ['grpc-accept-encoding', acceptedEncodings] : []
    this.stream.end(encodeFields([...(this.#hasHead ? [] : answerFields), ...accepted, ...statusFields(status)]))
  }

  closed(): void {
    clearTimeout(this.#deadline)
    // Callers hang up when their time is over, which they may know first.
    if (!this.#isAnswered && this.call.deadlineMs - Date.now() <= (this.#timeoutMs ?? 0) / 10) this.#tellPlace(0)
    this.call.giveUp()
  }

  #tellPlace(leftMs: number): void {
    if (this.#timeoutMs !== undefined) this.#place?.answered?.(leftMs, this.#timeoutMs)
  }

  #expired(): void {
    this.refuse(new MeshError('DEADLINE_EXCEEDED', 'Deadline exceeded'))
    this.call.giveUp()
  }
}

/** In ms; undefined where there is none, NaN where it is malformed. */
function timeoutOf(header: string | undefined): number | undefined {
  if (header === undefined) return undefined
  const match = timeoutFormat.exec(header)
  return match === null ? NaN : Number(match[1]) * unitMs[match[2]!]!
}
