import kafkajs from 'kafkajs'
import type { Admin, Kafka } from 'kafkajs'
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
import { teachCodecs } from './codecs.ts'
import { drainedBefore } from '../drained.ts'
import { checkHosts } from '../hosts.ts'
import { checkStamp } from '../stamp.ts'
import { connectPatiently } from './connect.ts'
import { kafkaError } from './errors.ts'
import { bridgeLogger, type KafkaLogger } from './kafka-logger.ts'
import { KafkaProcessor } from './kafka-processor.ts'
import { openCluster, type OpenCluster } from './kafkajs-cluster.ts'
import { repairKafkajs } from './kafkajs-repairs.ts'
import { Publisher } from './publisher.ts'
import { openSocket } from './socket.ts'
import { subscribe } from './subscriber.ts'
import { KafkaTopicAdmin } from './topic-admin.ts'
import { TopicLimits } from './topic-limits.ts'

export interface KafkaBusOptions {
  /** `host:port`, as `parseKafkaAddress` gives them. */
  readonly brokers: readonly string[]
  /** What brokers log of this process; `spillway` where absent. */
  readonly clientId?: string
  /** A process that says nothing for this long loses its partitions; 10 s where absent. The broker's `group.min.session.timeout.ms` is its lower bound. */
  readonly sessionTimeoutMs?: number
  /** Largest record, in bytes of key, value and headers; 1,000,000 where absent, which any topic takes. Topics that `ensure` creates take it; others must be set to. */
  readonly maxRecordBytes?: number
  /** How long `publish` waits for a broker that is away; 2 minutes where absent. */
  readonly deliveryTimeoutMs?: number
  readonly logger?: KafkaLogger
}

/** Beyond the records themselves: a batch's header and a record's own overhead (Kafka protocol, Record Batch). */
const batchOverheadBytes = 1024

/** The Bus on Apache Kafka: slices of a process's partitions are committed together, one transaction after the other. */
export class KafkaBus implements Bus {
  readonly name = 'kafka'
  readonly guarantee: Guarantee = { kind: 'exactly-once' }
  readonly maxRecordBytes: number
  readonly topics: TopicAdmin
  readonly #options: KafkaBusOptions
  readonly #kafka: Kafka
  readonly #admin: Admin
  readonly #topics: KafkaTopicAdmin
  readonly #limits: TopicLimits
  readonly #publishing: OpenCluster
  readonly #publisher: Publisher
  readonly #maxBatchBytes: number
  readonly #processors = new Set<Processor>()
  readonly #subscriptions = new Set<Promise<void>>()
  readonly #stop = new AbortController()
  #away = false
  #drained: Promise<void> | undefined

  constructor(options: KafkaBusOptions) {
    repairKafkajs()
    teachCodecs()
    this.#options = options
    this.maxRecordBytes = options.maxRecordBytes ?? 1_000_000
    this.#maxBatchBytes = this.maxRecordBytes + batchOverheadBytes
    this.#kafka = new kafkajs.Kafka({
      brokers: [...options.brokers],
      clientId: options.clientId ?? 'spillway',
      // kafkajs's default of 300 ms is also how long it waits for a coordinator that asks it to come again.
      retry: { initialRetryTime: 20, maxRetryTime: 500, retries: 3 },
      connectionTimeout: 3000,
      socketFactory: openSocket,
      logLevel: kafkajs.logLevel.INFO,
      logCreator: bridgeLogger(options.logger),
    })
    this.#admin = this.#kafka.admin()
    this.#limits = new TopicLimits(this.#admin, { maxRecordBytes: this.maxRecordBytes, maxBatchBytes: this.#maxBatchBytes })
    this.topics = this.#topics = new KafkaTopicAdmin(this.#admin, this.#maxBatchBytes + batchOverheadBytes)
    this.#publishing = openCluster(this.#kafka)
    this.#publisher = new Publisher(this.#publishing, {
      maxRecordBytes: this.maxRecordBytes,
      maxBatchBytes: this.#maxBatchBytes,
      maxWaitingBytes: 64 << 20,
      deliveryTimeoutMs: options.deliveryTimeoutMs ?? 120_000,
      onAway: (error) => this.#sayAway(error),
    })
  }

  /** Waits for a broker that is away until the signal fires. @throws MeshError UNAVAILABLE then, and at once where no broker's name exists. */
  async start(signal: AbortSignal): Promise<void> {
    await checkHosts('Kafka broker', this.#options.brokers)
    const onAway = (error: unknown): void => this.#sayAway(error)
    await connectPatiently(this.#publishing.cluster, signal, async () => this.#publishing.cluster.refreshMetadata(), onAway)
    await this.#admin.connect().catch((error: unknown) => {
      throw kafkaError(error, 'connecting')
    })
    if (this.#away) this.#options.logger?.warn({ brokers: this.#options.brokers }, 'the Kafka broker answers')
    this.#away = false
  }

  async publish(topic: string, records: Records, partition?: number): Promise<readonly RecordPosition[]> {
    try {
      return await this.#publisher.publish(topic, records, partition)
    } catch (error) {
      throw kafkaError(error, `publishing to "${topic}"`)
    }
  }

  async *subscribe(subscription: Subscription): AsyncGenerator<Slice, void, undefined> {
    const open = openCluster(this.#kafka)
    const signal = AbortSignal.any([subscription.signal, this.#stop.signal])
    try {
      yield* subscribe(open, { ...subscription, signal }, (error) => this.#sayAway(error))
      if (subscription.until !== undefined && this.#stop.signal.aborted && !subscription.signal.aborted) throw drainedBefore(subscription)
    } finally {
      // In the background: a connection waits for its fetch under way before it closes.
      const closed = open
        .close()
        .catch((error: unknown) => this.#sayAway(error))
        .finally(() => this.#subscriptions.delete(closed))
      this.#subscriptions.add(closed)
    }
  }

  process(options: ProcessOptions, handle: Handler): Processor {
    checkStamp(options.stamp)
    const processor = new KafkaProcessor({
      process: options,
      handle,
      open: () => openCluster(this.#kafka),
      sessionTimeoutMs: this.#options.sessionTimeoutMs ?? 10_000,
      limits: this.#limits,
      ensurePositions: async (topic, partitions) => this.#topics.ensurePositions(topic, partitions),
      onDrained: (drained) => this.#processors.delete(drained),
    })
    this.#processors.add(processor)
    return processor
  }

  async drain(): Promise<void> {
    return (this.#drained ??= this.#drain())
  }

  async #drain(): Promise<void> {
    await Promise.all([...this.#processors].map(async (processor) => processor.drain()))
    this.#stop.abort()
    await this.#publisher.drain()
    await Promise.all(this.#subscriptions)
    await this.#admin.disconnect()
  }

  #sayAway(error: unknown): void {
    if (!this.#away)
      this.#options.logger?.warn(
        { err: kafkaError(error, 'Kafka'), brokers: this.#options.brokers },
        'the Kafka broker is away: trying again',
      )
    this.#away = true
  }
}
