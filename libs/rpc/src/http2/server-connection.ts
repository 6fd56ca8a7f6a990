import type { Socket } from 'node:net'
import { FieldBlockError, FieldDecoder, type Fields } from './field-decoder.ts'
import { expect, FrameReader } from './frame-reader.ts'
import { ConnectionError, defaultFrameBytes, defaultWindowBytes, errorCode, flags, frameType, mostWindowBytes, setting } from './frames.ts'
import { Outbox } from './outbox.ts'
import { ReceiveWindow } from './receive-window.ts'
import { areTrailers, readRequestHead, type RequestHead } from './request-head.ts'
import { ServerStream, type StreamLink } from './server-stream.ts'

export interface ServerConnectionOptions {
  /** A request has begun. Where it has been given no reader when this returns, what comes of it is thrown away. */
  readonly onRequest: (stream: ServerStream, head: RequestHead) => void
  readonly onClose: () => void
  /** After how long an answer of which nothing is taken is given up, or twice that; default 2 minutes. The same holds for the rest of a request that is answered. */
  readonly stallMs?: number
}

/**
 * What a client may send ahead of the server's reading, on a stream and on a connection. HTTP/2's own 65,535 bytes are few: so much went over a connection in
 * one round trip, and no more of large requests could wait to be run together. The connection takes more than a stream, so that one whose reader is slow does not
 * hold up the others.
 */
const streamWindowBytes = 1 << 20
const connectionWindowBytes = 4 * streamWindowBytes
const maxFieldListBytes = 65_536
const fieldTableBytes = 4096
const mostStreams = 16_384
const mostGivenUp = 1024
/** What is put into one frame though the peer takes larger ones. */
const mostFrameBytes = 65_536

const prefaceMs = 10_000
/** A peer that has been silent so long is asked whether it is there, and has a while to say so. */
const silentMs = 60_000
const pingAnswerMs = 20_000
const defaultStallMs = 120_000
/** What a peer may take to read all that was sent before the end, and then to end as well. */
const farewellMs = 20_000
const lingerMs = 2000

const nothing = Buffer.alloc(0)

/**
 * The server's side of an HTTP/2 connection (RFC 9113) on a socket: prior knowledge, no push, priorities passed over. Node.js's own makes objects of a stream,
 * some 7 KB of them, that V8 holds until it has gone through all that is old: an event loop that serves thousands of small calls a second stands still for them.
 */
export class ServerConnection {
  readonly #socket: Socket
  readonly #options: ServerConnectionOptions
  readonly #link: StreamLink & { streamWindow: number; maxFrameBytes: number; isDraining: boolean }
  readonly #reader: FrameReader
  readonly #decoder: FieldDecoder = new FieldDecoder({ maxTableBytes: fieldTableBytes, maxListBytes: maxFieldListBytes })
  readonly #received: ReceiveWindow = new ReceiveWindow(connectionWindowBytes)
  readonly #streams = new Map<number, ServerStream>()
  /** Given up here, of late: what was on its way then is passed over. */
  readonly #givenUp = new Set<number>()
  #lastStream = 0
  /** A window that several streams may wait for has changed. */
  #isWindowNew = false
  #isPinged = false
  #isOver = false
  readonly #sweeper: NodeJS.Timeout
  #cut: NodeJS.Timeout | undefined

