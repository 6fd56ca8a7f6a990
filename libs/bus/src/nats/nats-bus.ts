import { randomBytes } from 'node:crypto'
import { Kvm } from '@nats-io/kv'
import { MeshError } from '@spillway/core'
import { drainedBefore } from '../drained.ts'
import type {
  Bus,
  Guarantee,
  Handler,
  ProcessOptions,
  Processor,
  RecordPosition,
  Records,
  Slice,
  Subscription,
  TopicAdmin,
} from '../port.ts'
import { checkStamp } from '../stamp.ts'
import { natsError } from './errors.ts'
import { duplicateWindowMs, findStored } from './find-stored.ts'
import { NatsLink } from './link.ts'
import { offsetOf } from './messages.ts'
import { groupsBucket, positionsBucket, topicsBucket } from './names.ts'
import { type NatsEngine, NatsProcessor } from './nats-processor.ts'
import { Router } from './router.ts'
import { subscribe } from './subscriber.ts'
import { NatsTopics } from './topics.ts'
import { Writer } from './writer.ts'

/** The part of a pino logger that the adapter writes to. */
export interface NatsLogger {
  warn(fields: object, message: string): void
}

export interface NatsBusOptions {
  /** `host:port` each, as `parseNatsAddress` gives them. */
  readonly servers: readonly string[]
  readonly user?: string
  readonly password?: string
  /** What the server's monitoring calls this process; `spillway` where absent. */
  readonly clientName?: string
  /** For how long a topic recognises a message that it has; set on topics that `ensure` creates. 10 minutes where absent. */
  readonly duplicateWindowMs?: number
  /** Copies of each stream and bucket in a cluster, of those that are created; 1 where absent. */
  readonly replicas?: number
  /** A process that says nothing for this long loses its partitions; 10 s where absent. */
  readonly sessionTimeoutMs?: number
  /** How long `publish` waits for a server that is away; 2 minutes where absent. */
  readonly deliveryTimeoutMs?: number
  readonly logger?: NatsLogger
}

/** Of the server's `max_payload`, what a record's message needs beyond key, value and headers: its id, its time, line ends. */
const messageOverheadBytes = 1024
/** What may wait to be stored; beyond it `publish` is refused. */
const maxWaitingBytes = 64 << 20
/** How long a drain waits for records on their way. */
const publishGraceMs = 5000
/** Before the server has said its `max_payload`, the smallest that is usual. */
const usualRecordBytes = 1_000_000

/** The Bus on NATS JetStream: a stream a partition, a slice committed by one write of its position together with its outputs. */
export class NatsBus implements Bus {
  readonly name = 'nats'
  readonly guarantee: Guarantee
  readonly topics: TopicAdmin
  readonly #options: NatsBusOptions
  readonly #topics: NatsTopics
  readonly #processors = new Set<Processor>()
  readonly #stop = new AbortController()
  #opened: (NatsEngine & { readonly topicEntries: NatsEngine['positions'] }) | undefined
  #away = false
  #drained: Promise<void> | undefined

