import { MeshError } from '@spillway/core'
import { failed, inServerSpan } from './answer.ts'
import type { BidiStreamRpc, ServerStreamRpc } from './handler.ts'
import { checkEncoding, decompressed, detached, type Message, MessageReader } from './message-reader.ts'
import { readRequest, type ServedMethod, writeResponse } from './method.ts'
import { type Arrival, ServedCall } from './served-call.ts'

/** A call whose handler answers with a stream: it takes requests, and sends responses, only as fast as the other end does. */
export class StreamedCall extends ServedCall {
  readonly #method: ServedMethod<ServerStreamRpc | BidiStreamRpc>
  readonly #encoding: string | undefined
  readonly #reader: MessageReader
  readonly #messages: Message[] = []
  /** Came, and is not given back to the client's window. */
  #heldBytes = 0
  /** Why no more messages can be read. */
  #failure: MeshError | undefined
  #isWhole = false
  readonly #others: Set<StreamedCall>
  /** Goes on with who waits for a message; a handler may do so while its response waits. */
  #wakeReader: (() => void) | undefined
  /** Goes on with who waits for the client to read. */
  #wakeWriter: (() => void) | undefined

  /** @param others it is one of these until it is over */
  constructor(method: ServedMethod<ServerStreamRpc | BidiStreamRpc>, arrival: Arrival, others: Set<StreamedCall>) {
    super(arrival)
    this.#others = others
    this.#method = method
    this.#encoding = arrival.head['grpc-encoding']
    this.#reader = new MessageReader(method.maxMessageBytes)
    this.stream.keepsCount = true
    this.stream.onDrain = () => this.#wakeWriter?.()
  }

  override start(): void {
    super.start()
    if (this.isOver) return
    this.#others.add(this)
    this.call.signal.addEventListener('abort', this.#wake, { once: true })
    const method = this.#method
    void inServerSpan(method, this.call, async (span) => {
      try {
        await this.#respond()
        this.call.end()
        this.succeed()
      } catch (error) {
        const status = failed(this.call.aborted ?? error, method, this.call, span)
        this.call.end()
        this.fail(status)
      } finally {
        this.#others.delete(this)
        // What still comes is thrown away.
        this.#give()
        this.stream.keepsCount = false
        span?.end()
      }
    })
  }

  override data(chunk: Buffer): void {
    if (!this.stream.keepsCount) return
    this.#heldBytes += chunk.length
    if (this.isOver || this.#failure !== undefined) return this.#give()
    this.#reader.push(chunk)
    try {
      checkEncoding(this.#encoding)
      for (let next = this.#reader.next(); next !== undefined; next = this.#reader.next()) this.#messages.push(detached(next))
    } catch (error) {
      this.#failure = MeshError.from(error)
    }
    // A message may be larger than the window.
    if (this.#messages.length === 0) this.#give()
    this.#wakeReader?.()
  }

  override end(): void {
    if (!this.#reader.isEmpty) this.#failure ??= new MeshError('INTERNAL', 'the message ends before its length')
    this.#isWhole = true
    this.#wakeReader?.()
  }

  override closed(): void {
    super.closed()
    this.#give()
    this.#wake()
  }

  async #respond(): Promise<void> {
    for await (const response of await this.#responses()) {
      this.#expectWanted()
      this.send(writeResponse(this.#method, response))
      while (this.stream.isFull && this.call.aborted === undefined) await new Promise<void>((resolve) => (this.#wakeWriter = resolve))
    }
    this.#expectWanted()
  }

  async #responses(): Promise<AsyncIterable<unknown>> {
    const { rpc, path } = this.#method
    if (rpc.kind === 'bidiStream') return rpc.handle(this.#requests(), this.call)
    const request = await this.#next()
    if (request === undefined) throw new MeshError('UNIMPLEMENTED', `${path} takes one message: none came`)
    if ((await this.#next()) !== undefined) throw new MeshError('UNIMPLEMENTED', `${path} takes one message: more came`)
    return rpc.handle(readRequest(this.#method, request), this.call)
  }

  async *#requests(): AsyncGenerator<never> {
    for (let next = await this.#next(); next !== undefined; next = await this.#next()) yield readRequest(this.#method, next)
  }

  /** @returns undefined behind the last */
  async #next(): Promise<Buffer | undefined> {
    while (this.#messages.length === 0) {
      this.#expectWanted()
      if (this.#failure !== undefined) throw this.#failure
      if (this.#isWhole) return undefined
      await new Promise<void>((resolve) => (this.#wakeReader = resolve))
    }
    const message = this.#messages.shift()!
    if (this.#messages.length === 0) this.#give()
    return message.isCompressed ? decompressed(message, this.#encoding, this.#method.maxMessageBytes) : message.bytes
  }

  readonly #wake = (): void => {
    this.#wakeReader?.()
    this.#wakeWriter?.()
  }

  #expectWanted(): void {
    if (this.call.aborted !== undefined) throw this.call.aborted
  }

  #give(): void {
    this.stream.taken(this.#heldBytes)
    this.#heldBytes = 0
  }
}
