import { MeshError } from '@spillway/core'
import { backoffMs, pause } from '../backoff.ts'
import { consumedRecords } from '../consumed.ts'
import { orAborted } from '../or-aborted.ts'
import { brokerBackoffLimitMs, PartitionLoop, type PartitionLoopOptions } from '../partition-loop.ts'
import { PositionNote } from '../position-note.ts'
import { RecordQueue } from '../record-queue.ts'
import { isBrokerAway, isFenced, isTooLarge, kafkaError } from './errors.ts'
import type { Fetched, Fetcher, FetchSource } from './fetcher.ts'
import type { GroupCommit } from './group-commit.ts'
import type { GroupOffsets, PlacedOffset } from './group-offsets.ts'
import type { Cluster, FetchedMessage } from './kafkajs-cluster.ts'
import { logOffset } from './log-offset.ts'
import { heldMessages } from './messages.ts'
import { takenOver } from './position.ts'
import { OutputBatches } from './output-batches.ts'
import type { ProduceBatch } from './produce.ts'
import type { TopicIds } from './topic-id.ts'
import type { TopicLimits } from './topic-limits.ts'
import { TransactionalWriter } from './transaction.ts'

export interface PartitionWorkerOptions extends PartitionLoopOptions {
  readonly fetcher: Fetcher
  /** Another process is about to leave it. */
  readonly isMoving: boolean
  /** Metadata and offsets. */
  readonly reading: Cluster
  readonly topicIds: TopicIds
  readonly transactions: GroupCommit
  readonly limits: TopicLimits
  readonly groupOffsets: GroupOffsets
  /** Tells the group that it is at this offset. @throws where it does not take it */
  tellGroup(offset: PlacedOffset): Promise<void>
  /** Another process has ended this one's transactions. Resolves when the group has said anew what is this one's, and what is not has been halted. */
  confirmOwnership(): Promise<void>
  onAway(error: unknown): void
  onBack(): void
}

/** How long leaving a partition may take. */
const leaveMs = 2000

/**
 * One input partition that this process owns: fetched records wait in a bounded queue, a slice of them is handled, and its outputs are committed
 * with its position, one slice after the other; the next may be handled meanwhile. The position is undefined while it is being found: at the start, and after a
 * commit whose outcome is not known. What was fetched, and handled, is then discarded, since only the committed position counts.
 */
export class PartitionWorker implements FetchSource {
  readonly topic: string
  readonly partition: number
  readonly #options: PartitionWorkerOptions
  readonly #loop: PartitionLoop
  readonly #writer: TransactionalWriter
  readonly #queue: RecordQueue<FetchedMessage>
  readonly #outputs: OutputBatches
  readonly #note = new PositionNote()
  /** Where the next slice begins; undefined while that is not known. */
  #position: bigint | undefined
  /** What lies with it. */
  #stamp: string | undefined
  #recorded: bigint | undefined
  /** The commit of the slice before, which goes on while the next is handled. It does not reject: that is kept in `#failure`. */
  #committing: Promise<void> | undefined
  #failure: { readonly error: unknown } | undefined
  #handleMs = 0
  #commitMs = 0
  #fetchFrom: bigint | undefined

  constructor(options: PartitionWorkerOptions) {
    const { topic, partition, process, fetcher } = options
    this.#options = options
    this.topic = topic
    this.partition = partition
    this.#queue = new RecordQueue(topic, partition, heldMessages)
    this.#outputs = new OutputBatches(options.limits)
    this.#loop = new PartitionLoop(options)
    this.#loop.halted.addEventListener('abort', () => fetcher.remove(this), { once: true })
    const { transactions, reading, topicIds, isMoving } = options
    const place = { group: process.group, topic, partition }
    this.#writer = new TransactionalWriter({ ...place, transactions, reading, topicIds, isMoving, signal: this.#loop.halted })
  }

  /** Resolves when its position has been found for the first time, or it has ended. */
  get found(): Promise<void> {
    return this.#loop.found
  }

  /** First offset not yet committed. */
  get committedOffset(): bigint {
    return this.#loop.committedOffset
  }

  /** Where the group is, to be told; undefined while it has no position. */
  get recorded(): PlacedOffset | undefined {
    const { topic, partition } = this
    return this.#recorded === undefined ? undefined : { topic, partition, offset: this.#recorded }
  }

