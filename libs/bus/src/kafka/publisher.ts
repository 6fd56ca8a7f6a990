import { MeshError } from '@spillway/core'
import type { RecordPosition, Records } from '../port.ts'
import { checkRecords, type RoundRobin } from '../records.ts'
import { backoffMs, pause } from '../backoff.ts'
import { isBrokerAway, kafkaError, protocolType } from './errors.ts'
import type { OpenCluster } from './kafkajs-cluster.ts'
import {
  batchesOf,
  mergedBatch,
  partitionCount,
  produce,
  type ProduceBatch,
  type ProducerIdentity,
  type SequencedBatch,
  Sequences,
} from './produce.ts'

export interface PublisherOptions {
  readonly maxRecordBytes: number
  readonly maxBatchBytes: number
  /** What may wait to be sent; beyond it `publish` is refused. */
  readonly maxWaitingBytes: number
  /** How long a broker that is away is waited for, from when the records were to be sent. */
  readonly deliveryTimeoutMs: number
  onAway(error: unknown): void
}

interface Job {
  readonly positions: RecordPosition[]
  left: number
  readonly done: PromiseWithResolvers<readonly RecordPosition[]>
}

/** A job's share of one batch. */
interface Share {
  readonly job: Job
  readonly batch: ProduceBatch
}

/** What a request carries: shares of one partition merged. */
interface Parcel {
  readonly shares: readonly Share[]
  readonly sequenced: SequencedBatch
}

/** The broker no longer recognises the producer, or not where it is in its sequence. */
const unrecognised: ReadonlySet<string> = new Set(['UNKNOWN_PRODUCER_ID', 'OUT_OF_ORDER_SEQUENCE_NUMBER', 'INVALID_PRODUCER_EPOCH'])

/**
 * Publishes for all callers with one idempotent producer and one request at a time: what is published while a request is on its way goes together
 * in the next. After a lost answer the very same request is sent again until it is answered, so that the broker recognises what it already has.
 */
export class Publisher {
  readonly #open: OpenCluster
  readonly #options: PublisherOptions
  readonly #waiting: Share[] = []
  readonly #turns = new Map<string, RoundRobin>()
  readonly #stop = new AbortController()
  #waitingBytes = 0
  #identity: ProducerIdentity | undefined
  #sequences = new Sequences()
  #sending: Promise<void> | undefined

  constructor(open: OpenCluster, options: PublisherOptions) {
    this.#open = open
    this.#options = options
  }

  async publish(topic: string, records: Records, partition?: number): Promise<readonly RecordPosition[]> {
    const { maxRecordBytes, maxBatchBytes, maxWaitingBytes } = this.#options
    checkRecords(records, maxRecordBytes)
    if (records.count === 0) return []
    if (this.#stop.signal.aborted) throw new MeshError('UNAVAILABLE', 'the bus is drained')
    const partitions = await this.#patiently(() => partitionCount(this.#open.cluster, topic), `publishing to "${topic}"`)
    let turn = this.#turns.get(topic)
    if (turn === undefined) this.#turns.set(topic, (turn = { next: 0 }))
    const batches = batchesOf({ topic, records, ...(partition !== undefined && { partition }) }, partitions, turn, maxBatchBytes)
    const bytes = batches.reduce((sum, batch) => sum + batch.bytes, 0)
    if (this.#waitingBytes > 0 && this.#waitingBytes + bytes > maxWaitingBytes)
      throw new MeshError('RESOURCE_EXHAUSTED', `${this.#waitingBytes} bytes wait to be published to Kafka: try again later`)
    const job: Job = { positions: new Array<RecordPosition>(records.count), left: batches.length, done: Promise.withResolvers() }
    for (const batch of batches) this.#waiting.push({ job, batch })
    this.#waitingBytes += bytes
    this.#sending ??= this.#send().finally(() => (this.#sending = undefined))
    return job.done.promise
  }

  /** Sends what waits, then closes. Idempotent. */
  async drain(): Promise<void> {
    await this.#sending
    this.#stop.abort()
    await this.#open.close()
  }

  async #send(): Promise<void> {
    // Callers of this turn of the event loop go together.
    await new Promise((resolve) => setImmediate(resolve))
    while (this.#waiting.length > 0) {
      const merged = this.#takeRequest()
      let parcels: Parcel[] | undefined
      try {
        await this.#identify()
        parcels = merged.map(({ shares, batch }) => ({ shares, sequenced: this.#sequences.take(batch) }))
        await this.#deliver(parcels)
      } catch (error) {
        for (const { shares } of merged) this.#refuse(shares, error)
        // What the broker has of the request is not known: its sequences cannot be used again.
        this.#identity = undefined
      }
    }
  }

  /** From the front, one batch of each partition, merging what fits; what does not fit keeps its place. */
  #takeRequest(): { shares: Share[]; batch: ProduceBatch }[] {
    const { maxBatchBytes } = this.#options
    const taken = new Map<string, { shares: Share[]; bytes: number; full: boolean }>()
    const rest: Share[] = []
    for (const share of this.#waiting) {
      const { batch } = share
      const name = `${batch.topic}/${batch.partition}`
      const parcel = taken.get(name)
      if (parcel === undefined) taken.set(name, { shares: [share], bytes: batch.bytes, full: false })
      else if (!parcel.full && parcel.bytes + batch.bytes <= maxBatchBytes) {
        parcel.shares.push(share)
        parcel.bytes += batch.bytes
      } else {
        parcel.full = true
        rest.push(share)
      }
    }
    this.#waiting.splice(0, this.#waiting.length, ...rest)
    return Array.from(taken.values(), ({ shares, bytes }) => ({
      shares,
      batch: mergedBatch(
        shares.map(({ batch }) => batch),
        bytes,
      ),
    }))
  }

  async #identify(): Promise<void> {
    this.#identity ??= await this.#patiently(async () => {
      const { cluster } = this.#open
      await cluster.connect()
      await cluster.refreshMetadataIfNecessary()
      const { producerId, producerEpoch } = await (await cluster.findControllerBroker()).initProducerId({ transactionTimeout: 60_000 })
      this.#sequences = new Sequences()
      return { producerId, producerEpoch }
    }, 'publishing')
  }

