import { decodeMetadata, encodeMetadata } from '../../libs/bus/src/kafka/group-metadata.ts'
import { type Broker, type Cluster, coordinatorTypes } from '../../libs/bus/src/kafka/kafkajs-cluster.ts'
import type { Position } from '../../libs/bus/src/kafka/position.ts'
import { partitionCount, produce, type ProduceBatch, type ProducerIdentity, rounds, Sequences } from '../../libs/bus/src/kafka/produce.ts'
import type { TransactionalWriter as ExactlyOnce, WriterOptions } from '../../libs/bus/src/kafka/transaction.ts'

/** As consumers that commit by the clock do, though theirs is 5 s. */
const commitIntervalMs = 1000

/**
 * Stands in for the bus's writer: outputs are durable (all in-sync replicas) when `commit` resolves, and no transaction holds them back or is waited
 * for; positions follow at most once a second, behind the outputs and off their way. What a partition's last second answered is answered again
 * after a crash. Its producer is idempotent, as producers are by default.
 */
export class TransactionalWriter implements Pick<ExactlyOnce, 'isOpen' | 'begin' | 'recorded' | 'commit' | 'leave' | 'partitionCount'> {
  readonly #cluster: Cluster
  readonly #group: string
  readonly #place: { readonly topic: string; readonly partition: number }
  readonly #signal: AbortSignal
  #identity: ProducerIdentity | undefined
  #sequences = new Sequences()
  #coordinator: Broker | undefined
  #position: Position | undefined
  #timer: NodeJS.Timeout | undefined
  #failure: unknown

  /** The broker takes a plain commit from members of a group that kafkajs joined, or for a group without members: this is the latter. */
  constructor({ reading, group, topic, partition, signal }: WriterOptions) {
    this.#cluster = reading
    this.#place = { topic, partition }
    this.#group = `${group}.at-least-once`
    this.#signal = signal
    signal.addEventListener('abort', () => clearTimeout(this.#timer), { once: true })
  }

  get isOpen(): boolean {
    return this.#identity !== undefined && this.#failure === undefined
  }

  async begin(): Promise<void> {
    this.#failure = undefined
    await this.#cluster.connect()
    await this.#cluster.refreshMetadataIfNecessary()
    const groupCoordinator = { groupId: this.#group, coordinatorType: coordinatorTypes.group }
    this.#coordinator = await this.#cluster.findGroupCoordinator(groupCoordinator)
    const { producerId, producerEpoch } = await (await this.#cluster.findControllerBroker()).initProducerId({ transactionTimeout: 60_000 })
    this.#identity = { producerId, producerEpoch }
    this.#sequences = new Sequences()
  }

  async recorded(): Promise<Position | undefined> {
    const { topic, partition } = this.#place
    const { responses } = await this.#coordinator!.offsetFetch({ groupId: this.#group, topics: [{ topic, partitions: [{ partition }] }] })
    const { offset, metadata } = responses[0]!.partitions[0]!
    const { stamp, note } = decodeMetadata(metadata)
    return BigInt(offset) < 0n ? undefined : { offset: BigInt(offset), stamp, note }
  }

  async commit(batches: readonly ProduceBatch[], position: Position): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    for (const round of rounds(batches)) {
      const sequenced = round.map((batch) => this.#sequences.take(batch))
      await produce(this.#cluster, this.#identity!, sequenced)
    }
    this.#position = position
    // A note must be there before what it is about is tried.
    if (position.note !== undefined) await this.#commitPosition(position)
    else this.#timer ??= setTimeout(() => this.#commitLater(), commitIntervalMs)
  }

  async leave(position: Position): Promise<void> {
    clearTimeout(this.#timer)
    await this.#commitPosition(position)
  }

  async partitionCount(topic: string): Promise<number> {
    await this.#cluster.refreshMetadataIfNecessary()
    return this.#cluster.findTopicPartitionMetadata(topic).length || partitionCount(this.#cluster, topic)
  }

  #commitLater(): void {
    this.#timer = undefined
    if (this.#signal.aborted) return
    this.#commitPosition(this.#position!).catch((error: unknown) => (this.#failure = error))
  }

  async #commitPosition({ offset, stamp, note }: Position): Promise<void> {
    const { topic, partition } = this.#place
    const metadata = encodeMetadata(stamp) + (note === undefined ? '' : `\nspillway-note:${note}`)
    await this.#coordinator!.offsetCommit({
      groupId: this.#group,
      groupGenerationId: -1,
      memberId: '',
      topics: [{ topic, partitions: [{ partition, offset: String(offset), metadata }] }],
    })
  }
}
