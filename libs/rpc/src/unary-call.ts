import type { StatusObject } from '@grpc/grpc-js'
import { MeshError } from '@spillway/core'
import { answerUnary } from './answer.ts'
import type { UnaryRpc } from './handler.ts'
import { checkEncoding, decompressed, type Message, MessageReader } from './message-reader.ts'
import { type ServedMethod, writeResponse } from './method.ts'
import { type Arrival, ServedCall } from './served-call.ts'

/** A call of one request and one response. */
export class UnaryCall extends ServedCall {
  readonly #method: ServedMethod<UnaryRpc>
  readonly #encoding: string | undefined
  readonly #reader: MessageReader
  #message: Message | undefined

  constructor(method: ServedMethod<UnaryRpc>, arrival: Arrival) {
    super(arrival)
    this.#method = method
    this.#encoding = arrival.head['grpc-encoding']
    this.#reader = new MessageReader(method.maxMessageBytes)
  }

  override data(chunk: Buffer): void {
    if (this.isOver) return
    this.#reader.push(chunk)
    try {
      if (this.#message === undefined) this.#read()
      if (this.#message !== undefined && !this.#reader.isEmpty)
        throw new MeshError('UNIMPLEMENTED', `${this.#method.path} takes one message: more came`)
    } catch (error) {
      this.refuse(MeshError.from(error))
    }
  }

  #read(): void {
    checkEncoding(this.#encoding)
    this.#message = this.#reader.next()
  }

  override end(): void {
    if (this.isOver) return
    const { path, maxMessageBytes } = this.#method
    const message = this.#message
    if (message?.isCompressed === false) return this.#run(message.bytes)
    if (message !== undefined)
      return void decompressed(message, this.#encoding, maxMessageBytes).then(
        (bytes) => this.#run(bytes),
        (error: unknown) => this.refuse(MeshError.from(error)),
      )
    if (this.#reader.isEmpty) this.refuse(new MeshError('UNIMPLEMENTED', `${path} takes one message: none came`))
    else this.refuse(new MeshError('INTERNAL', 'the message ends before its length'))
  }

  #run(bytes: Buffer): void {
    if (this.isOver) return
    this.#message = undefined
    answerUnary(this.#method, bytes, this.call, this.#respond)
  }

  readonly #respond = (status: StatusObject | null, response?: unknown): void => {
    if (status !== null) return this.fail(status)
    if (this.isOver) return
    try {
      this.send(writeResponse(this.#method, response))
    } catch (error) {
      return this.refuse(MeshError.from(error))
    }
    this.succeed()
  }
}
