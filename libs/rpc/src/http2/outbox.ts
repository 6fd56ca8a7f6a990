import type { Socket } from 'node:net'
import { defaultFrameBytes, flags, frameHeadBytes, frameType, settingBytes } from './frames.ts'

/** Frames are written one behind the other into pieces of memory of this size; a larger payload goes as it is. */
const slabBytes = 65_536
const largePayloadBytes = 8192

/** What a socket may hold that its peer has not taken: beyond it no DATA is put there. */
const mostWaitingBytes = 1 << 20
/** Beyond it the peer has stopped reading, and goes on asking. */
const mostUnreadBytes = 8 << 20

/** RFC 7541, 6.3: a dynamic table of no bytes. */
const tableOfNothing = Buffer.of(0x20)

/** Writes frames: those of one turn go to the socket together. */
export class Outbox {
  readonly #socket: Socket
  #slab: Buffer = Buffer.alloc(0)
  /** What of the slab is not on its way yet. */
  #from = 0
  #to = 0
  readonly #ready: Buffer[] = []
  #readyBytes = 0
  #isScheduled = false
  /** What the next field block begins with. */
  #tableUpdate: 'none' | 'due' | 'said' = 'none'

  constructor(socket: Socket) {
    this.#socket = socket
  }

  /** Whether DATA may be added: the socket says by `drain` when it may again. */
  get hasRoom(): boolean {
    return this.#waitingBytes < mostWaitingBytes
  }

  /** Whether the peer asks for answers that it does not read. */
  get isFlooded(): boolean {
    return this.#waitingBytes > mostUnreadBytes
  }

  get #waitingBytes(): number {
    return this.#socket.writableLength + this.#readyBytes + this.#to - this.#from
  }

  /** The payload is not to change any more. */
  frame(type: number, flagBits: number, stream: number, payload: Uint8Array): void {
    const { length } = payload
    const isLarge = length > largePayloadBytes
    this.#reserve(frameHeadBytes + (isLarge ? 0 : length))
    const [slab, at] = [this.#slab, this.#to]
    slab.writeUIntBE(length, at, 3)
    slab[at + 3] = type
    slab[at + 4] = flagBits
    slab.writeUInt32BE(stream, at + 5)
    this.#to = at + frameHeadBytes
    if (isLarge) {
      this.#close()
      this.#add(Buffer.from(payload.buffer, payload.byteOffset, length))
    } else {
      slab.set(payload, this.#to)
      this.#to += length
    }
    this.#schedule()
  }

  /** A frame whose payload is a number of 32 bits. */
  number(type: number, stream: number, value: number): void {
    const payload = Buffer.allocUnsafe(4)
    payload.writeUInt32BE(value)
    this.frame(type, 0, stream, payload)
  }

  settings(settings: readonly (readonly [name: number, value: number])[]): void {
    const payload = Buffer.alloc(settings.length * settingBytes)
    for (const [i, [name, value]] of settings.entries()) {
      payload.writeUInt16BE(name, i * settingBytes)
      payload.writeUInt32BE(value, i * settingBytes + 2)
    }
    this.frame(frameType.settings, 0, 0, payload)
  }

  /** The peer's table for fields becomes smaller than it was at first: nothing is ever kept in it, and the next block has to say so (RFC 7541, 4.2). */
  leaveTable(): void {
    if (this.#tableUpdate === 'none') this.#tableUpdate = 'due'
  }

  /** HEADERS, and CONTINUATION where it does not fit. */
  fields(stream: number, fieldBlock: Buffer, endsStream: boolean): void {
    const block = this.#tableUpdate === 'due' ? Buffer.concat([tableOfNothing, fieldBlock]) : fieldBlock
    if (this.#tableUpdate === 'due') this.#tableUpdate = 'said'
    for (let at = 0; at === 0 || at < block.length; at += defaultFrameBytes) {
      const part = block.subarray(at, at + defaultFrameBytes)
      const end = at + part.length === block.length ? flags.endHeaders : 0
      if (at > 0) this.frame(frameType.continuation, end, stream, part)
      else this.frame(frameType.headers, end | (endsStream ? flags.endStream : 0), stream, part)
    }
  }

  /** Room for so much in one slab. */
  #reserve(bytes: number): void {
    if (this.#to + bytes <= this.#slab.length) return
    this.#close()
    this.#slab = Buffer.allocUnsafeSlow(slabBytes)
    this.#from = this.#to = 0
  }

  #close(): void {
    if (this.#to === this.#from) return
    this.#add(this.#slab.subarray(this.#from, this.#to))
    this.#from = this.#to
  }

  #add(bytes: Buffer): void {
    this.#ready.push(bytes)
    this.#readyBytes += bytes.length
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    // After what the promises of this turn bring.
    process.nextTick(this.flush)
  }

  readonly flush = (): void => {
    this.#isScheduled = false
    this.#close()
    const socket = this.#socket
    const ready = this.#ready.splice(0)
    this.#readyBytes = 0
    if (!socket.writable) return
    if (ready.length > 1) socket.cork()
    for (const bytes of ready) socket.write(bytes)
    if (ready.length > 1) socket.uncork()
  }
}
