import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants, type IncomingHttpHeaders } from 'node:http2'
import { duplexPair } from 'node:stream'
import type { ConnectionInjector } from '@grpc/grpc-js'
import { encodeFields } from './http2/field-encoder.ts'
import { errorCode } from './http2/frames.ts'
import type { RequestHead } from './http2/request-head.ts'
import type { ServerStream, StreamReader } from './http2/server-stream.ts'

/** grpc-js's server. */
export interface RelayTarget {
  /** Of its methods: what else comes it must not see, since it fails on a request that is over before it has refused it. */
  readonly paths: ReadonlySet<string>
  readonly injector: ConnectionInjector
}

/** Hands a connection's requests on to grpc-js, over a connection within the process. */
export class Relay {
  readonly #target: RelayTarget
  #session: ClientHttp2Session | undefined

  constructor(target: RelayTarget) {
    this.#target = target
  }

  takes(path: string): boolean {
    return this.#target.paths.has(path)
  }

  /** Gives the request its reader, or gives it up. */
  begin(stream: ServerStream, head: RequestHead): void {
    let inner: ClientHttp2Stream
    try {
      inner = this.#connected().request({ ...head }, { endStream: false })
    } catch {
      // Node.js holds fields to more rules than HTTP/2 does, and says so by throwing.
      return stream.reset(errorCode.protocol)
    }
    stream.reader = new RelayedStream(stream, inner)
  }

  #connected(): ClientHttp2Session {
    if (this.#session !== undefined && !this.#session.closed && !this.#session.destroyed) return this.#session
    const [near, far] = duplexPair()
    this.#target.injector.injectConnection(far)
    this.#session = connect('http://in-process', { createConnection: () => near })
    this.#session.on('error', ignore)
    return this.#session
  }

  close(): void {
    this.#session?.destroy()
  }
}

class RelayedStream implements StreamReader {
  readonly #stream: ServerStream
  readonly #inner: ClientHttp2Stream
  #trailers: IncomingHttpHeaders = {}
  /** Came, and is not given back to the client's window. */
  #heldBytes = 0

  constructor(stream: ServerStream, inner: ClientHttp2Stream) {
    this.#stream = stream
    this.#inner = inner
    stream.keepsCount = true
    stream.onDrain = () => void inner.resume()
    inner
      .on('response', (headers, flags) => this.#respond(headers, (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0))
      .on('trailers', (trailers) => (this.#trailers = trailers))
      .on('data', (chunk: Buffer) => this.#answer(chunk))
      .on('end', () => this.#stream.reader === this && this.#end(this.#trailers))
      .on('error', ignore)
      .on('close', () => this.#closed())
  }

  data(chunk: Buffer): void {
    this.#heldBytes += chunk.length
    this.#inner.write(chunk, () => this.#give(chunk.length))
  }

  end(): void {
    this.#inner.end()
  }

  closed(): void {
    this.#inner.close(constants.NGHTTP2_CANCEL)
  }

  #respond(headers: IncomingHttpHeaders, isAll: boolean): void {
    if (isAll) this.#end(headers)
    else this.#stream.respond(block(headers))
  }

  #answer(chunk: Buffer): void {
    this.#stream.write(chunk)
    if (this.#stream.isFull) this.#inner.pause()
  }

  #end(headers: IncomingHttpHeaders): void {
    this.#stream.end(block(headers))
    this.#letGo()
    this.#inner.close()
  }

  #closed(): void {
    const { rstCode } = this.#inner
    if (this.#stream.reader === this) this.#stream.reset(rstCode === constants.NGHTTP2_NO_ERROR ? errorCode.internal : rstCode)
    this.#letGo()
  }

  /** What still comes of the request is thrown away. */
  #letGo(): void {
    this.#give(this.#heldBytes)
    this.#stream.keepsCount = false
    this.#stream.reader = undefined
  }

  #give(bytes: number): void {
    const given = Math.min(bytes, this.#heldBytes)
    this.#heldBytes -= given
    this.#stream.taken(given)
  }
}

/** `:status` is a number. */
function block(headers: Readonly<Record<string, number | string | readonly string[] | undefined>>): Buffer {
  return encodeFields(Object.entries(headers).flatMap(([name, value]) => [value ?? []].flat().flatMap((one) => [name, String(one)])))
}

function ignore(): void {
  // The end of what it is of is all that counts.
}
