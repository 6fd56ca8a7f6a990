import { AckPolicy, DeliverPolicy } from '@nats-io/jetstream'
import { createInbox, type Msg, nanos, type Subscription } from '@nats-io/transport-node'
import { backoffMs, pause } from '../backoff.ts'
import { natsError } from './errors.ts'
import type { NatsLink } from './link.ts'

export interface PullerOptions {
  readonly stream: string
  readonly from: { readonly sequence: number } | { readonly timeMs: number }
  /** Headers alone: the payload stays on the server. */
  readonly headersOnly?: boolean
  /** How many messages there is room for; none are asked for where 0. */
  wanted(): number
  /** In order of sequence, none left out but what the stream no longer holds. */
  onMessage(message: Msg, place: Place): void
  /** Nothing came for a while. */
  onIdle?(): void
  onFailure(error: unknown): void
  onSuccess(): void
}

/** Where a message lies in its stream. */
export interface Place {
  readonly sequence: number
  /** ms since the epoch; the server's clock. */
  readonly acceptedMs: number
  /** Messages behind it when it was sent. */
  readonly pending: number
}

const heartbeatMs = 2000
const expiresMs = 10_000
const maxBatch = 1000

/**
 * Reads a stream forward by sequence: a consumer in the server's memory that wants no acknowledgements, made anew from the next sequence whenever
 * something was lost on the way. The consumer numbers what it sends, so a loss is seen.
 */
export class Puller {
  readonly #link: NatsLink
  readonly #options: PullerOptions
  readonly #stop = new AbortController()
  #next: number | undefined
  #session: Session | undefined
  #running: Promise<void> | undefined

  constructor(link: NatsLink, options: PullerOptions) {
    this.#link = link
    this.#options = options
    if ('sequence' in options.from) this.#next = options.from.sequence
  }

  start(): void {
    this.#running ??= this.#run()
  }

  /** There is room again. */
  wake(): void {
    this.#session?.pull()
  }

  stop(): Promise<void> {
    this.#stop.abort()
    this.#session?.end()
    return this.#running ?? Promise.resolve()
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop
    for (let failures = 0; !signal.aborted;) {
      await this.#link.untilConnected(signal)
      if (signal.aborted) return
      try {
        const consumer = await this.#createConsumer()
        const session = new Session(this.#link, consumer, this.#options, (sequence) => (this.#next = sequence + 1))
        this.#session = session
        if (signal.aborted) session.end()
        this.#options.onSuccess()
        const heard = await session.ended
        failures = heard ? 0 : failures + 1
        this.#session = undefined
      } catch (error) {
        failures++
        this.#options.onFailure(natsError(error, `reading stream "${this.#options.stream}"`))
      }
      if (failures > 0) await pause(backoffMs(failures, 1000), signal)
    }
  }

  async #createConsumer(): Promise<string> {
    const { stream, from, headersOnly = false } = this.#options
    const begin =
      this.#next !== undefined || 'sequence' in from
        ? { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: this.#next! }
        : { deliver_policy: DeliverPolicy.StartTime, opt_start_time: new Date(from.timeMs).toISOString() }
    const { name } = await this.#link.manager.consumers.add(stream, {
      ...begin,
      ack_policy: AckPolicy.None,
      inactive_threshold: nanos(60_000),
      mem_storage: true,
      num_replicas: 1,
      max_deliver: 1,
      ...(headersOnly && { headers_only: true }),
    })
    return name
  }
}

/** One consumer's life. */
class Session {
  /** Whether anything was heard of the server. */
  readonly ended: Promise<boolean>
  readonly #link: NatsLink
  readonly #consumer: string
  readonly #options: PullerOptions
  readonly #onSequence: (sequence: number) => void
  readonly #inbox = createInbox()
  readonly #subscription: Subscription
  readonly #forget: () => void
  readonly #watch: NodeJS.Timeout
  readonly #end: (heard: boolean) => void
  #pulls = 0
  #outstanding = 0
  #delivered = 0
  #heardMs = Date.now()
  #heard = false

