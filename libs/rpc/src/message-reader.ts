import { promisify } from 'node:util'
import { gunzip, inflate } from 'node:zlib'
import { MeshError } from '@spillway/core'
import { prefixBytes } from './method.ts'

export interface Message {
  readonly isCompressed: boolean
  readonly bytes: Buffer
}

/** So much memory is taken for a message as it begins to come; then four times what it has come to, up to what it says that it has. */
const firstBytes = 4096
const growth = 4

/**
 * Finds the messages in a request's bytes (gRPC over HTTP2, "Length-Prefixed-Message"). What has come of a message is copied while the rest is missing: a byte of
 * it would hold all that was read from the socket with it.
 */
export class MessageReader {
  readonly #maxMessageBytes: number
  /** Begins with what came and was not given. */
  #held: Buffer = Buffer.alloc(0)
  /** Whether more may be written behind it. */
  #isOwn = false
  #bytes = 0
  /** Of the next message with its prefix; undefined while that is not there. */
  #expected: number | undefined

  constructor(maxMessageBytes: number) {
    this.#maxMessageBytes = maxMessageBytes
  }

  /** Whether all that came was given. */
  get isEmpty(): boolean {
    return this.#bytes === 0
  }

  push(chunk: Buffer): void {
    if (this.#bytes === 0) {
      this.#held = chunk
      this.#isOwn = false
    } else {
      this.#makeRoom(chunk.length)
      this.#held.set(chunk, this.#bytes)
    }
    this.#bytes += chunk.length
  }

  /** The next message, as soon as it is whole. @throws MeshError RESOURCE_EXHAUSTED where it says that it is larger than may be */
  next(): Message | undefined {
    this.#expected ??= this.#bytes < prefixBytes ? undefined : this.#expect()
    const [all, end] = [this.#held, this.#expected]
    if (end === undefined || this.#bytes < end) {
      this.#makeRoom(0)
      return undefined
    }
    this.#held = all.subarray(end)
    this.#bytes -= end
    this.#expected = undefined
    return { isCompressed: all[0] !== 0, bytes: all.subarray(prefixBytes, end) }
  }

  #expect(): number {
    const length = this.#held.readUInt32BE(1)
    if (length > this.#maxMessageBytes)
      throw new MeshError('RESOURCE_EXHAUSTED', `Received message larger than max (${length} vs. ${this.#maxMessageBytes})`)
    return prefixBytes + length
  }

  /** For so much behind what is held. */
  #makeRoom(bytes: number): void {
    const needed = this.#bytes + bytes
    if (needed === 0 || (this.#isOwn && needed <= this.#held.length)) return
    const room = Math.min(this.#expected ?? 0, Math.max(firstBytes, growth * needed))
    const own = Buffer.allocUnsafeSlow(Math.max(needed, room))
    own.set(this.#held.subarray(0, this.#bytes))
    this.#held = own
    this.#isOwn = true
  }
}

/** The message without what was read from the socket with it, where that is more. */
export function detached(message: Message): Message {
  const { isCompressed, bytes } = message
  return bytes.buffer.byteLength <= 2 * (prefixBytes + bytes.length) ? message : { isCompressed, bytes: Buffer.from(bytes) }
}

const decoders: Readonly<Record<string, (bytes: Buffer, options: { readonly maxOutputLength: number }) => Promise<Buffer>>> = {
  gzip: promisify(gunzip),
  deflate: promisify(inflate),
}

/** What a caller may compress its messages by, as `grpc-accept-encoding` names it. */
export const acceptedEncodings = 'identity,deflate,gzip'

/** @param encoding as `grpc-encoding` names it @throws MeshError UNIMPLEMENTED */
export function checkEncoding(encoding: string | undefined): void {
  if (encoding !== undefined && encoding !== 'identity' && !Object.hasOwn(decoders, encoding))
    throw new MeshError('UNIMPLEMENTED', `messages compressed by "${encoding}" are not read: expected one of ${acceptedEncodings}`)
}

/** @throws MeshError INTERNAL, or RESOURCE_EXHAUSTED where it becomes larger than may be */
export async function decompressed({ bytes }: Message, encoding: string | undefined, maxMessageBytes: number): Promise<Buffer> {
  const decode = encoding === undefined ? undefined : decoders[encoding]
  if (decode === undefined) throw new MeshError('INTERNAL', 'the message is compressed, and the headers name no encoding')
  try {
    return await decode(bytes, { maxOutputLength: maxMessageBytes })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE')
      throw new MeshError('RESOURCE_EXHAUSTED', `Received message larger than max (${maxMessageBytes}) once decompressed`, { cause: error })
    throw new MeshError('INTERNAL', `the message is not compressed by ${encoding}: ${(error as Error).message}`, { cause: error })
  }
}
