import { createConnection, type Socket } from 'node:net'
import { FieldDecoder } from '../../src/http2/field-decoder.ts'
import { flag, frameHeadBytes, frameType, ping, preface, type Setting, settings, settingsAck } from './raw-frames.ts'

/** A frame that the server sent. */
export interface Frame {
  readonly type: number
  readonly flags: number
  readonly streamId: number
  readonly payload: Buffer
  /** Of the frame that ends a field block: [name, value, …]. */
  readonly fields?: readonly string[]
}

/** What the server sent on one stream. */
export interface Answer {
  /** By name. */
  readonly headers: Readonly<Record<string, string>>
  readonly trailers: Readonly<Record<string, string>>
  readonly body: Buffer
  /** The code of RST_STREAM, where the stream was reset. */
  readonly resetCode: number | undefined
}

/** How long a condition may take on a busy machine before the test fails. */
const patienceMs = 20_000

/** An HTTP/2 client that sends what it is told, byte by byte, and keeps every frame that comes. Of itself it sends nothing. */
export class RawClient {
  readonly frames: Frame[] = []
  readonly #socket: Socket
  readonly #decoder = new FieldDecoder({ maxTableBytes: 4096, maxListBytes: 65_536 })
  readonly #checks = new Set<() => void>()
  #unread: Buffer = Buffer.alloc(0)
  #blocks: Buffer[] = []
  #closed = false
  #pings = 0