  constructor(link: NatsLink, consumer: string, options: PullerOptions, onSequence: (sequence: number) => void) {
    this.#link = link
    this.#consumer = consumer
    this.#options = options
    this.#onSequence = onSequence
    const { promise, resolve } = Promise.withResolvers<boolean>()
    this.ended = promise
    this.#end = resolve
    this.#subscription = link.connection.subscribe(`${this.#inbox}.*`, { callback: (error, message) => this.#receive(error, message) })
    this.#forget = link.onChange(() => this.end())
    this.#watch = setInterval(() => this.#checkHeard(), heartbeatMs)
    this.pull()
  }

  pull(): void {
    if (this.#outstanding > 0 || this.#subscription.isClosed()) return
    const batch = Math.min(this.#options.wanted(), maxBatch)
    if (batch <= 0) return
    this.#outstanding = batch
    this.#heardMs = Date.now()
    // Twice the largest message: one larger than what is left ends the pull early, one larger than all would end every pull.
    const request = { batch, max_bytes: 2 * this.#link.maxPayloadBytes, expires: nanos(expiresMs), idle_heartbeat: nanos(heartbeatMs) }
    this.#link.connection.publish(`$JS.API.CONSUMER.MSG.NEXT.${this.#options.stream}.${this.#consumer}`, JSON.stringify(request), {
      reply: `${this.#inbox}.${++this.#pulls}`,
    })
  }

  end(): void {
    if (this.#subscription.isClosed()) return
    clearInterval(this.#watch)
    this.#forget()
    this.#subscription.unsubscribe()
    // Where this does not come to the server, the consumer goes by itself when nobody has asked it for a while.
    if (this.#link.connected) this.#link.connection.publish(`$JS.API.CONSUMER.DELETE.${this.#options.stream}.${this.#consumer}`)
    this.#end(this.#heard)
  }

  #checkHeard(): void {
    if (this.#outstanding > 0 && Date.now() - this.#heardMs > 3 * heartbeatMs) this.end()
  }

  #receive(error: Error | null, message: Msg): void {
    if (error !== null) return this.end()
    this.#heardMs = Date.now()
    if (message.subject.startsWith(this.#inbox)) return this.#receiveStatus(message)
    const place = placeOf(message.reply ?? '')
    if (place === undefined || place.delivered !== this.#delivered + 1) return this.end()
    this.#heard = true
    this.#delivered++
    this.#outstanding--
    this.#onSequence(place.sequence)
    this.#options.onMessage(message, place)
    if (this.#outstanding === 0) this.pull()
  }

  #receiveStatus(message: Msg): void {
    const code = message.headers?.code ?? 0
    if (code === 100) {
      this.#heard = true
      this.#options.onIdle?.()
      return
    }
    if (!message.subject.endsWith(`.${this.#pulls}`)) return
    const text = message.headers?.description ?? ''
    if (code === 404 || code === 408 || /batch completed|maxbytes/i.test(text)) {
      this.#heard = true
      this.#outstanding = 0
      if (code !== 409) this.#options.onIdle?.()
      this.pull()
    } else this.end()
  }
}

/**
 * The reply subject of a delivered message: `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<consumer sequence>.<time>.<pending>`, with a domain and
 * an account's hash before the stream where the server has them (ADR-15).
 */
function placeOf(reply: string): (Place & { readonly delivered: number }) | undefined {
  const parts = reply.split('.')
  if (parts.length < 9) return undefined
  const at = parts.length === 9 ? 5 : 7
  const [sequence, delivered, nanoseconds, pending] = parts.slice(at, at + 4)
  return {
    sequence: Number(sequence),
    delivered: Number(delivered),
    acceptedMs: Math.floor(Number(nanoseconds) / 1e6),
    pending: Number(pending),
  }
}
