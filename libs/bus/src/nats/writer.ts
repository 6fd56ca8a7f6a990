import { createInbox, type Msg, type MsgHdrs, type Subscription } from '@nats-io/transport-node'
import { MeshError } from '@spillway/core'
import { backoffMs, pause } from '../backoff.ts'
import { natsError } from './errors.ts'
import {
  EncodedHeaders,
  emptyLane,
  hasRoom,
  hold,
  isDoubtful,
  type Job,
  type Lane,
  type Outgoing,
  type Parcel,
  readAnswer,
  shift,
} from './lane.ts'
import type { NatsLink } from './link.ts'

export interface WriterOptions {
  /** For how long a stream recognises an id. */
  duplicateWindowMs(stream: string): Promise<number>
  /** Which of the ids a stream got since then, with their sequences. */
  findStored(stream: string, sinceMs: number, ids: ReadonlySet<string>): Promise<ReadonlyMap<string, number>>
}

export interface WriteOptions {
  /** After this it is given up; what was sent may be stored all the same. Never where absent. */
  readonly endMs?: number
  readonly signal?: AbortSignal
  /** When any of these may have been sent first, by whomever; now where absent. */
  readonly sinceMs?: number
}

const ackTimeoutMs = 5000
const sweepMs = 500

/**
 * Stores messages with many in flight, each stream's in the order given: where one is not acknowledged in time, or the connection is lost, all of
 * that stream's in flight are sent again, first thing, with the same ids. Those that were first sent longer ago than half of the time for which
 * the server recognises an id are looked for in the stream itself.
 */
export class Writer {
  readonly #link: NatsLink
  readonly #options: WriterOptions
  readonly #lanes = new Map<string, Lane>()
  readonly #jobs = new Set<Job>()
  readonly #waiting = new Map<string, Parcel>()
  readonly #inbox = createInbox()
  readonly #subscription: Subscription
  readonly #forget: () => void
  readonly #sweep: NodeJS.Timeout
  #tokens = 0
  #bytes = 0
  #closed = false

  constructor(link: NatsLink, options: WriterOptions) {
    this.#link = link
    this.#options = options
    this.#subscription = link.connection.subscribe(`${this.#inbox}.*`, { callback: (error, message) => this.#acknowledged(error, message) })
    this.#forget = link.onChange(() => this.#connectionChanged())
    this.#sweep = setInterval(() => this.#checkTimes(), sweepMs)
  }

  /** Bytes that wait to be acknowledged. */
  get waitingBytes(): number {
    return this.#bytes
  }

  /** Resolves with each message's sequence when all are stored. */
  write(messages: readonly Outgoing[], { endMs = Infinity, signal, sinceMs = Infinity }: WriteOptions = {}): Promise<readonly number[]> {
    if (messages.length === 0) return Promise.resolve([])
    const job: Job = {
      sequences: new Array<number>(messages.length).fill(0),
      done: Promise.withResolvers(),
      endMs,
      left: messages.length,
      over: false,
    }
    if (this.#closed) return Promise.reject(new MeshError('UNAVAILABLE', 'the bus is closed'))
    this.#jobs.add(job)
    if (signal !== undefined) this.#follow(job, signal)
    const lanes = new Set<Lane>()
    for (const [index, outgoing] of messages.entries()) {
      const lane = this.#lane(outgoing.stream)
      const token = (this.#tokens++).toString(36)
      lane.queue.push({ outgoing, job, index, token, settled: false, sinceMs, sentMs: 0 })
      this.#bytes += outgoing.payload.length + outgoing.headers.length
      lanes.add(lane)
    }
    for (const lane of lanes) this.#pump(lane)
    return job.done.promise
  }

  /** Waits for what is on its way, no longer than this, and takes no more. */
  async drain(graceMs: number): Promise<void> {
    this.#closed = true
    const settled = Promise.allSettled(Array.from(this.#jobs, ({ done }) => done.promise))
    const patience = new AbortController()
    await Promise.race([settled, pause(graceMs, patience.signal)])
    patience.abort()
    this.close()
  }

  close(): void {
    this.#closed = true
    clearInterval(this.#sweep)
    this.#forget()
    this.#subscription.unsubscribe()
    for (const job of this.#jobs) this.#end(job, new MeshError('UNAVAILABLE', 'the bus was closed before the records were acknowledged'))
  }

  #follow(job: Job, signal: AbortSignal): void {
    const abort = (): void => this.#end(job, new MeshError('CANCELLED', 'given up before all was acknowledged'))
    if (signal.aborted) return abort()
    signal.addEventListener('abort', abort, { once: true })
    const forget = (): void => signal.removeEventListener('abort', abort)
    job.done.promise.then(forget, forget)
  }

  #lane(stream: string): Lane {
    let lane = this.#lanes.get(stream)
    if (lane === undefined) {
      lane = emptyLane(stream)
      this.#lanes.set(stream, lane)
    }
    return lane
  }

  #pump(lane: Lane): void {
    while (!lane.held && this.#link.connected && lane.head < lane.queue.length) {
      const parcel = lane.queue[lane.head]!
      const unwanted = parcel.settled || parcel.job.over
      if (!unwanted && !hasRoom(lane, parcel)) return
      if (isDoubtful(lane, parcel)) return void this.#resume(lane)
      shift(lane)
      if (unwanted) this.#take(lane, parcel)
      else this.#send(lane, parcel)
    }
  }

  #send(lane: Lane, parcel: Parcel): void {
    const { outgoing, token } = parcel
    parcel.sentMs = Date.now()
    parcel.sinceMs = Math.min(parcel.sinceMs, parcel.sentMs)
    lane.inFlight.set(token, parcel)
    lane.inFlightBytes += outgoing.payload.length
    this.#waiting.set(token, parcel)
    const headers = new EncodedHeaders(`NATS/1.0\r\nNats-Msg-Id: ${outgoing.id}\r\n${outgoing.headers}\r\n`) as unknown as MsgHdrs
    try {
      this.#link.connection.publish(outgoing.subject, outgoing.payload, { reply: `${this.#inbox}.${token}`, headers })
    } catch (error) {
      this.#take(lane, parcel)
      this.#end(parcel.job, natsError(error, `publishing to "${outgoing.subject}"`))
    }
  }

  #acknowledged(error: Error | null, message: Msg): void {
    if (error !== null) return
    const parcel = this.#waiting.get(message.subject.slice(this.#inbox.length + 1))
    // One that was sent twice is acknowledged twice.
    if (parcel === undefined) return
    const lane = this.#lane(parcel.outgoing.stream)
    const answer = readAnswer(message)
    if ('sequence' in answer) {
      lane.failures = 0
      lane.error = undefined
      this.#settle(lane, parcel, answer.sequence)
      this.#pump(lane)
    } else if (answer.error.retryable) this.#fail(lane, answer.error)
    else {
      this.#take(lane, parcel)
      this.#end(parcel.job, answer.error)
      this.#pump(lane)
    }
  }

  #take(lane: Lane, parcel: Parcel): void {
    if (parcel.settled) return
    parcel.settled = true
    this.#waiting.delete(parcel.token)
    if (lane.inFlight.delete(parcel.token)) lane.inFlightBytes -= parcel.outgoing.payload.length
    this.#bytes -= parcel.outgoing.payload.length + parcel.outgoing.headers.length
  }

