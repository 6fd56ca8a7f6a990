import type { Metadata } from '@grpc/grpc-js'
import { MeshError } from '@spillway/core'
import { headerText } from './trace-context.ts'

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

/** What calls of every kind have. */
interface GrpcCall {
  readonly metadata: Metadata
  getDeadline(): Date | number
  once(event: 'cancelled', listener: () => void): unknown
}

/** The call as grpc-js holds it. The signal is made only when asked for: most unary handlers never do. */
export class ServerCall implements RpcCall {
  readonly #call: GrpcCall
  #controller: AbortController | undefined
  #ended = false
  #reason: MeshError | undefined

  constructor(call: GrpcCall) {
    this.#call = call
    // grpc-js emits this after a completed call too, which `end` tells apart: an error for each of those would cost a stack trace a call.
    call.once('cancelled', () => {
      if (!this.#ended) this.abort(new MeshError('CANCELLED', 'the caller cancelled, went away or ran out of time'))
    })
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#reason !== undefined) this.#controller.abort(this.#reason)
    }
    return this.#controller.signal
  }

  get deadlineMs(): number {
    const deadline = this.#call.getDeadline()
    return typeof deadline === 'number' ? deadline : deadline.getTime()
  }

  get principal(): string {
    return ''
  }

  get traceParent(): string {
    return headerText(this.#call.metadata, 'traceparent')
  }

  get metadata(): Metadata {
    return this.#call.metadata
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

  /** The answer is on its way: nothing is aborted any more. */
  end(): void {
    this.#ended = true
  }
}