  private constructor(socket: Socket) {
    this.#socket = socket
    const closed = (): void => {
      this.#closed = true
      this.#check()
    }
    // A reset of the connection is a close like another: what was sent before it has been read.
    socket
      .on('error', closed)
      .on('end', closed)
      .on('close', closed)
      .on('data', (bytes) => this.#read(bytes))
  }

  static async connect(port: number): Promise<RawClient> {
    const socket = createConnection({ port, host: '127.0.0.1', noDelay: true })
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve).once('error', reject)
    })
    return new RawClient(socket)
  }

  get isClosed(): boolean {
    return this.#closed
  }

  /** In one piece. */
  send(...frames: readonly Uint8Array[]): void {
    this.#socket.write(Buffer.concat(frames))
  }

  /** Resolves when the kernel has taken it, or the connection is closed. */
  async sendThrough(bytes: Uint8Array): Promise<void> {
    if (this.#closed) return
    const sent = Promise.withResolvers<void>()
    this.#socket.write(bytes, () => sent.resolve())
    await sent.promise
  }

  stopReading(): void {
    this.#socket.pause()
  }

  readOn(): void {
    this.#socket.resume()
  }

  /** Sends no more. */
  end(): void {
    this.#socket.end()
  }

  destroy(): void {
    this.#socket.destroy()
  }

  /** Preface and settings, until both sides know the other's. */
  async greet(...entries: readonly Setting[]): Promise<void> {
    this.send(preface, settings(...entries))
    await this.frame('SETTINGS', ({ type, flags }) => type === frameType.settings && flags === 0)
    this.send(settingsAck)
    await this.settingsAcked(1)
  }

  /** Until the server has taken so many of the client's SETTINGS. */
  async settingsAcked(count: number): Promise<void> {
    const acks = (): number => this.frames.filter(({ type, flags }) => type === frameType.settings && flags === flag.ack).length
    await this.until(`${count} acknowledged SETTINGS`, () => acks() >= count)
  }

  /** Until the server has read all that was sent before. */
  async roundTrip(): Promise<void> {
    const opaque = `trip${String(this.#pings++).padStart(4, '0')}`
    this.send(ping(opaque))
    await this.frame(`the answer to PING ${opaque}`, ({ type, flags, payload }) => {
      return type === frameType.ping && flags === flag.ack && payload.toString() === opaque
    })
  }

  /** The first frame that matches, which has come or is to come. */
  async frame(what: string, matches: (frame: Frame) => boolean): Promise<Frame> {
    await this.until(what, () => this.frames.some(matches))
    return this.frames.find(matches)!
  }

  /** Of a stream, all that came. */
  framesOf(streamId: number, type?: number): readonly Frame[] {
    return this.frames.filter((frame) => frame.streamId === streamId && (type === undefined || frame.type === type))
  }

  /** The bytes of the stream's DATA. */
  bodyOf(streamId: number): Buffer {
    return Buffer.concat(this.framesOf(streamId, frameType.data).map(({ payload }) => payload))
  }

  /** Waits until so many bytes of DATA came on the stream, and shows that no more come for now. */
  async expectBytes(streamId: number, count: number): Promise<void> {
    await this.until(`${count} bytes on stream ${streamId}`, () => this.bodyOf(streamId).length >= count)
    await this.roundTrip()
    await this.roundTrip()
    const { length } = this.bodyOf(streamId)
    if (length !== count) throw new Error(`${length} bytes came on stream ${streamId}, of ${count}`)
  }

  /** Waits until the server has ended the stream. */
  async answer(streamId: number): Promise<Answer> {
    const ends = ({ type, flags, streamId: of }: Frame): boolean =>
      of === streamId &&
      (type === frameType.rstStream || ((type === frameType.data || type === frameType.headers) && (flags & flag.endStream) !== 0))
    await this.frame(`the end of stream ${streamId}`, ends)
    const [first = [], last = []] = this.framesOf(streamId).flatMap(({ fields }) => (fields === undefined ? [] : [fields]))
    const reset = this.framesOf(streamId, frameType.rstStream)[0]
    return {
      headers: byName(first),
      trailers: byName(last),
      body: this.bodyOf(streamId),
      resetCode: reset?.payload.readUInt32BE(0),
    }
  }

  async closed(): Promise<void> {
    await this.until('the close of the connection', () => this.#closed)
  }

  /** Checks at every frame and at the close. */
  async until(what: string, holds: () => boolean): Promise<void> {
    if (holds()) return
    await new Promise<void>((resolve, reject) => {
      const settle = (error?: Error): void => {
        clearTimeout(timer)
        this.#checks.delete(check)
        if (error === undefined) resolve()
        else reject(error)
      }
      const check = (): void => {
        if (holds()) settle()
        else if (this.#closed) settle(new Error(`the connection closed before ${what}; ${this.#summary()}`))
      }
      const timer = setTimeout(() => settle(new Error(`waited too long for ${what}; ${this.#summary()}`)), patienceMs)
      this.#checks.add(check)
      check()
    })
  }

  #summary(): string {
    const last = this.frames.slice(-20).map(({ type, flags, streamId, payload }) => {
      return `${type}/${flags}@${streamId}:${payload.subarray(0, 16).toString('hex')}`
    })
    return `${this.frames.length} frames came, at last ${last.join(' ')}`
  }

  #check(): void {
    for (const check of this.#checks) check()
  }

  #read(bytes: Buffer): void {
    this.#unread = Buffer.concat([this.#unread, bytes])
    while (this.#unread.length >= frameHeadBytes) {
      const end = frameHeadBytes + this.#unread.readUIntBE(0, 3)
      if (this.#unread.length < end) break
      this.#keep(this.#unread.subarray(0, end))
      this.#unread = this.#unread.subarray(end)
    }
    this.#check()
  }

  #keep(bytes: Buffer): void {
    const head = { type: bytes[3]!, flags: bytes[4]!, streamId: bytes.readUInt32BE(5), payload: bytes.subarray(frameHeadBytes) }
    const isBlock = head.type === frameType.headers || head.type === frameType.continuation
    if (isBlock) this.#blocks.push(head.payload)
    if (!isBlock || (head.flags & flag.endHeaders) === 0) {
      this.frames.push(head)
      return
    }
    this.frames.push({ ...head, fields: this.#decoder.decode(Buffer.concat(this.#blocks)) })
    this.#blocks = []
  }
}

function byName(fields: readonly string[]): Readonly<Record<string, string>> {
  const named: Record<string, string> = {}
  for (let index = 0; index < fields.length; index += 2) named[fields[index]!] = fields[index + 1]!
  return named
}
