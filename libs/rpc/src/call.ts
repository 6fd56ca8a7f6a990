import type { Metadata } from '@grpc/grpc-js'
import { MeshError } from '@spillway/core'

/** What a handler knows of the call it answers. */
export interface RpcCall {
  /** Fires when the caller cancels or goes away, at the deadline, and, for streams, when the server drains. */
  readonly signal: AbortSignal
  /** ms since the epoch; Infinity where the caller set none. */
  readonly deadlineMs: number
  /** Who calls, for authorisation; '' where unknown. */
  readonly principal: string
  /** W3C `traceparent` as the caller sent it; '' where it sent none. */
  readonly traceParent: string
  readonly metadata: Metadata
}

/** What came with a call. */
export interface CallOrigin {
  readonly metadata: Metadata
  /** ms since the epoch; Infinity where the caller set none. */
  readonly deadlineMs: number
  /** First value of a text header; '' where there is none. */
  header(name: string): string
}

/** A call that is being answered. The signal is made only when asked for: most unary handlers never do. */
export class ServerCall implements RpcCall {
  readonly #origin: CallOrigin
  #controller: AbortController | undefined
  #ended = false
  #reason: MeshError | undefined

  constructor(origin: CallOrigin) {
    this.#origin = origin
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#reason !== undefined) this.#controller.abort(this.#reason)
    }
    return this.#controller.signal
  }

  get deadlineMs(): number {
    return this.#origin.deadlineMs
  }

  get principal(): string {
    return ''
  }

  get traceParent(): string {
    return this.#origin.header('traceparent')
  }

  get metadata(): Metadata {
    return this.#origin.metadata
  }

  /** First value of a text header; '' where there is none. */
  header(name: string): string {
    return this.#origin.header(name)
  }

  /** Why the call was given up; undefined while it is wanted. */
  get aborted(): MeshError | undefined {
    return this.#reason
  }

  abort(reason: MeshError): void {
    if (this.#ended || this.#reason !== undefined) return
    this.#reason = reason
    this.#controller?.abort(reason)
  }

  /** The caller is gone, or its time is over; nothing where the call has been answered: an error for each of those would cost a stack trace a call. */
  giveUp(): void {
    if (!this.#ended) this.abort(new MeshError('CANCELLED', 'the caller cancelled, went away or ran out of time'))
  }

  /** The answer is on its way: nothing is aborted any more. */
  end(): void {
    this.#ended = true
  }
}
