import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import type { Call } from './serving-calls.ts'
import { type Answer, type Caller, lost, nothing } from './serving-caller.ts'
import { requestBlocks, StatusReader } from './serving-header-blocks.ts'

// RFC 9113, 6: types of frames, and their flags.
const frameType = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, windowUpdate: 8, continuation: 9 } as const
const endStream = 0x1
const acknowledgement = 0x1
const endHeaders = 0x4
const padded = 0x8
const prioritised = 0x20
const settingInitialWindow = 0x4
const frameHeadBytes = 9
const mostFrameBytes = 16_384
/** What a connection, and a stream, may be sent before its peer says more. */
const defaultWindowBytes = 65_535

const preface: Buffer = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
/** Answers are never waited for by their server: nobody reads them bit by bit. */
const ownWindowBytes = 2 ** 30

interface Pending {
  readonly done: (answer: Answer) => void
  status: string | undefined
  body: Buffer
}

/**
 * Unary calls over one HTTP/2 connection on a plain socket, the same request time and again: Node's own client takes as much of the processor as the server
 * that is measured, and gRPC's more.
 */
export async function grpcCaller(port: number, call: Call, deadlineMs: number | undefined): Promise<Caller> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  await once(socket, 'connect')
  return new GrpcConnection(socket, port, call, deadlineMs)
}

class GrpcConnection implements Caller {
  readonly #socket: Socket
  readonly #requests: { readonly first: Buffer; readonly later: Buffer }
  /** Of the request's frames that count for flow control, bytes. */
  readonly #dataBytes: number
  readonly #statuses = new StatusReader()
  readonly #pending = new Map<number, Pending>()
  /** No room in the connection's window yet. */
  readonly #waiting: ((answer: Answer) => void)[] = []
  #room = defaultWindowBytes
  #nextStream = 1
  #read = nothing
  #readBytes = 0

