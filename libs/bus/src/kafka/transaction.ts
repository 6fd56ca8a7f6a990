import { MeshError } from '@spillway/core'
import { pause } from '../backoff.ts'
import type { GroupCommit, Session, Share } from './group-commit.ts'
import type { Cluster } from './kafkajs-cluster.ts'
import type { Position } from './position.ts'
import { type PositionsTail, readTail } from './position-log.ts'
import { positionRecord, positionsTopic } from './position-record.ts'
import type { ProduceBatch } from './produce.ts'
import type { TopicIds } from './topic-id.ts'

/** Whose positions on what. */
export interface WriterPlace {
  readonly group: string
  readonly topic: string
  readonly partition: number
}

export interface WriterOptions extends WriterPlace {
  readonly transactions: GroupCommit
  /** Metadata and positions are asked for here: its connections are not those of the transactions. */
  readonly reading: Cluster
  readonly topicIds: TopicIds
  /** The owner before lives, and is about to leave the partition: it is given time to do so, once. */
  readonly isMoving: boolean
  /** Ends its waiting, not a commit under way. */
  readonly signal: AbortSignal
}

/** The longest that an owner is given to leave a partition: fencing costs it whatever it has in hand, on all of its partitions. */
const leavingMs = 2000
/** How long what is being written may go on changing while it is read. */
const settlingMs = 30_000
const lookAgainMs = 20

/**
 * Writes an input partition's outputs and its position in one transaction of the process's: the position is a record too, which says whose it is. In this order: `begin`, `recorded`, then a
 * first `commit`, of the position that is gone on from. From then on whoever else takes the partition over finds this process there, and fences it. After any failure
 * the outcome is unknown, and the order begins anew.
 */
export class TransactionalWriter {
  readonly #options: WriterOptions
  readonly #positions: { readonly topic: string; readonly partition: number }
  #session: Session | undefined
  #topicId: string | undefined
  /** Where the first position must land: what was read before it was the last one then. */
  #landing: bigint | undefined
  /** What has failed since it last succeeded, and is committed alone: it may be what makes transactions fail. */
  readonly #failed = new Set<'position' | 'slice'>()
  #isMoving: boolean

  constructor(options: WriterOptions) {
    const { group, topic, partition, isMoving } = options
    this.#options = options
    this.#isMoving = isMoving
    this.#positions = { topic: positionsTopic(group, topic), partition }
  }

  /** Whether what was begun goes on: another partition's failure ends it too. */
  get isOpen(): boolean {
    return this.#session !== undefined && this.#session.failure === undefined
  }

  async begin(): Promise<void> {
    this.#session = undefined
    this.#landing = undefined
    this.#session = await this.#options.transactions.open()
  }

  /**
   * The position that was committed last; undefined where there is none, or where it is of a topic that is no more. Whoever wrote it, and whoever is about to write, is fenced before,
   * unless it has left the partition in order: another position can then land only where the next of this process must.
   */
  async recorded(): Promise<Position | undefined> {
    const { topic, reading, topicIds, signal } = this.#options
    await reading.connect()
    // What failed before may have failed because another broker leads the partition now.
    await reading.refreshMetadata()
    await this.partitionCount(this.#positions.topic)
    this.#topicId = await topicIds.of(reading, topic)
    const tail = await this.#settledTail(signal)
    this.#isMoving = false
    this.#landing = tail.end
    const isOfAnother = tail.recorded?.topicId !== undefined && this.#topicId !== undefined && tail.recorded.topicId !== this.#topicId
    return isOfAnother ? undefined : tail.recorded?.position
  }

  async #settledTail(signal: AbortSignal): Promise<PositionsTail> {
    const { transactions, reading } = this.#options
    const beganMs = Date.now()
    let fencedAt: bigint | undefined
    for (;;) {
      const tail = await readTail(reading, this.#positions)
      const others = [...tail.writers].filter((owner) => owner !== transactions.owner)
      // Fenced before anything else was written: who began anew since has to land where we do.
      if (!tail.isOpen && (others.length === 0 || fencedAt === tail.lastRecord)) return tail
      const waitedMs = Date.now() - beganMs
      if (signal.aborted || waitedMs > settlingMs)
        throw new MeshError('UNAVAILABLE', `the positions on "${this.#positions.topic}"/${this.#positions.partition} do not come to rest`)
      if (this.#isMoving && waitedMs < leavingMs) await pause(lookAgainMs, signal)
      else {
        await Promise.all(others.map((owner) => transactions.fence(owner)))
        fencedAt = tail.lastRecord
        if (others.length === 0) await pause(lookAgainMs, signal)
      }
    }
  }

  /** Commits the batches and the position, or rejects; then it must be begun anew. */
  async commit(batches: readonly ProduceBatch[], position: Position): Promise<void> {
    const landing = this.#landing
    this.#landing = undefined
    // A position that is gone on from, and a note that lies with it, say nothing of the slice.
    const what = landing !== undefined || position.note !== undefined ? 'position' : 'slice'
    try {
      await this.#write(batches, { position, isLeft: false, landing, isAlone: this.#failed.has(what) })
      this.#failed.delete(what)
    } catch (error) {
      this.#failed.add(what)
      throw error
    }
  }

  /** Leaves the partition in order, at this position: who takes it over has nobody to fence. @param signal ends it before anything is written */
  async leave(position: Position, signal: AbortSignal): Promise<void> {
    let landing: bigint | undefined
    if (!this.isOpen) {
      const session = await this.#options.transactions.open()
      landing = await this.#endBehind(position.offset)
      if (landing === undefined || signal.aborted) return
      this.#session = session
    }
    await this.#write([], { position, isLeft: true, landing, isAlone: landing !== undefined })
  }

  /**
   * Where the next position must land after another partition's failure, where nothing of this one was under way; undefined where the last one is not this process's own at that
   * offset, or one is not decided. Nobody is fenced to know: the partition may be another's by now.
   */
  async #endBehind(offset: bigint): Promise<bigint | undefined> {
    const { reading, transactions } = this.#options
    await reading.connect()
    await reading.refreshMetadata()
    const { recorded, isOpen, end } = await readTail(reading, this.#positions)
    const isOurs = recorded?.owner === transactions.owner && !recorded.isLeft && recorded.position.offset === offset
    return isOurs && !isOpen ? end : undefined
  }

  #write(
    batches: readonly ProduceBatch[],
    { position, isLeft, ...share }: { readonly position: Position; readonly isLeft: boolean } & Pick<Share, 'landing' | 'isAlone'>,
  ): Promise<void> {
    const { transactions } = this.#options
    const records = positionRecord({ position, topicId: this.#topicId, owner: transactions.owner, isLeft })
    const batch = { ...this.#positions, records, indices: [0], bytes: records.values.bytes.length }
    return transactions.commit(this.#session!, { batches: [batch, ...batches], ...share })
  }

  /** Counts of partitions; of a topic that was made since metadata was asked for last, after one request. @throws MeshError NOT_FOUND */
  async partitionCount(topic: string): Promise<number> {
    const { cluster } = this.#options.transactions
    // A lost connection may have taken the metadata with it.
    await cluster.refreshMetadataIfNecessary()
    // Of all topics: kafkajs, once asked for one by its name, forgets those that others are writing to.
    if (cluster.findTopicPartitionMetadata(topic).length === 0) await cluster.refreshMetadata()
    const { length } = cluster.findTopicPartitionMetadata(topic)
    if (length === 0) throw new MeshError('NOT_FOUND', `topic "${topic}" does not exist: create it, or check the name`, { field: 'topic' })
    return length
  }
}
