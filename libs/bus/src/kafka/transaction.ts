import { MeshError } from '@spillway/core'
import { comeAgain } from './come-again.ts'
import { type Broker, type Cluster, coordinatorTypes } from './kafkajs-cluster.ts'
import type { Position } from './position.ts'
import { lastPosition } from './position-log.ts'
import { positionRecord, positionsTopic } from './position-record.ts'
import { partitionCount, produce, type ProduceBatch, type ProducerIdentity, rounds, Sequences } from './produce.ts'
import { topicId } from './topic-id.ts'

/** Whose positions on what. */
export interface WriterPlace {
  readonly group: string
  readonly topic: string
  readonly partition: number
}

/**
 * Writes outputs and a position in one transaction: the position is a record too, on a partition that no other transactional id writes to. It holds no transaction
 * open: one begins when its outputs are ready and ends in the same call. After any failure the outcome is unknown until `begin` has been called
 * again, which ends what was left open and fences whoever else used the id.
 */
export class TransactionalWriter {
  readonly #cluster: Cluster
  readonly #transactionalId: string
  readonly #topic: string
  readonly #positions: { readonly topic: string; readonly partition: number }
  readonly #signal: AbortSignal
  #identity: (ProducerIdentity & { readonly transactionalId: string }) | undefined
  #sequences = new Sequences()
  #coordinator: Broker | undefined
  #topicId: string | undefined
  /** Where the first position must land: what was read before it was the last one then. */
  #end: bigint | undefined

  /** The signal ends its waiting, not a commit under way. */
  constructor(cluster: Cluster, { group, topic, partition }: WriterPlace, signal: AbortSignal) {
    this.#cluster = cluster
    this.#transactionalId = `${group}-${topic}-${partition}`
    this.#topic = topic
    this.#positions = { topic: positionsTopic(group, topic), partition }
    this.#signal = signal
  }

  /** Takes the transactional id over: resolves when nothing that was begun with it before can still commit. */
  async begin(): Promise<void> {
    this.#identity = undefined
    this.#end = undefined
    await this.#cluster.connect()
    const transactionalId = this.#transactionalId
    const fields = await comeAgain(async () => {
      this.#coordinator = await this.#cluster.findGroupCoordinator({
        groupId: transactionalId,
        coordinatorType: coordinatorTypes.transaction,
      })
      return this.#coordinator.initProducerId({ transactionalId, transactionTimeout: 60_000 })
    }, this.#signal)
    this.#sequences = new Sequences()
    this.#identity = { producerId: fields.producerId, producerEpoch: fields.producerEpoch, transactionalId }
  }

  /** The position that was committed last; undefined where there is none, or where it is of a topic that is no more. To be read after `begin`: only then can it no longer move. */
  async recorded(): Promise<Position | undefined> {
    const { topic, partition } = this.#positions
    await this.partitionCount(topic)
    // What failed before may have failed because another broker leads the partition now.
    await this.#cluster.refreshMetadata()
    this.#topicId = await topicId(this.#cluster, this.#topic)
    const { recorded, end } = await lastPosition(this.#cluster, topic, partition)
    this.#end = end
    const isOfAnother = recorded?.topicId !== undefined && this.#topicId !== undefined && recorded.topicId !== this.#topicId
    return isOfAnother ? undefined : recorded?.position
  }

  /** Commits the batches and the position, or rejects; then `begin` must be called before the next. The signal ends its waiting for its turn. */
  async commit(batches: readonly ProduceBatch[], position: Position, signal: AbortSignal = this.#signal): Promise<void> {
    const identity = this.#identity!
    const coordinator = this.#coordinator!
    const records = positionRecord({ position, topicId: this.#topicId })
    const inRounds = rounds([{ ...this.#positions, records, indices: [0], bytes: records.values.bytes.length }, ...batches])
    const topics = partitionsByTopic(inRounds[0]!)
    await comeAgain(() => coordinator.addPartitionsToTxn({ ...identity, topics }), signal)
    for (const [i, round] of inRounds.entries()) {
      const [offset] = await produce(
        this.#cluster,
        identity,
        round.map((batch) => this.#sequences.take(batch)),
      )
      if (i === 0) this.#check(offset!)
    }
    await coordinator.endTxn({ ...identity, transactionResult: true })
  }

  /** A leader that had been deposed and did not know it would have shown an earlier position as the last. */
  #check(offset: bigint): void {
    const [end, { topic, partition }] = [this.#end, this.#positions]
    this.#end = undefined
    if (end !== undefined && offset !== end)
      throw new MeshError(
        'UNAVAILABLE',
        `the position on "${topic}"/${partition} landed at ${offset}, expected ${end}: it is looked up again`,
      )
  }

  /** Counts of partitions; of a topic not written to before, after one request. @throws MeshError NOT_FOUND */
  async partitionCount(topic: string): Promise<number> {
    // A lost connection may have taken the metadata with it.
    await this.#cluster.refreshMetadataIfNecessary()
    return this.#cluster.findTopicPartitionMetadata(topic).length || partitionCount(this.#cluster, topic)
  }
}

function partitionsByTopic(batches: readonly ProduceBatch[]): { readonly topic: string; readonly partitions: readonly number[] }[] {
  const topics = Map.groupBy(batches, (batch) => batch.topic)
  return Array.from(topics, ([topic, of]) => ({ topic, partitions: of.map((batch) => batch.partition) }))
}