  constructor(socket: Socket, port: number, { path, headers, body }: Call, deadlineMs: number | undefined) {
    this.#socket = socket
    const blocks = requestBlocks({
      ':method': 'POST',
      ':scheme': 'http',
      ':path': path,
      ':authority': `127.0.0.1:${port}`,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...(deadlineMs === undefined ? {} : { 'grpc-timeout': `${deadlineMs}m` }),
      ...headers,
    })
    const data = dataFrames(body)
    this.#dataBytes = 5 + body.length
    if (this.#dataBytes > defaultWindowBytes)
      throw new Error(`a request of the benchmark has ${body.length} bytes: it is sent at once or not at all`)
    const request = (block: Buffer): Buffer => Buffer.concat([frame(frameType.headers, endHeaders, block), ...data])
    this.#requests = { first: request(blocks.first), later: request(blocks.later) }
    socket.on('data', (chunk: Buffer) => this.#receive(chunk))
    socket.on('error', () => undefined)
    socket.once('close', () => this.#closed())
    socket.write(Buffer.concat([preface, settings(settingInitialWindow, ownWindowBytes), windowUpdate(ownWindowBytes)]))
  }

  call(done: (answer: Answer) => void): void {
    if (this.#socket.destroyed) return void setImmediate(done, lost)
    if (this.#room < this.#dataBytes) return void this.#waiting.push(done)
    this.#room -= this.#dataBytes
    const stream = this.#nextStream
    this.#nextStream += 2
    const bytes = Buffer.from(stream === 1 ? this.#requests.first : this.#requests.later)
    for (let at = 0; at < bytes.length; at += frameHeadBytes + bytes.readUIntBE(at, 3)) bytes.writeUInt32BE(stream, at + 5)
    this.#pending.set(stream, { done, status: undefined, body: nothing })
    this.#send(bytes)
  }

  /** All that is sent in a turn is written at once. */
  #send(bytes: Buffer): void {
    if (this.#socket.writableCorked === 0) {
      this.#socket.cork()
      setImmediate(() => this.#socket.uncork())
    }
    this.#socket.write(bytes)
  }

  #receive(chunk: Buffer): void {
    const bytes = this.#read.length === 0 ? chunk : Buffer.concat([this.#read, chunk])
    let at = 0
    while (bytes.length - at >= frameHeadBytes) {
      const end = at + frameHeadBytes + bytes.readUIntBE(at, 3)
      if (end > bytes.length) break
      this.#frame(bytes[at + 3]!, bytes[at + 4]!, bytes.readUInt32BE(at + 5), bytes.subarray(at + frameHeadBytes, end))
      at = end
    }
    this.#read = bytes.subarray(at)
  }

  #frame(type: number, flags: number, stream: number, payload: Buffer): void {
    if (type === frameType.windowUpdate && stream === 0) this.#enlarge(payload.readUInt32BE(0))
    else if (type === frameType.settings && (flags & acknowledgement) === 0) this.#send(frame(frameType.settings, acknowledgement, nothing))
    else if (type === frameType.ping && (flags & acknowledgement) === 0) this.#send(frame(frameType.ping, acknowledgement, payload))
    else if (type === frameType.reset) this.#ended(stream)
    else if (type === frameType.continuation)
      throw new Error('the server sends headers of more than a frame, which the benchmark does not read')
    else if (type === frameType.data || type === frameType.headers) this.#answer(type, flags, stream, payload)
  }

  #answer(type: number, flags: number, stream: number, payload: Buffer): void {
    if ((flags & padded) !== 0 || (type === frameType.headers && (flags & prioritised) !== 0))
      throw new Error('the server pads or prioritises its answers, which the benchmark does not read')
    const pending = this.#pending.get(stream)
    if (type === frameType.headers) {
      const status = this.#statuses.read(payload)
      if (pending !== undefined) pending.status = status ?? pending.status
    } else {
      this.#count(payload.length)
      if (pending !== undefined) pending.body = pending.body.length === 0 ? payload : Buffer.concat([pending.body, payload])
    }
    if ((flags & endStream) !== 0) this.#ended(stream)
  }

  #ended(stream: number): void {
    const pending = this.#pending.get(stream)
    this.#pending.delete(stream)
    if (pending === undefined) return
    const { done, status, body } = pending
    done(status === undefined ? lost : { outcome: status, body: body.subarray(5) })
  }

  #enlarge(bytes: number): void {
    this.#room += bytes
    while (this.#waiting.length > 0 && this.#room >= this.#dataBytes) this.call(this.#waiting.shift()!)
  }

  #count(bytes: number): void {
    this.#readBytes += bytes
    if (this.#readBytes < ownWindowBytes / 2) return
    this.#send(windowUpdate(this.#readBytes))
    this.#readBytes = 0
  }

  #closed(): void {
    const left = [...this.#pending.values()]
    this.#pending.clear()
    for (const { done } of left) done(lost)
    for (const done of this.#waiting.splice(0)) done(lost)
  }

  async close(): Promise<void> {
    if (this.#socket.closed) return
    const ended = once(this.#socket, 'close')
    this.#socket.destroy()
    await ended
  }
}

/** Of no stream yet. */
function frame(type: number, flags: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(frameHeadBytes)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = type
  head[4] = flags
  return Buffer.concat([head, payload])
}

/** gRPC over HTTP2, "Length-Prefixed-Message", in as many frames as it takes. */
function dataFrames(message: Buffer): readonly Buffer[] {
  const prefixed = Buffer.concat([Buffer.alloc(5), message])
  prefixed.writeUInt32BE(message.length, 1)
  const frames: Buffer[] = []
  for (let at = 0; at < prefixed.length; at += mostFrameBytes) {
    const part = prefixed.subarray(at, at + mostFrameBytes)
    frames.push(frame(frameType.data, at + part.length === prefixed.length ? endStream : 0, part))
  }
  return frames
}

function settings(id: number, value: number): Buffer {
  const payload = Buffer.alloc(6)
  payload.writeUInt16BE(id, 0)
  payload.writeUInt32BE(value, 2)
  return frame(frameType.settings, 0, payload)
}

function windowUpdate(bytes: number): Buffer {
  const payload = Buffer.alloc(4)
  payload.writeUInt32BE(bytes, 0)
  return frame(frameType.windowUpdate, 0, payload)
}
