import {
  ConnectionError,
  defaultFrameBytes,
  errorCode,
  flags,
  frameHeadBytes,
  frameType,
  mostWindowBytes,
  preface,
  settingBytes,
} from './frames.ts'

/** What a client's frames say. Each may throw a ConnectionError. */
export interface FrameHandler {
  /** Of `bytes`, padding among them, that count for the windows (RFC 9113, 6.1). */
  data(stream: number, payload: Buffer, frame: { readonly bytes: number; readonly isLast: boolean }): void
  /** A whole field block. */
  fields(stream: number, block: Buffer, isLast: boolean): void
  reset(stream: number): void
  setting(name: number, value: number): void
  /** The settings of a frame have all been told. */
  settingsEnd(): void
  ping(payload: Buffer): void
  windowUpdate(stream: number, bytes: number): void
}

/** Of a field block, as it is sent. */
const maxBlockBytes = 65_536
/** CONTINUATION may carry next to nothing. */
const maxBlockParts = 64
const priorityBytes = 5

interface OpenBlock {
  readonly stream: number
  readonly isLast: boolean
  readonly parts: Buffer[]
  bytes: number
}

/** Reads what a client sends (RFC 9113, 3.4, 4 and 6): what a frame can be wrong in by itself is found here. */
export class FrameReader {
  readonly #handler: FrameHandler
  /** Of the last read: less than a frame. */
  #rest: Buffer = Buffer.alloc(0)
  #hasBegun = false
  #hasSettings = false
  /** Goes on in the next frame. */
  #block: OpenBlock | undefined
  #isStopped = false

  constructor(handler: FrameHandler) {
    this.#handler = handler
  }

  /** Whether the client has said that it speaks HTTP/2. */
  get hasBegun(): boolean {
    return this.#hasBegun
  }

  /** Reads no more. */
  stop(): void {
    this.#isStopped = true
  }

  /** @throws ConnectionError */
  read(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    const at = this.#hasBegun ? 0 : this.#begin(bytes)
    this.#rest = bytes.subarray(this.#hasBegun ? this.#frames(bytes, at) : 0)
  }