  /** Resolves when every parcel is in the log or was refused. */
  async #deliver(parcels: readonly Parcel[]): Promise<void> {
    const left = await this.#attempt(parcels)
    if (left.length > 0) await this.#startOver(left)
  }

  /** Gives what is not in the log because the broker no longer knows the producer: only that may be sent under a new identity. */
  async #attempt(parcels: readonly Parcel[]): Promise<readonly Parcel[]> {
    try {
      const batches = parcels.map(({ sequenced }) => sequenced)
      const baseOffsets = await this.#patiently(() => produce(this.#open.cluster, this.#identity!, batches), 'publishing')
      for (const [i, { shares }] of parcels.entries()) this.#settle(shares, baseOffsets[i]!)
      return []
    } catch (error) {
      if (error instanceof MeshError && error.code === 'UNAVAILABLE') throw error
      const [only] = parcels
      if (parcels.length > 1 || only === undefined) {
        // One partition's batch was refused: each by itself tells which, and those that were taken are recognised by their sequence.
        const left: Parcel[] = []
        for (const parcel of parcels) left.push(...(await this.#attempt([parcel])))
        return left
      }
      if (unrecognised.has(protocolType(error) ?? '')) return parcels
      this.#sequences.giveBack(only.sequenced)
      this.#refuse(only.shares, error)
      return []
    }
  }

  async #startOver(parcels: readonly Parcel[]): Promise<void> {
    this.#identity = undefined
    await this.#identify()
    await this.#deliver(parcels.map(({ shares, sequenced }) => ({ shares, sequenced: this.#sequences.take(sequenced.batch) })))
  }

  #settle(shares: readonly Share[], baseOffset: bigint): void {
    let offset = baseOffset
    for (const { job, batch } of shares) {
      for (const index of batch.indices) job.positions[index] = { partition: batch.partition, offset: offset++ }
      this.#waitingBytes -= batch.bytes
      if (--job.left === 0) job.done.resolve(job.positions)
    }
  }

  #refuse(shares: readonly Share[], error: unknown): void {
    for (const { job, batch } of shares) {
      this.#waitingBytes -= batch.bytes
      job.left--
      job.done.reject(kafkaError(error, `publishing to "${batch.topic}"`))
    }
  }

  /** Again and again while the broker is away, up to the delivery timeout. */
  async #patiently<T>(request: () => Promise<T>, what: string): Promise<T> {
    const endMs = Date.now() + this.#options.deliveryTimeoutMs
    for (let attempt = 1; ; attempt++) {
      try {
        return await request()
      } catch (error) {
        if (!isBrokerAway(error)) throw error
        this.#options.onAway(error)
        if (Date.now() > endMs || this.#stop.signal.aborted) throw kafkaError(error, what)
        await pause(backoffMs(attempt, 1000), this.#stop.signal)
        await this.#open.cluster.refreshMetadata().catch((error: unknown) => this.#options.onAway(error))
      }
    }
  }
}