  constructor(options: NatsBusOptions) {
    const { duplicateWindowMs: windowMs = 600_000, replicas = 1 } = options
    this.#options = options
    this.guarantee = { kind: 'effectively-once', withinMs: windowMs }
    this.#topics = new NatsTopics(
      () => this.#engine().link,
      () => this.#engine().topicEntries,
      { duplicateWindowMs: windowMs, replicas },
    )
    this.topics = this.#topics
  }

  /** The server's `max_payload`, less what a message needs beyond the record. */
  get maxRecordBytes(): number {
    return this.#opened === undefined ? usualRecordBytes : this.#opened.link.maxPayloadBytes - messageOverheadBytes
  }

  /** Waits for a server that is away until the signal fires. @throws MeshError UNAVAILABLE then, and at once where no server's name exists; UNAUTHENTICATED */
  async start(signal: AbortSignal): Promise<void> {
    if (this.#opened !== undefined || this.#drained !== undefined) throw new MeshError('FAILED_PRECONDITION', 'a bus is started once')
    const { servers, user, password, clientName = 'spillway', replicas = 1 } = this.#options
    const link = await NatsLink.open(
      {
        servers,
        ...(user !== undefined && { user }),
        ...(password !== undefined && { password }),
        name: clientName,
        onAway: (error) => this.#sayAway(error),
        onBack: () => this.#sayBack(),
      },
      signal,
    )
    this.#sayBack()
    try {
      const kvm = new Kvm(link.jetstream)
      // Read from the leader: another copy may lag behind what was written last.
      const settings = { history: 1, replicas, allow_direct: false } as const
      const topicEntries = await kvm.create(topicsBucket, settings)
      const positions = await kvm.create(positionsBucket, settings)
      const groups = await kvm.create(groupsBucket, settings)
      const writer = new Writer(link, {
        duplicateWindowMs: (stream) => duplicateWindowMs(link, stream),
        findStored: (stream, sinceMs, ids) => findStored(link, stream, sinceMs, ids),
      })
      const router = new Router(link, this.#topics, link.maxPayloadBytes - messageOverheadBytes)
      this.#opened = { link, topics: this.#topics, router, writer, topicEntries, positions, groups }
    } catch (error) {
      await link.close()
      throw natsError(error, 'opening the buckets of topics, positions and groups')
    }
  }

  async publish(topic: string, records: Records, partition?: number): Promise<readonly RecordPosition[]> {
    const { router, writer } = this.#engine()
    const { messages, partitions } = await router.route({ topic, records, ...(partition !== undefined && { partition }) })
    if (writer.waitingBytes > maxWaitingBytes)
      throw new MeshError(
        'RESOURCE_EXHAUSTED',
        `${writer.waitingBytes} bytes wait to be stored, more than ${maxWaitingBytes}: publish more slowly`,
      )
    const token = randomBytes(12).toString('base64url')
    const { deliveryTimeoutMs = 120_000 } = this.#options
    const sequences = await writer.write(
      messages.map((message, i) => ({ ...message, id: `${token}.${i}` })),
      { endMs: Date.now() + deliveryTimeoutMs },
    )
    return sequences.map((sequence, i) => ({ partition: partitions[i]!, offset: offsetOf(sequence) }))
  }

  async *subscribe(subscription: Subscription): AsyncGenerator<Slice, void, undefined> {
    const { link } = this.#engine()
    const signal = AbortSignal.any([subscription.signal, this.#stop.signal])
    yield* subscribe(link, this.#topics, { ...subscription, signal })
    if (subscription.until !== undefined && this.#stop.signal.aborted && !subscription.signal.aborted) throw drainedBefore(subscription)
  }

  process(options: ProcessOptions, handle: Handler): Processor {
    checkStamp(options.stamp)
    const processor = new NatsProcessor({
      process: options,
      handle,
      engine: () => this.#engine(),
      sessionTimeoutMs: this.#options.sessionTimeoutMs ?? 10_000,
      onDrained: (drained) => this.#processors.delete(drained),
    })
    this.#processors.add(processor)
    return processor
  }

  drain(): Promise<void> {
    this.#drained ??= this.#drain()
    return this.#drained
  }

  async #drain(): Promise<void> {
    await Promise.all([...this.#processors].map(async (processor) => processor.drain()))
    this.#stop.abort()
    const opened = this.#opened
    if (opened === undefined) return
    this.#opened = undefined
    await opened.writer.drain(opened.link.connected ? publishGraceMs : 0)
    await opened.link.close()
  }

  #engine(): NatsEngine & { readonly topicEntries: NatsEngine['positions'] } {
    if (this.#opened === undefined) throw new MeshError('UNAVAILABLE', this.#drained ? 'the bus is closed' : 'the bus is not started')
    return this.#opened
  }

  #sayAway(error: unknown): void {
    if (!this.#away && this.#drained === undefined)
      this.#options.logger?.warn({ err: natsError(error, 'NATS'), servers: this.#options.servers }, 'the NATS server is away: trying again')
    this.#away = true
  }

  #sayBack(): void {
    if (this.#away && this.#drained === undefined) this.#options.logger?.warn({ servers: this.#options.servers }, 'the NATS server answers')
    this.#away = false
  }
}