  /** @returns where the first frame begins */
  #begin(bytes: Buffer): number {
    const known = Math.min(bytes.length, preface.length)
    expect(bytes.compare(preface, 0, known, 0, known) === 0, 'not the preface of HTTP/2')
    this.#hasBegun = known === preface.length
    return known
  }

  /** @returns where the first frame begins that is not whole */
  #frames(bytes: Buffer, first: number): number {
    let at = first
    while (bytes.length - at >= frameHeadBytes && !this.#isStopped) {
      const length = bytes.readUIntBE(at, 3)
      expectLength(length <= defaultFrameBytes, 'a frame of more than 16,384 bytes')
      const end = at + frameHeadBytes + length
      if (end > bytes.length) break
      const stream = bytes.readUInt32BE(at + 5) & mostWindowBytes
      this.#frame(bytes[at + 3]!, bytes[at + 4]!, stream, bytes.subarray(at + frameHeadBytes, end))
      at = end
    }
    return at
  }

  #frame(type: number, flagBits: number, stream: number, payload: Buffer): void {
    expect(this.#hasSettings || type === frameType.settings, 'the first frame is not SETTINGS')
    const block = this.#block
    expect(block === undefined || (type === frameType.continuation && stream === block.stream), 'a field block is interrupted')
    switch (type) {
      case frameType.data:
        return this.#data(flagBits, stream, payload)
      case frameType.headers:
        return this.#headers(flagBits, stream, payload)
      case frameType.continuation:
        return this.#continuation(flagBits, payload)
      case frameType.priority:
        expectLength(payload.length === priorityBytes, 'PRIORITY has 5 bytes')
        return expectPriority(stream, payload)
      case frameType.reset:
        expectLength(payload.length === 4, 'RST_STREAM has 4 bytes')
        return this.#handler.reset(stream)
      case frameType.settings:
        return this.#settings(flagBits, stream, payload)
      case frameType.ping:
        expect(stream === 0, 'PING on a stream')
        expectLength(payload.length === 8, 'PING has 8 bytes')
        return (flagBits & flags.acknowledgement) === 0 ? this.#handler.ping(payload) : undefined
      case frameType.goAway:
        expect(stream === 0, 'GOAWAY on a stream')
        return expectLength(payload.length >= 8, 'GOAWAY has 8 bytes or more')
      case frameType.windowUpdate:
        expectLength(payload.length === 4, 'WINDOW_UPDATE has 4 bytes')
        return this.#handler.windowUpdate(stream, payload.readUInt32BE(0) & mostWindowBytes)
      case frameType.pushPromise:
        return expect(false, 'a client does not push')
      default:
      // RFC 9113, 5.5: of an extension that is not known here.
    }
  }

  #data(flagBits: number, stream: number, payload: Buffer): void {
    const data = (flagBits & flags.padded) === 0 ? payload : unpadded(payload)
    this.#handler.data(stream, data, { bytes: payload.length, isLast: (flagBits & flags.endStream) !== 0 })
  }

  #headers(flagBits: number, stream: number, payload: Buffer): void {
    expect(stream % 2 === 1, 'HEADERS on a stream that is not a client’s')
    let block = (flagBits & flags.padded) === 0 ? payload : unpadded(payload)
    if ((flagBits & flags.priority) !== 0) {
      expectLength(block.length >= priorityBytes, 'HEADERS without the priority that it says it has')
      expectPriority(stream, block)
      block = block.subarray(priorityBytes)
    }
    const isLast = (flagBits & flags.endStream) !== 0
    if ((flagBits & flags.endHeaders) !== 0) return this.#handler.fields(stream, block, isLast)
    // Copied: what was read together is held as long as a part of it.
    this.#block = { stream, isLast, parts: [Buffer.from(block)], bytes: block.length }
  }

  #continuation(flagBits: number, payload: Buffer): void {
    const block = this.#block
    if (block === undefined) throw new ConnectionError(errorCode.protocol, 'CONTINUATION of nothing')
    block.bytes += payload.length
    block.parts.push(Buffer.from(payload))
    if (block.bytes > maxBlockBytes || block.parts.length > maxBlockParts)
      throw new ConnectionError(errorCode.enhanceYourCalm, `a field block of more than ${maxBlockBytes} bytes or ${maxBlockParts} frames`)
    if ((flagBits & flags.endHeaders) === 0) return
    this.#block = undefined
    this.#handler.fields(block.stream, Buffer.concat(block.parts), block.isLast)
  }

  #settings(flagBits: number, stream: number, payload: Buffer): void {
    expect(stream === 0, 'SETTINGS on a stream')
    const isAcknowledgement = (flagBits & flags.acknowledgement) !== 0
    expectLength(isAcknowledgement ? payload.length === 0 : payload.length % settingBytes === 0, 'SETTINGS of a length that it cannot have')
    expect(this.#hasSettings || !isAcknowledgement, 'the first SETTINGS is an acknowledgement')
    if (isAcknowledgement) return
    this.#hasSettings = true
    for (let at = 0; at < payload.length; at += settingBytes) this.#handler.setting(payload.readUInt16BE(at), payload.readUInt32BE(at + 2))
    this.#handler.settingsEnd()
  }
}

/** RFC 9113, 5.3: what it says is passed over, unless it cannot be. */
function expectPriority(stream: number, payload: Buffer): void {
  expect(stream !== 0, 'PRIORITY on no stream')
  expect((payload.readUInt32BE(0) & mostWindowBytes) !== stream, 'a stream that depends on itself')
}

/** @throws ConnectionError PROTOCOL_ERROR */
export function expect(holds: boolean, broken: string): void {
  if (!holds) throw new ConnectionError(errorCode.protocol, broken)
}

/** @throws ConnectionError FRAME_SIZE_ERROR */
function expectLength(holds: boolean, broken: string): void {
  if (!holds) throw new ConnectionError(errorCode.frameSize, broken)
}

/** RFC 9113, 6.1. */
function unpadded(payload: Buffer): Buffer {
  expectLength(payload.length > 0, 'a padded frame does not say how much of it is padding')
  const padding = payload[0]!
  expect(padding < payload.length, 'more padding than there is of a frame')
  return payload.subarray(1, payload.length - padding)
}
