import { isAscii } from 'node:buffer'
import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import { noRoom, type Place } from '@spillway/rpc'
import type { ConnectionFront, HeldConnection } from '@spillway/telemetry'
import type { CallFrontOptions } from './call-front.ts'
import { placeFor } from './call-place.ts'
import { CallerSignals } from './caller-signal.ts'
import { errorAnswer } from './http-errors.ts'
import { type Answer, answerCall, mostTextBytes } from './model-call.ts'
import { longestHead, type PlainHead, readPlainHead } from './plain-head.ts'

export interface CallConnectionOptions extends CallFrontOptions {
  /** How long a connection may be idle between two calls; 0: for ever. */
  readonly keepAliveMs: number
  /** How long a client may take to begin its first request. */
  readonly requestTimeoutMs: number
  /** Answers, and ends, a connection whose client took longer. */
  readonly refuse: (error: NodeJS.ErrnoException, socket: Socket) => void
}

const headEnd = '\r\n\r\n'

/**
 * Answers calls on the sockets that they come by, where one read brings a whole call in its usual form and nothing else: a small call costs half of what
 * Node.js's HTTP server would have with it. At the first read that brings anything else the connection is Node.js's, for good.
 */
export function callConnections(options: CallConnectionOptions): ConnectionFront {
  const shared: Shared = { ...options, signals: new CallerSignals(), tail: new AnswerTail(options.keepAliveMs) }
  return (socket, held) => new CallConnection(socket, held, shared).start()
}

interface Shared extends CallConnectionOptions {
  readonly signals: CallerSignals
  readonly tail: AnswerTail
}

/** What Node.js's server puts behind an answer's own headers. */
class AnswerTail {
  readonly #keepAlive: string
  #second = 0
  #text = ''

  constructor(keepAliveMs: number) {
    const timeout = keepAliveMs > 0 ? `Keep-Alive: timeout=${Math.floor(keepAliveMs / 1000)}\r\n` : ''
    this.#keepAlive = `Connection: keep-alive\r\n${timeout}\r\n`
  }

  get text(): string {
    const second = Math.floor(Date.now() / 1000)
    if (second === this.#second) return this.#text
    this.#second = second
    this.#text = `Date: ${new Date(second * 1000).toUTCString()}\r\n${this.#keepAlive}`
    return this.#text
  }
}

/** `idle`: the next read may be a call. `busy`: one is being answered. `over`: the connection has ended, or is Node.js's. */
class CallConnection {
  readonly #socket: Socket
  readonly #held: HeldConnection
  readonly #shared: Shared
  #state: 'idle' | 'busy' | 'over' = 'idle'
  /** The last call's: the next one's is the same as a rule. */
  #headBytes: Buffer = Buffer.alloc(0)
  #head: PlainHead | undefined
  #place: Place | undefined
  /** Came while a call was being answered. */
  #behind: Buffer | undefined

  constructor(socket: Socket, held: HeldConnection, shared: Shared) {
    this.#socket = socket
    this.#held = held
    this.#shared = shared
  }

  start(): void {
    const socket = this.#socket
    socket.on('data', this.#read).on('end', this.#end).on('error', ignore).on('close', this.#close).on('timeout', this.#timedOut)
    socket.setTimeout(this.#shared.requestTimeoutMs)
  }

  readonly #read = (chunk: Buffer): void => {
    if (this.#state === 'busy') {
      this.#behind = this.#behind === undefined ? chunk : Buffer.concat([this.#behind, chunk])
      this.#socket.pause()
      return
    }
    const head = this.#headOf(chunk)
    if (head === undefined) return this.#handOver(chunk)
    this.#answer(head, chunk.subarray(this.#headBytes.length))
  }

  /** Undefined where the bytes are not one whole call. */
  #headOf(chunk: Buffer): PlainHead | undefined {
    const known = this.#headBytes.length
    if (this.#head !== undefined && chunk.length === known + this.#head.length && chunk.compare(this.#headBytes, 0, known, 0, known) === 0)
      return this.#head
    const bytes = chunk.indexOf(headEnd, 0, 'latin1') + headEnd.length
    if (bytes < headEnd.length || bytes > longestHead) return undefined
    const head = readPlainHead(chunk.toString('latin1', 0, bytes - headEnd.length), this.#shared.calls)
    if (head === undefined || chunk.length !== bytes + head.length || head.length > this.#shared.maxBodyBytes) return undefined
    // Of the first call: between calls there may be a rest.
    if (this.#head === undefined) this.#socket.setTimeout(this.#shared.keepAliveMs)
    this.#head = head
    this.#headBytes = Buffer.from(chunk.subarray(0, bytes))
    return head
  }

  #answer({ answerer, headers, path, protocol }: PlainHead, body: Buffer): void {
    const { room, logger, signals } = this.#shared
    const refused = (thrown: unknown): void => {
      const answer = errorAnswer(thrown, { method: 'POST', url: path }, { logger, statuses: protocol.statuses })
      this.#write(answer.status, answer)
    }
    this.#state = 'busy'
    this.#held.began()
    const place = placeFor(room, body.length)
    if (typeof place === 'string') return refused(noRoom(place))
    this.#place = place
    answerCall(answerer, { headers, body, signal: signals.of(this.#socket) }).then((answer) => this.#write(200, answer), refused)
  }

  #write(status: number, { headers, body }: Answer): void {
    const socket = this.#socket
    if (this.#state === 'over' || !socket.writable) return
    let head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n`
    for (let i = 0; i < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`
    head += `content-length: ${body.byteLength}\r\n${this.#shared.tail.text}`
    let flushed: boolean
    if (body.byteLength <= mostTextBytes && isAscii(body))
      flushed = socket.write(head + Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('latin1'), 'latin1')
    else {
      socket.cork()
      socket.write(head, 'latin1')
      flushed = socket.write(body)
      socket.uncork()
    }
    // Who does not read answers is not read from either.
    if (flushed) this.#done()
    else socket.once('drain', this.#done)
  }

  readonly #done = (): void => {
    if (this.#state === 'over') return
    this.#state = 'idle'
    this.#place?.release()
    this.#held.answered()
    const behind = this.#behind
    if (behind !== undefined && this.#socket.writable) this.#handOver(behind)
  }

  #handOver(received: Buffer): void {
    const socket = this.#socket
    this.#state = 'over'
    socket.off('data', this.#read).off('end', this.#end).off('error', ignore).off('close', this.#close).off('timeout', this.#timedOut)
    socket.setTimeout(0)
    const waiting = socket.read() as Buffer | null
    this.#held.handOver(waiting === null ? received : Buffer.concat([received, waiting]))
  }

  /** The client sends no more: for Node.js's server, too, it is gone then. */
  readonly #end = (): void => {
    this.#socket.end()
  }

  readonly #close = (): void => {
    this.#state = 'over'
    this.#place?.release()
  }

  readonly #timedOut = (): void => {
    if (this.#state !== 'idle') return
    if (this.#head !== undefined) return this.#socket.destroySoon()
    this.#shared.refuse(Object.assign(new Error('Request timeout'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' }), this.#socket)
  }
}

function ignore(): void {
  // A close follows, which is all that counts.
}