  #settle(lane: Lane, parcel: Parcel, sequence: number): void {
    const { job, index } = parcel
    this.#take(lane, parcel)
    job.sequences[index] = sequence
    if (--job.left > 0 || job.over) return
    job.over = true
    this.#jobs.delete(job)
    job.done.resolve(job.sequences)
  }

  #end(job: Job, error: MeshError): void {
    if (job.over) return
    job.over = true
    this.#jobs.delete(job)
    job.done.reject(error)
  }

  #fail(lane: Lane, error: MeshError): void {
    if (lane.held) return
    lane.error = error
    hold(lane)
    setTimeout(() => void this.#resume(lane), backoffMs(++lane.failures, 1000))
  }

  async #resume(lane: Lane): Promise<void> {
    lane.held = true
    try {
      await this.#settleStored(lane)
      lane.held = false
    } catch (error) {
      lane.error = MeshError.from(error)
      if (this.#closed) return
      setTimeout(() => void this.#resume(lane), backoffMs(++lane.failures, 1000))
      return
    }
    this.#pump(lane)
  }

  /** Of what was sent too long ago to be recognised by its id, settles what is in the stream. */
  async #settleStored(lane: Lane): Promise<void> {
    if (lane.head === lane.queue.length) return
    lane.windowMs ??= await this.#options.duplicateWindowMs(lane.stream)
    const doubtful = lane.queue.slice(lane.head).filter((parcel) => isDoubtful(lane, parcel))
    if (doubtful.length === 0) return
    const sinceMs = Math.min(...doubtful.map((parcel) => parcel.sinceMs))
    const stored = await this.#options.findStored(lane.stream, sinceMs, new Set(doubtful.map(({ outgoing }) => outgoing.id)))
    for (const parcel of doubtful) {
      const sequence = stored.get(parcel.outgoing.id)
      if (sequence === undefined) parcel.sinceMs = Date.now()
      else if (!parcel.settled) this.#settle(lane, parcel, sequence)
    }
  }

  #connectionChanged(): void {
    for (const lane of this.#lanes.values()) {
      if (!this.#link.connected) {
        if (lane.inFlight.size > 0) {
          const { held } = lane
          hold(lane)
          lane.held = held
        }
      } else if (!lane.held) void this.#resume(lane)
    }
  }

  #checkTimes(): void {
    const nowMs = Date.now()
    for (const lane of this.#lanes.values()) {
      const [oldest] = lane.inFlight.values()
      if (oldest !== undefined && nowMs - oldest.sentMs > ackTimeoutMs)
        this.#fail(lane, new MeshError('UNAVAILABLE', `stream "${lane.stream}" has acknowledged nothing for ${ackTimeoutMs} ms`))
      for (let i = lane.head; i < lane.queue.length && lane.queue[i]!.job.endMs < nowMs; i++)
        this.#end(
          lane.queue[i]!.job,
          lane.error ?? new MeshError('UNAVAILABLE', `nothing could be stored in stream "${lane.stream}" in time`),
        )
    }
  }
}
