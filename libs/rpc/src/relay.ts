import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants, type IncomingHttpHeaders } from 'node:http2'
import { duplexPair } from 'node:stream'
import type { ConnectionInjector } from '@grpc/grpc-js'
import { MeshError } from '@spillway/core'
import { encodeFields } from './http2/field-encoder.ts'
import { errorCode } from './http2/frames.ts'
import type { RequestHead } from './http2/request-head.ts'
import type { ServerStream, StreamReader } from './http2/server-stream.ts'
import { answerFields } from './served-call.ts'
import { statusFields, statusOf } from './status.ts'

/** On one connection: each makes objects in Node.js's HTTP/2 and in grpc-js, and a watched health has no end. */
const mostStreams = 100
const tooMany = new MeshError(
  'RESOURCE_EXHAUSTED',
  `no more than ${mostStreams} calls of health and reflection may be open on a connection`,
)

/** grpc-js's server. */
export interface RelayTarget {
  /** Of its methods: what else comes it must not see, since it fails on a request that is over before it has refused it. */
  readonly paths: ReadonlySet<string>
  readonly injector: ConnectionInjector
}

/** Hands a connection's requests on to grpc-js, over a connection within the process. */
export class Relay {
  readonly #target: RelayTarget
  readonly #streams = new Set<RelayedStream>()
  #session: ClientHttp2Session | undefined

  constructor(target: RelayTarget) {
    this.#target = target
  }

  takes(path: string): boolean {
    return this.#target.paths.has(path)
  }

  /** Gives the request its reader, or gives it up. */
  begin(stream: ServerStream, head: RequestHead): void {
    if (this.#streams.size >= mostStreams) return stream.end(encodeFields([...answerFields, ...statusFields(statusOf(tooMany))]))
    let inner: ClientHttp2Stream
    try {
      inner = this.#connected().request({ ...head }, { endStream: false })
    } catch {
      // Node.js holds fields to more rules than HTTP/2 does, and says so by throwing.
      return stream.reset(errorCode.protocol)
    }
    stream.reader = new RelayedStream(stream, inner, this.#streams)
  }

  /** Ends what is relayed: it may go on for ever. */
  endStreams(reason: MeshError): void {
    for (const stream of this.#streams) stream.fail(reason)
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
  #hasHead = false
  readonly #others: Set<RelayedStream>

  /** @param others it is one of these until it is over */
  constructor(stream: ServerStream, inner: ClientHttp2Stream, others: Set<RelayedStream>) {
    this.#stream = stream
    this.#inner = inner
    this.#others = others.add(this)
    stream.keepsCount = true
    stream.onDrain = () => void inner.resume()
    inner
      .on('response', (headers, flags) => this.#respond(headers, (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0))
      .on('trailers', (trailers) => (this.#trailers = trailers))
      .on('data', (chunk: Buffer) => this.#answer(chunk))
      .on('end', () => this.#stream.reader === this && this.#end(block(this.#trailers)))
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
    if (isAll) return this.#end(block(headers))
    this.#hasHead = true
    this.#stream.respond(block(headers))
  }

  fail(error: MeshError): void {
    this.#end(encodeFields([...(this.#hasHead ? [] : answerFields), ...statusFields(statusOf(error))]))
  }

  #answer(chunk: Buffer): void {
    this.#stream.write(chunk)
    if (this.#stream.isFull) this.#inner.pause()
  }

  #end(fields: Buffer): void {
    this.#stream.end(fields)
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
    this.#others.delete(this)
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
