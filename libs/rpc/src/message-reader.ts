import { promisify } from 'node:util'
import { gunzip, inflate } from 'node:zlib'
import { MeshError } from '@spillway/core'
import { prefixBytes } from './method.ts'

export interface Message {
  readonly isCompressed: boolean
  readonly bytes: Buffer
}

/** Finds the messages in a request's bytes (gRPC over HTTP2, "Length-Prefixed-Message"). */
export class MessageReader {
  readonly #maxMessageBytes: number
  #parts: Buffer[] = []
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
    this.#parts.push(chunk)
    this.#bytes += chunk.length
  }

  /** The next message, as soon as it is whole. @throws MeshError RESOURCE_EXHAUSTED where it says that it is larger than may be */
  next(): Message | undefined {
    this.#expected ??= this.#bytes < prefixBytes ? undefined : this.#expect()
    const end = this.#expected
    if (end === undefined || this.#bytes < end) return undefined
    const all = this.#joined()
    this.#parts = all.length === end ? [] : [all.subarray(end)]
    this.#bytes -= end
    this.#expected = undefined
    return { isCompressed: all[0] !== 0, bytes: all.subarray(prefixBytes, end) }
  }

  #expect(): number {
    const length = this.#joined().readUInt32BE(1)
    if (length > this.#maxMessageBytes)
      throw new MeshError('RESOURCE_EXHAUSTED', `Received message larger than max (${length} vs. ${this.#maxMessageBytes})`)
    return prefixBytes + length
  }

  #joined(): Buffer {
    if (this.#parts.length > 1) this.#parts = [Buffer.concat(this.#parts, this.#bytes)]
    return this.#parts[0]!
  }
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
