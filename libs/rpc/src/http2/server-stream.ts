import { errorCode, frameType, mostWindowBytes } from './frames.ts'
import type { Outbox } from './outbox.ts'
import { ReceiveWindow } from './receive-window.ts'

/** What comes of a request. */
export interface StreamReader {
  /** A part of its body. Where the stream `keepsCount`, it is to be given back by `taken`. */
  data(chunk: Buffer): void
  /** It is whole. */
  end(): void
  /** The stream is over: both sides have ended, or either gave up, or the connection is gone. Once. */
  closed(): void
}

/** What a stream has of its connection. */
export interface StreamLink {
  readonly outbox: Outbox
  /** DATA that the peer takes on the connection as a whole, bytes. */
  sendWindow: number
  /** DATA that the peer takes on each stream, bytes, before it says more of one. */
  readonly streamWindow: number
  /** No stream was ever given more beyond that. */
  mostCredit: number
  readonly maxFrameBytes: number
  readonly receiveWindowBytes: number
  /** The connection ends as soon as all that came is answered. */
  readonly isDraining: boolean
  /** They have DATA that waits: for a window, or for the socket. */
  readonly blocked: Set<ServerStream>
  /** Of the connection's window, so many bytes of DATA are given back. */
  taken(bytes: number): void
  /** Tells the client that the stream is given up. */
  reset(stream: number, code: number): void
  closed(stream: ServerStream): void
}

interface Outgoing {
  readonly bytes: Uint8Array
  at: number
}

/** A request, and its answer (RFC 9113, 5.1: from "open" on). */
export class ServerStream {
  readonly id: number
  /** Whose request it is; undefined: what comes of it is thrown away. */
  reader: StreamReader | undefined
  /** Whether the reader says what it has taken: until then the client may send no more than a window. */
  keepsCount = false
  /** Told when all that was written is on its way. */
  onDrain: (() => void) | undefined
  readonly #link: StreamLink
  readonly #received: ReceiveWindow
  /** Bytes that the request said that it has. */
  readonly #announcedBytes: number | undefined
  #arrivedBytes = 0
  /** DATA that the peer takes beyond what it takes on each stream; less than nothing by what was sent. */
  #credit = 0
  readonly #outgoing: Outgoing[] = []
  /** Behind what is outgoing. */
  #trailers: Buffer | undefined
  #isRemoteOver = false
  #isLocalOver = false
  #isClosed = false
  /** Nothing was sent since it was last looked at, though all that there is to send is there. */
  #isStalled = false

  /** @param announced the request's content-length */
  constructor(id: number, link: StreamLink, announced: string | undefined) {
    this.id = id
    this.#link = link
    this.#announcedBytes = announced === undefined ? undefined : Number(announced)
    this.#received = new ReceiveWindow(link.receiveWindowBytes)
  }

  /** DATA that the peer takes now, bytes. */
  get sendWindow(): number {
    return this.#link.streamWindow + this.#credit
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Something that is written waits: `onDrain` says when it no longer does. */
  get isFull(): boolean {
    return this.#outgoing.length > 0
  }

  get #isWritable(): boolean {
    return !this.#isClosed && this.#trailers === undefined
  }

  /** The fields that an answer begins with. */
  respond(block: Buffer): void {
    if (this.#isWritable) this.#link.outbox.fields(this.id, block, false)
  }

  /** The bytes are not to change any more. */
  write(bytes: Uint8Array): void {
    if (!this.#isWritable) return
    this.#outgoing.push({ bytes, at: 0 })
    this.pump()
  }

  /** The fields that an answer ends with, behind all that was written; they are all of it where nothing was. */
  end(block: Buffer): void {
    if (!this.#isWritable) return
    this.#trailers = block
    this.pump()
  }

  /** Gives up. */
  reset(code: number): void {
    if (this.#isClosed) return
    this.#link.reset(this.id, code)
    this.close()
  }

  /** The reader has taken so much. */
  taken(bytes: number): void {
    this.#link.taken(bytes)
    if (this.#isRemoteOver || this.#isClosed) return
    const given = this.#received.taken(bytes)
    if (given > 0) this.#link.outbox.number(frameType.windowUpdate, this.id, given)
  }

  /** Sends as much as the peer takes. */
  pump(): void {
    const link = this.#link
    while (this.#outgoing.length > 0) {
      const next = this.#outgoing[0]!
      const bytes = Math.min(next.bytes.length - next.at, link.maxFrameBytes, this.sendWindow, link.sendWindow)
      if (bytes <= 0 || !link.outbox.hasRoom) {
        link.blocked.add(this)
        return
      }
      link.outbox.frame(frameType.data, 0, this.id, next.bytes.subarray(next.at, next.at + bytes))
      next.at += bytes
      this.#credit -= bytes
      this.#isStalled = false
      link.sendWindow -= bytes
      if (next.at === next.bytes.length) this.#outgoing.shift()
    }
    link.blocked.delete(this)
    if (this.#trailers === undefined) return this.onDrain?.()
    if (this.#isLocalOver) return
    this.#isLocalOver = true
    link.outbox.fields(this.id, this.#trailers, true)
    if (this.#isRemoteOver) this.close()
    else if (link.isDraining) this.giveUpRest()
  }

  /** What comes of a request that has been answered is not waited for (RFC 9113, 8.1). */
  giveUpRest(): void {
    if (this.#isLocalOver) this.reset(errorCode.none)
  }

  /** To be called now and then: who has not taken anything of an answer since the last time, or has not ended a request that is answered, may never do so. */
  giveUpStalled(): void {
    if (this.#trailers === undefined) return
    if (this.#isStalled) this.reset(this.#isLocalOver ? errorCode.none : errorCode.cancel)
    this.#isStalled = true
  }

  /** The peer takes so much more. */
  enlargeWindow(bytes: number): void {
    this.#credit += bytes
    this.#link.mostCredit = Math.max(this.#link.mostCredit, this.#credit)
    if (this.sendWindow > mostWindowBytes) this.reset(errorCode.flowControl)
    else if (this.#outgoing.length > 0) this.pump()
  }

  /** DATA, of which `bytes` count for the windows. */
  receive(payload: Buffer, { bytes, isLast }: { readonly bytes: number; readonly isLast: boolean }): void {
    const isOver = this.#isRemoteOver
    if (isOver || !this.#received.received(bytes)) {
      this.#link.taken(bytes)
      return this.reset(isOver ? errorCode.streamClosed : errorCode.flowControl)
    }
    this.#arrivedBytes += payload.length
    this.#isRemoteOver = isLast
    const { reader } = this
    this.taken(reader !== undefined && this.keepsCount ? bytes - payload.length : bytes)
    if (payload.length > 0) reader?.data(payload)
    if (isLast) this.receiveEnd()
  }

  /** Fields behind the body: they end it. */
  receiveTrailers(areValid: boolean): void {
    if (this.#isRemoteOver) this.reset(errorCode.streamClosed)
    else if (areValid) this.receiveEnd()
    else this.reset(errorCode.protocol)
  }

  /** The request is whole. */
  receiveEnd(): void {
    this.#isRemoteOver = true
    if (this.#isClosed) return
    if (this.#announcedBytes !== undefined && this.#announcedBytes !== this.#arrivedBytes) return this.reset(errorCode.protocol)
    this.reader?.end()
    if (this.#isLocalOver) this.close()
  }

  /** It is over. Idempotent. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#outgoing.length = 0
    this.#link.blocked.delete(this)
    this.#link.closed(this)
    this.reader?.closed()
  }
}