  start(): void {
    this.#loop.start({
      step: () => this.#step(),
      failed: (error, attempt) => this.#failed(error, attempt),
      end: () => this.#end(),
    })
    this.#options.fetcher.add(this)
  }

  /** Finishes and commits the slice in flight; past `graceMs` gives it up. */
  finish(graceMs: number): Promise<void> {
    return this.#loop.finish(graceMs)
  }

  /** Gives up what is in flight, at once: the partition is another's. Resolves when it has left it. */
  leave(): Promise<void> {
    this.#loop.halt()
    return this.#loop.finish(0)
  }

  wantedFrom(): bigint | undefined {
    const { maxSliceRecords, maxSliceBytes } = this.#options.process
    // Room for the next slice beside the one that is being handled.
    return this.#queue.length < 2 * maxSliceRecords && this.#queue.bytes < 2 * maxSliceBytes ? this.#fetchFrom : undefined
  }

  accept({ from, messages, next }: Fetched): void {
    if (from !== this.#fetchFrom) return
    this.#fetchFrom = next
    for (const message of messages) this.#queue.push(message)
    this.#loop.wake()
  }

  outOfRange(position: bigint): void {
    if (position !== this.#fetchFrom) return
    this.#fetchFrom = undefined
    void this.#reposition(position)
  }

  /** Retention has passed the position, or the log has lost its end: on from the nearest record that there is. */
  async #reposition(position: bigint): Promise<void> {
    const { finishing } = this.#loop
    for (let attempt = 1; !finishing.aborted; attempt++) {
      try {
        const earliest = await this.#logOffset('earliest')
        const to = position < earliest ? earliest : await this.#logOffset('latest')
        this.#loop.skipped(position, to, attempt)
        this.#fetchFrom = to
        this.#options.fetcher.wake()
        this.#loop.wake()
        return
      } catch (error) {
        this.#options.onAway(error)
        await pause(backoffMs(attempt, brokerBackoffLimitMs), finishing)
      }
    }
  }

  async #step(): Promise<void> {
    if (this.#committing !== undefined && !this.#overlaps()) return Promise.race([this.#committing, this.#loop.rest()])
    this.#throwFailure()
    if (this.#position === undefined || !this.#writer.isOpen) return this.#findPosition()
    if (this.#queue.length > 0) return this.#processSlice()
    if (this.#fetchFrom !== undefined && this.#fetchFrom > this.#position) return this.#commit([], this.#fetchFrom)
    return this.#loop.rest()
  }

  /**
   * Whether the next slice is handled while the one before is committed: where it is full, or takes longer to handle than to commit. Else it waits,
   * and takes along what comes meanwhile: begun at once it would hold little, and what comes behind it would wait for two commits.
   */
  #overlaps(): boolean {
    if (this.#note.isOpen || this.#queue.length === 0) return false
    const { maxSliceRecords, maxSliceBytes } = this.#options.process
    return this.#handleMs > this.#commitMs || this.#queue.holdsSlice(maxSliceRecords, maxSliceBytes)
  }

  /** @throws what made the last commit fail, once */
  #throwFailure(): void {
    const failure = this.#failure
    this.#failure = undefined
    if (failure !== undefined) throw failure.error
  }

  async #settled(): Promise<void> {
    await this.#committing
    this.#throwFailure()
  }

  async #end(): Promise<void> {
    await this.#committing
    if (this.#failure !== undefined) {
      const { error } = this.#failure
      if (!this.#loop.halted.aborted) await this.#failed(error, 1)
      else if (isFenced(error)) this.#sayFenced(error, 1)
    }
    await this.#leave()
  }

  /** It ends in order: nobody needs to be fenced, and its note must not be taken for the word of a process that died. */
  async #leave(): Promise<void> {
    const [offset, note] = [this.#position, this.#note]
    if (offset === undefined) return
    const limit = AbortSignal.timeout(leaveMs)
    const left = this.#writer.leave({ offset, stamp: this.#stamp, note: note.ofOwnerBefore }, limit)
    const error = await orAborted(
      left.then(
        () => undefined,
        (thrown: unknown) => thrown,
      ),
      limit,
    )
    if (error !== undefined && !isFenced(error)) this.#options.onAway(error)
  }

  /**
   * In this order: the owner before has left, or is fenced, so that the position stands still; it is read; it is made this owner's; only then is anything fetched. A
   * position from without counts once: a process that dies before the group is told leaves it to be given once more.
   */
  async #findPosition(): Promise<void> {
    this.#position = undefined
    this.#fetchFrom = undefined
    this.#recorded = undefined
    this.#queue.clear()
    await this.#writer.begin()
    const { topic, partition } = this
    const { process, groupOffsets } = this.#options
    const record = await this.#writer.recorded()
    const { position, isGiven } = takenOver(record, await groupOffsets.committed(topic, partition, this.#loop.halted))
    if (await this.#loop.refused(position)) return
    // "The latest" is decided once: a restart must not skip what came in between.
    const offset = position?.offset ?? (await this.#logOffset(process.from))
    this.#stamp = isGiven ? process.stamp : position?.stamp
    await this.#writer.commit([], { offset, stamp: this.#stamp, note: position?.note })
    if (isGiven) await this.#options.tellGroup({ topic, partition, offset })
    this.#position = offset
    this.#recorded = offset
    this.#loop.committedOffset = offset
    this.#note.found(position?.note)
    this.#fetchFrom = offset
    this.#options.fetcher.wake()
    this.#options.onBack()
    this.#loop.positionFound()
  }

  #logOffset(at: 'earliest' | 'latest'): Promise<bigint> {
    return logOffset(this.#options.reading, this, at)
  }

  async #processSlice(): Promise<void> {
    const { maxSliceRecords, maxSliceBytes } = this.#options.process
    const slice = this.#queue.slice(maxSliceRecords, maxSliceBytes)
    const keepNote = (note: string): Promise<void> => this.#keepNote(note)
    const attempt = this.#note.attempt(keepNote, (topic) => this.#options.limits.recordBytes(topic))
    const beganMs = performance.now()
    const outputs = await this.#loop.handle(slice, attempt)
    this.#handleMs = performance.now() - beganMs
    if (outputs === undefined) return
    const consumed = consumedRecords(outputs, slice)
    const batches = await this.#outputs.batches(outputs, (topic) => this.#writer.partitionCount(topic))
    await this.#settled()
    if (this.#position === undefined) throw new MeshError('ABORTED', 'a note could not be kept: the position is looked up again')
    const next = this.#queue.at(consumed)
    this.#commitBehind(batches, next === undefined ? this.#fetchFrom! : BigInt(next.offset))
    this.#queue.drop(consumed)
    this.#options.fetcher.wake()
  }

  #commitBehind(batches: readonly ProduceBatch[], offset: bigint): void {
    const beganMs = performance.now()
    const commit = async (): Promise<void> => {
      try {
        await this.#commit(batches, offset)
        this.#commitMs = performance.now() - beganMs
      } catch (error) {
        this.#failure = { error }
        if (isTooLarge(error)) await this.#outputs.learnLimits(batches).catch((thrown: unknown) => (this.#failure = { error: thrown }))
      }
      this.#committing = undefined
    }
    this.#committing = commit()
  }

  async #keepNote(note: string): Promise<void> {
    await this.#settled()
    if (this.#position === undefined) throw new MeshError('ABORTED', 'the position is not known: nothing can be committed')
    await this.#commit([], this.#position, note)
  }

  async #commit(batches: readonly ProduceBatch[], offset: bigint, note?: string): Promise<void> {
    // Another owner may have begun while the handler ran; its fence would stop us too, but this costs nothing.
    if (this.#loop.halted.aborted) throw new MeshError('ABORTED', 'the partition went to another owner')
    const wasAt = this.#position
    this.#position = offset
    try {
      await this.#writer.commit(batches, { offset, stamp: this.#options.process.stamp, note })
    } catch (error) {
      this.#position = undefined
      throw error
    }
    if (note === undefined && wasAt !== undefined) this.#note.advanced()
    this.#note.committed(note)
    this.#stamp = this.#options.process.stamp
    this.#loop.committedOffset = offset
    this.#recorded = offset
  }

  #sayFenced(thrown: unknown, attempt: number): void {
    const what = 'another process has taken over a partition of this one: nothing of this slice was committed'
    this.#loop.retrying(attempt, 0, new MeshError('ABORTED', what, { cause: thrown }))
  }

  async #failed(thrown: unknown, attempt: number): Promise<void> {
    if (isFenced(thrown)) {
      this.#sayFenced(thrown, attempt)
      await orAborted(this.#options.confirmOwnership(), this.#loop.finishing)
      return
    }
    const isAway = isBrokerAway(thrown)
    if (isAway) this.#options.onAway(thrown)
    return this.#loop.backOff(asMeshError(thrown), attempt, isAway)
  }
}

function asMeshError(thrown: unknown): MeshError {
  return thrown instanceof Error && thrown.name.startsWith('KafkaJS') ? kafkaError(thrown, 'committing') : MeshError.from(thrown)
}
