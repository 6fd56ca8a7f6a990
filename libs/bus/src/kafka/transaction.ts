import { pause } from '../backoff.ts'
import { asksToComeAgain } from './errors.ts'
import { type Broker, type Cluster, coordinatorTypes } from './kafkajs-cluster.ts'
import { decodeMetadata, encodeMetadata, type PositionMetadata } from './position-metadata.ts'
import { partitionCount, produce, type ProduceBatch, type ProducerIdentity, rounds, Sequences } from './produce.ts'

interface Position extends PositionMetadata {
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
}

/**
 * Writes outputs and a position in one transaction. It holds no transaction open: one begins when its outputs are ready and ends in the same call.
 * After any failure the outcome is unknown until `begin` has been called again, which ends what was left open and fences whoever else used the id.
 */
export class TransactionalWriter {
  readonly #cluster: Cluster
  readonly #transactionalId: string
  readonly #group: string
  readonly #signal: AbortSignal
  #identity: (ProducerIdentity & { readonly transactionalId: string }) | undefined
  #sequences = new Sequences()
  #transactionCoordinator: Broker | undefined
  #groupCoordinator: Broker | undefined

  /** The signal ends its waiting, not a commit under way. */
  constructor(cluster: Cluster, transactionalId: string, group: string, signal: AbortSignal) {
    this.#cluster = cluster
    this.#transactionalId = transactionalId
    this.#group = group
    this.#signal = signal
  }

  /** Takes the transactional id over: resolves when nothing that was begun with it before can still commit. */
  async begin(): Promise<void> {
    this.#identity = undefined
    const { group: ofGroup, transaction } = coordinatorTypes
    await this.#cluster.connect()
    const transactionTimeout = 60_000
    const fields = await this.#persist(async () => {
      this.#transactionCoordinator = await this.#cluster.findGroupCoordinator({
        groupId: this.#transactionalId,
        coordinatorType: transaction,
      })
      return this.#transactionCoordinator.initProducerId({ transactionalId: this.#transactionalId, transactionTimeout })
    })
    this.#groupCoordinator = await this.#cluster.findGroupCoordinator({ groupId: this.#group, coordinatorType: ofGroup })
    this.#sequences = new Sequences()
    this.#identity = { producerId: fields.producerId, producerEpoch: fields.producerEpoch, transactionalId: this.#transactionalId }
  }

  /** The group's position, its stamp and note; undefined where it has none. To be read after `begin`: only then can it no longer move. */
  async committed(topic: string, partition: number): Promise<({ readonly offset: bigint } & PositionMetadata) | undefined> {
    const coordinator = this.#groupCoordinator!
    const { responses } = await this.#persist(() =>
      coordinator.offsetFetch({ groupId: this.#group, topics: [{ topic, partitions: [{ partition }] }] }),
    )
    const { offset, metadata } = responses[0]!.partitions[0]!
    return BigInt(offset) < 0n ? undefined : { offset: BigInt(offset), ...decodeMetadata(metadata) }
  }

  /** Commits the batches and the position, or rejects; then `begin` must be called before the next. */
  async commit(batches: readonly ProduceBatch[], position: Position): Promise<void> {
    const identity = this.#identity!
    const coordinator = this.#transactionCoordinator!
    const inRounds = rounds(batches)
    if (inRounds.length > 0) {
      const topics = partitionsByTopic(inRounds[0]!)
      await this.#persist(() => coordinator.addPartitionsToTxn({ ...identity, topics }))
    }
    // Both sides at once: they are independent, and each takes two round trips.
    await settled([this.#write(identity, inRounds), this.#addPosition(identity, coordinator, position)])
    await coordinator.endTxn({ ...identity, transactionResult: true })
  }

  /** Counts of partitions; of a topic not written to before, after one request. @throws MeshError NOT_FOUND */
  async partitionCount(topic: string): Promise<number> {
    // A lost connection may have taken the metadata with it.
    await this.#cluster.refreshMetadataIfNecessary()
    return this.#cluster.findTopicPartitionMetadata(topic).length || partitionCount(this.#cluster, topic)
  }

  async #write(identity: ProducerIdentity, inRounds: readonly (readonly ProduceBatch[])[]): Promise<void> {
    for (const round of inRounds) {
      const sequenced = round.map((batch) => this.#sequences.take(batch))
      await produce(this.#cluster, identity, sequenced)
    }
  }

  async #addPosition(
    identity: ProducerIdentity & { readonly transactionalId: string },
    coordinator: Broker,
    { topic, partition, offset, ...metadata }: Position,
  ): Promise<void> {
    const groupId = this.#group
    await this.#persist(() => coordinator.addOffsetsToTxn({ ...identity, groupId }))
    await this.#groupCoordinator!.txnOffsetCommit({
      ...identity,
      groupId,
      topics: [{ topic, partitions: [{ partition, offset: String(offset), metadata: encodeMetadata(metadata) }] }],
    })
  }

  /** Comes again after ever longer pauses while the coordinator asks for it, for as long as it may take to end a transaction. */
  async #persist<T>(request: () => Promise<T>): Promise<T> {
    const endMs = Date.now() + 30_000
    for (let delayMs = 1; ; delayMs = Math.min(delayMs * 1.5, 50)) {
      try {
        return await request()
      } catch (error) {
        if (!asksToComeAgain(error) || this.#signal.aborted || Date.now() > endMs) throw error
        await pause(delayMs, this.#signal)
      }
    }
  }
}

function partitionsByTopic(batches: readonly ProduceBatch[]): { readonly topic: string; readonly partitions: readonly number[] }[] {
  const topics = Map.groupBy(batches, (batch) => batch.topic)
  return Array.from(topics, ([topic, of]) => ({ topic, partitions: of.map((batch) => batch.partition) }))
}

/** Waits for all, so that nothing of a failed commit is still on its way when the next begins; then the first failure. */
async function settled(parts: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(parts)) if (result.status === 'rejected') throw result.reason
}