  constructor(socket: Socket, options: ServerConnectionOptions) {
    this.#socket = socket
    this.#options = options
    const outbox = new Outbox(socket)
    this.#link = {
      outbox,
      sendWindow: defaultWindowBytes,
      streamWindow: defaultWindowBytes,
      mostCredit: 0,
      maxFrameBytes: defaultFrameBytes,
      receiveWindowBytes: streamWindowBytes,
      isDraining: false,
      blocked: new Set(),
      taken: (bytes) => {
        const given = this.#received.taken(bytes)
        if (given > 0) outbox.number(frameType.windowUpdate, 0, given)
      },
      reset: (id, code) => this.#reset(id, code),
      closed: (stream) => {
        this.#streams.delete(stream.id)
        if (this.#link.isDraining && !this.#isOver && this.#streams.size === 0) this.#finish()
      },
    }
    this.#reader = new FrameReader({
      data: (id, payload, frame) => this.#data(id, payload, frame),
      fields: (id, block, isLast) => this.#fields(id, block, isLast),
      reset: (id) => this.#begun(id)?.close(),
      setting: (name, value) => this.#setting(name, value),
      settingsEnd: () => outbox.frame(frameType.settings, flags.acknowledgement, 0, nothing),
      ping: (payload) => outbox.frame(frameType.ping, flags.acknowledgement, 0, payload),
      windowUpdate: (id, bytes) => this.#windowUpdate(id, bytes),
    })
    this.#sweeper = setInterval(() => this.#sweep(), options.stallMs ?? defaultStallMs)
    this.#begin()
  }

  #begin(): void {
    this.#link.outbox.settings([
      [setting.maxConcurrentStreams, mostStreams],
      [setting.initialWindowSize, streamWindowBytes],
      [setting.maxHeaderListSize, maxFieldListBytes],
    ])
    this.#link.outbox.number(frameType.windowUpdate, 0, connectionWindowBytes - defaultWindowBytes)
    this.#socket.setNoDelay(true).setTimeout(prefaceMs)
    this.#socket.on('data', this.#read).on('drain', this.#unblock).on('timeout', this.#silent).on('error', ignore).on('close', this.#closed)
  }

  /** Takes no more requests, and ends when those that came are answered. */
  drain(): void {
    if (this.#link.isDraining || this.#isOver) return
    this.#link.isDraining = true
    this.#goAway(errorCode.none, '')
    for (const stream of this.#streams.values()) stream.giveUpRest()
    if (this.#streams.size === 0 && !this.#isOver) this.#finish()
  }

  /** Cuts what is left. */
  destroy(): void {
    this.#socket.destroy()
  }

  readonly #read = (chunk: Buffer): void => {
    if (this.#isOver) return
    const isFirst = !this.#reader.hasBegun
    try {
      this.#reader.read(chunk)
      if (this.#isWindowNew) this.#takeWindows()
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error
      this.#goAway(error.code, error.message)
      this.#finish()
    }
    if (this.#isPinged || (isFirst && this.#reader.hasBegun)) this.#socket.setTimeout(silentMs)
    this.#isPinged = false
    if (this.#link.outbox.isFlooded) this.destroy()
  }

  #data(id: number, payload: Buffer, frame: { readonly bytes: number; readonly isLast: boolean }): void {
    const stream = this.#begun(id)
    if (!this.#received.received(frame.bytes)) throw new ConnectionError(errorCode.flowControl, 'more DATA than the connection takes')
    if (stream !== undefined) return stream.receive(payload, frame)
    this.#link.taken(frame.bytes)
    this.#expectGivenUp(id)
  }

  #fields(id: number, block: Buffer, isLast: boolean): void {
    // Also of what is refused: the decoder's table goes on with every block.
    const fields = this.#decode(block)
    const known = this.#streams.get(id)
    if (known !== undefined) return known.receiveTrailers(isLast && fields !== undefined && areTrailers(fields))
    if (id <= this.#lastStream) return this.#expectGivenUp(id)
    if (this.#link.isDraining) return
    this.#lastStream = id
    if (fields === undefined) return this.#reset(id, errorCode.enhanceYourCalm)
    if (this.#streams.size >= mostStreams) return this.#reset(id, errorCode.refusedStream)
    const head = readRequestHead(fields)
    if (head === undefined) return this.#reset(id, errorCode.protocol)
    const stream = new ServerStream(id, this.#link, head['content-length'])
    this.#streams.set(id, stream)
    this.#options.onRequest(stream, head)
    if (isLast) stream.receiveEnd()
  }

  /** @returns undefined where there are too many */
  #decode(block: Buffer): Fields | undefined {
    try {
      return this.#decoder.decode(block)
    } catch (error) {
      if (!(error instanceof FieldBlockError)) throw error
      if (error.tooLarge) return undefined
      throw new ConnectionError(errorCode.compression, error.message)
    }
  }

  #setting(name: number, value: number): void {
    if (name === setting.headerTableSize && value < fieldTableBytes) this.#link.outbox.leaveTable()
    if (name === setting.enablePush) expect(value <= 1, 'SETTINGS_ENABLE_PUSH is 0 or 1')
    if (name === setting.maxFrameSize) {
      expect(value >= defaultFrameBytes && value < 1 << 24, 'SETTINGS_MAX_FRAME_SIZE is from 16,384 to 16,777,215')
      this.#link.maxFrameBytes = Math.min(value, mostFrameBytes)
    }
    if (name !== setting.initialWindowSize) return
    expectWindow(value)
    this.#link.streamWindow = value
    this.#isWindowNew = true
  }

  #windowUpdate(id: number, bytes: number): void {
    if (id !== 0) {
      const stream = this.#begun(id)
      return bytes === 0 ? stream?.reset(errorCode.protocol) : stream?.enlargeWindow(bytes)
    }
    expect(bytes > 0, 'WINDOW_UPDATE of nothing')
    this.#link.sendWindow += bytes
    expectWindow(this.#link.sendWindow)
    this.#isWindowNew = true
  }

  /** Once for all that was read: to go through all streams for each of thousands of small frames would keep the event loop from everybody else. */
  #takeWindows(): void {
    this.#isWindowNew = false
    const link = this.#link
    if (link.streamWindow + link.mostCredit > mostWindowBytes) {
      let most = 0
      for (const { sendWindow } of this.#streams.values()) most = Math.max(most, sendWindow)
      expectWindow(most)
      link.mostCredit = Math.max(0, most - link.streamWindow)
    }
    this.#unblock()
  }

  /** Streams that wait go on, each as far as it can. */
  readonly #unblock = (): void => {
    for (const stream of this.#link.blocked) {
      if (this.#link.sendWindow <= 0 || !this.#link.outbox.hasRoom) return
      stream.pump()
    }
  }

  /** @returns undefined where it is over, or was passed over since this drains */
  #begun(id: number): ServerStream | undefined {
    expect(id % 2 === 1 && (id <= this.#lastStream || this.#link.isDraining), 'a frame of a stream that has not begun')
    return this.#streams.get(id)
  }

  #reset(id: number, code: number): void {
    this.#link.outbox.number(frameType.reset, id, code)
    this.#givenUp.add(id)
    if (this.#givenUp.size > mostGivenUp) for (const oldest of this.#givenUp) return void this.#givenUp.delete(oldest)
  }

  /** Of a stream that is over. */
  #expectGivenUp(id: number): void {
    if (id > this.#lastStream || this.#givenUp.has(id)) return
    throw new ConnectionError(errorCode.streamClosed, `a frame of stream ${id}, which is over`)
  }

  #goAway(code: number, message: string): void {
    const payload = Buffer.concat([Buffer.alloc(8), Buffer.from(message)])
    payload.writeUInt32BE(this.#lastStream, 0)
    payload.writeUInt32BE(code, 4)
    this.#link.outbox.frame(frameType.goAway, 0, 0, payload)
  }

  /** What is on its way is still sent. What comes is read on, and thrown away: a socket that is closed answers it by a reset, and drops what it was sending. */
  #finish(): void {
    this.#isOver = true
    this.#reader.stop()
    this.#closeStreams()
    this.#link.outbox.flush()
    this.#cutIn(farewellMs)
    this.#socket.end(() => this.#cutIn(lingerMs))
  }

  #cutIn(delayMs: number): void {
    clearTimeout(this.#cut)
    if (!this.#socket.destroyed) this.#cut = setTimeout(() => this.destroy(), delayMs)
  }

  readonly #silent = (): void => {
    if (!this.#reader.hasBegun || this.#isPinged) return this.destroy()
    this.#isPinged = true
    this.#link.outbox.frame(frameType.ping, 0, 0, Buffer.alloc(8))
    this.#socket.setTimeout(pingAnswerMs)
  }

  readonly #closed = (): void => {
    this.#isOver = true
    clearTimeout(this.#cut)
    clearInterval(this.#sweeper)
    this.#closeStreams()
    this.#options.onClose()
  }

  #sweep(): void {
    for (const stream of this.#streams.values()) stream.giveUpStalled()
  }

  #closeStreams(): void {
    for (const stream of this.#streams.values()) stream.close()
  }
}

/** @throws ConnectionError FLOW_CONTROL_ERROR */
function expectWindow(bytes: number): void {
  if (bytes > mostWindowBytes) throw new ConnectionError(errorCode.flowControl, 'a window of more than 2,147,483,647 bytes')
}

function ignore(): void {
  // Of a socket that is over: its close is all that counts.
}
