import { MeshError } from '@spillway/core'
import type { Attempt, Handler, Outputs, ProcessOptions, ProcessorEvent, Slice } from '../port.ts'
import { consumedRecords } from '../consumed.ts'
import { checkNote } from '../note.ts'
import { checkRecords, type RoundRobin } from '../records.ts'
import { backoffMs, pause } from '../backoff.ts'
import { stampRecheckMs, stampRefusal } from '../stamp.ts'
import { isBrokerAway, isFenced, isTooLarge, kafkaError } from './errors.ts'
import type { Fetched, Fetcher, FetchSource } from './fetcher.ts'
import type { Cluster } from './kafkajs-cluster.ts'
import { batchesOf, type ProduceBatch } from './produce.ts'
import { SliceQueue } from './slice-queue.ts'
import type { Slots } from './slot.ts'
import type { TopicLimits } from './topic-limits.ts'
import { TransactionalWriter } from './transaction.ts'

export interface PartitionWorkerOptions {
  readonly topic: string
  readonly partition: number
  readonly process: ProcessOptions
  readonly handle: Handler
  /** Places for handlers. */
  readonly slots: Slots
  readonly fetcher: Fetcher
  /** Metadata and offsets. */
  readonly reading: Cluster
  readonly writing: Cluster
  readonly limits: TopicLimits
  /** Another owner has begun: the group is to be left and joined anew. */
  onFenced(error: unknown): void
  onAway(error: unknown): void
  onBack(): void
  onEvent(event: ProcessorEvent): void
}

/** The most that is waited between two attempts. */
const handlerBackoffLimitMs = 10_000
const brokerBackoffLimitMs = 2000

/**
 * One input partition that this process owns: fetched records wait in a bounded queue, a slice of them is handled, and its outputs are committed
 * with its position, one slice after the other. The position is undefined while it is being found: at the start, and after a commit whose outcome
 * is not known. What was fetched is then discarded, since only the group's committed position counts.
 */
export class PartitionWorker implements FetchSource {
  readonly topic: string
  readonly partition: number
  readonly #options: PartitionWorkerOptions
  readonly #writer: TransactionalWriter
  /** No more slices are begun. */
  readonly #finish = new AbortController()
  /** What is in flight is given up. */
  readonly #halt = new AbortController()
  readonly #found = Promise.withResolvers<void>()
  readonly #queue = new SliceQueue()
  readonly #turns = new Map<string, RoundRobin>()
  #position: bigint | undefined
  #committed = 0n
  /** The last position whose commit the broker has acknowledged to us. */
  #acknowledged: bigint | undefined
  /** Nothing has been committed since the partition was taken over. */
  #takenOver = true
  #note: string | undefined
  /** The note is this process's. */
  #keepsNote = false
  /** Its position has another stamp. */
  #isRefused = false
  #fetchFrom: bigint | undefined
  #slice: Slice | undefined
  #wake: (() => void) | undefined
  #running: Promise<void> | undefined

  constructor(options: PartitionWorkerOptions) {
    this.#options = options
    this.topic = options.topic
    this.partition = options.partition
    const transactionalId = `${options.process.group}-${options.topic}-${options.partition}`
    this.#writer = new TransactionalWriter(options.writing, transactionalId, options.process.group, this.#halt.signal)
  }

  /** Resolves when its position has been found for the first time, or it has ended. */
  get found(): Promise<void> {
    return this.#found.promise
  }

  /** First offset not yet committed. */
  get committedOffset(): bigint {
    return this.#committed
  }

  start(): void {
    this.#running ??= this.#run()
    this.#options.fetcher.add(this)
  }

  /** Finishes and commits the slice in flight; past `graceMs` gives it up. */
  async finish(graceMs: number): Promise<void> {
    this.#finish.abort()
    this.#wake?.()
    const timer = setTimeout(() => this.halt(), graceMs)
    await this.#running
    clearTimeout(timer)
    this.halt()
  }

  /** Gives up what is in flight, at once: the partition is another's. */
  halt(): void {
    this.#options.fetcher.remove(this)
    this.#finish.abort()
    this.#halt.abort()
    this.#wake?.()
  }

  wantedFrom(): bigint | undefined {
    const { maxSliceRecords, maxSliceBytes } = this.#options.process
    // Room for the next slice beside the one that is being handled.
    return this.#queue.length < 2 * maxSliceRecords && this.#queue.bytes < 2 * maxSliceBytes ? this.#fetchFrom : undefined
  }

  accept({ from, messages, next }: Fetched): void {
    if (from !== this.#fetchFrom) return
    this.#fetchFrom = next
    this.#queue.push(messages)
    this.#wake?.()
  }

  outOfRange(position: bigint): void {
    if (position !== this.#fetchFrom) return
    this.#fetchFrom = undefined
    void this.#reposition(position)
  }

  /** Retention has passed the position, or the log has lost its end: on from the nearest record that there is. */
  async #reposition(position: bigint): Promise<void> {
    for (let attempt = 1; !this.#finish.signal.aborted; attempt++) {
      try {
        const earliest = await this.#logOffset('earliest')
        const to = position < earliest ? earliest : await this.#logOffset('latest')
        const error = new MeshError('OUT_OF_RANGE', `offset ${position} is not in the log: going on at ${to}`)
        this.#options.onEvent({ kind: 'retrying', topic: this.topic, partition: this.partition, attempt, delayMs: 0, error })
        this.#fetchFrom = to
        this.#options.fetcher.wake()
        this.#wake?.()
        return
      } catch (error) {
        this.#options.onAway(error)
        await pause(backoffMs(attempt, brokerBackoffLimitMs), this.#finish.signal)
      }
    }
  }

  async #run(): Promise<void> {
    let failures = 0
    while (!this.#finish.signal.aborted) {
      try {
        if (this.#position === undefined) await this.#findPosition()
        else if (this.#queue.length > 0) await this.#processSlice()
        else if (this.#fetchFrom !== undefined && this.#fetchFrom > this.#position) await this.#commit([], this.#fetchFrom)
        else {
          await new Promise<void>((resolve) => (this.#wake = resolve))
          continue
        }
        failures = 0
      } catch (error) {
        if (!this.#halt.signal.aborted) await this.#failed(error, ++failures)
      }
    }
    await this.#dropNote()
    this.#found.resolve()
  }

  /** It ends in order: its note must not be taken for the word of a process that died. One that another owner has read already is fenced. */
  async #dropNote(): Promise<void> {
    const { topic, partition } = this
    if (!this.#keepsNote || this.#position === undefined) return
    const position = { topic, partition, offset: this.#position, stamp: this.#options.process.stamp, note: undefined }
    await this.#writer.commit([], position).catch((error: unknown) => {
      if (!isFenced(error)) this.#options.onAway(error)
    })
  }

  /** In this order: the previous owner is fenced, so that the position stands still; it is read; only then is anything fetched. */
  async #findPosition(): Promise<void> {
    this.#fetchFrom = undefined
    this.#queue.clear()
    this.#slice = undefined
    await this.#writer.begin()
    const found = await this.#writer.committed(this.topic, this.partition)
    if (await this.#refused(found)) return
    const committed = this.#orAcknowledged(found?.offset)
    const { from } = this.#options.process
    const start = committed ?? (await this.#logOffset(from))
    // "The latest" is decided once: a restart must not skip what came in between.
    if (committed === undefined && from === 'latest') await this.#commit([], start)
    this.#position = start
    this.#committed = start
    this.#note = committed === found?.offset ? found?.note : undefined
    this.#fetchFrom = start
    this.#options.fetcher.wake()
    this.#options.onBack()
    this.#found.resolve()
  }

  /** Whether the position rests on something else: it is looked at again after a while. */
  async #refused(found: { readonly offset: bigint; readonly stamp: string | undefined } | undefined): Promise<boolean> {
    const { topic, partition } = this
    const error = stampRefusal(`"${topic}"/${partition}`, this.#options.process, found?.stamp)
    const before = this.#isRefused
    this.#isRefused = error !== undefined
    if (error === undefined) {
      if (before) this.#options.onEvent({ kind: 'assigned', partitions: [{ topic, partition }] })
      return false
    }
    if (!before) this.#options.onEvent({ kind: 'refused', topic, partition, error })
    this.#committed = found!.offset
    this.#found.resolve()
    await pause(stampRecheckMs, this.#finish.signal)
    return true
  }

  /**
   * A broker may forget a commit that it has acknowledged: Apache Kafka 4.3.1, restarted after a crash, can drop a transaction's markers
   * ("these partitions are likely deleted already", TransactionMarkerChannelManager). Nobody else has had the partition since then, or this
   * worker would have been halted, so what was acknowledged stands: to process it again would be to answer it twice.
   */
  #orAcknowledged(committed: bigint | undefined): bigint | undefined {
    const acknowledged = this.#acknowledged
    if (acknowledged === undefined || (committed !== undefined && committed >= acknowledged)) return committed
    const error = new MeshError(
      'DATA_LOSS',
      `the broker has forgotten a commit: it says ${committed ?? 'nothing'}, but has acknowledged ${acknowledged}; going on from there`,
    )
    this.#options.onEvent({ kind: 'retrying', topic: this.topic, partition: this.partition, attempt: 1, delayMs: 0, error })
    return acknowledged
  }

  async #logOffset(at: 'earliest' | 'latest'): Promise<bigint> {
    const { reading } = this.#options
    // A lost connection may have taken the metadata with it, and nothing may be wanted yet that would make the fetcher ask for it.
    await reading.connect()
    await reading.refreshMetadataIfNecessary()
    const [topic] = await reading.fetchTopicsOffset([
      { topic: this.topic, partitions: [{ partition: this.partition }], fromBeginning: at === 'earliest' },
    ])
    return BigInt(topic!.partitions[0]!.offset)
  }

  async #processSlice(): Promise<void> {
    const { maxSliceRecords, maxSliceBytes } = this.#options.process
    const slice = (this.#slice ??= this.#queue.slice(this.topic, this.partition, maxSliceRecords, maxSliceBytes))
    const outputs = await this.#handle(slice)
    if (outputs === undefined) return
    if (this.#position === undefined) throw new MeshError('ABORTED', 'a note could not be kept: the position is looked up again')
    const consumed = consumedRecords(outputs, slice)
    const batches = await this.#batches(outputs)
    try {
      await this.#commit(batches, this.#queue.offsetAt(consumed) ?? this.#fetchFrom!)
    } catch (error) {
      if (isTooLarge(error)) await this.#options.limits.learn([...new Set(batches.map(({ topic }) => topic))])
      throw error
    }
    this.#queue.drop(consumed)
    this.#slice = undefined
    this.#options.fetcher.wake()
  }

  /** Undefined where it was given up. */
  async #handle(slice: Slice): Promise<Outputs | undefined> {
    const { slots, handle } = this.#options
    if (!(await slots.take(this.#finish.signal))) return undefined
    const { signal } = this.#halt
    try {
      return await new Promise<Outputs | undefined>((resolve, reject) => {
        const giveUp = (): void => resolve(undefined)
        signal.addEventListener('abort', giveUp, { once: true })
        handle(slice, signal, this.#attempt())
          .then(resolve, reject)
          .finally(() => signal.removeEventListener('abort', giveUp))
      })
    } finally {
      slots.release()
    }
  }

  async #batches(outputs: Outputs): Promise<ProduceBatch[]> {
    const { limits } = this.#options
    const batches: ProduceBatch[] = []
    for (const write of outputs.writes) {
      if (write.records.count === 0) continue
      checkRecords(write.records, limits.recordBytes(write.topic))
      let turn = this.#turns.get(write.topic)
      if (turn === undefined) this.#turns.set(write.topic, (turn = { next: 0 }))
      batches.push(...batchesOf(write, await this.#writer.partitionCount(write.topic), turn, limits.batchBytes(write.topic)))
    }
    return batches
  }

  #attempt(): Attempt {
    return {
      takenOver: this.#takenOver,
      note: this.#note,
      keepNote: async (note) => this.#keepNote(note),
      maxRecordBytes: (topic) => this.#options.limits.recordBytes(topic),
    }
  }

  async #keepNote(note: string): Promise<void> {
    checkNote(note)
    if (this.#position === undefined) throw new MeshError('ABORTED', 'the position is not known: nothing can be committed')
    await this.#commit([], this.#position, note)
    this.#keepsNote = true
  }

  async #commit(batches: readonly ProduceBatch[], offset: bigint, note?: string): Promise<void> {
    const { topic, partition } = this
    // Another owner may have begun while the handler ran; its fence would stop us too, but this costs nothing.
    if (this.#halt.signal.aborted) throw new MeshError('ABORTED', 'the partition went to another owner')
    const wasAt = this.#position
    this.#position = undefined
    await this.#writer.commit(batches, { topic, partition, offset, stamp: this.#options.process.stamp, note })
    if (note === undefined && wasAt !== undefined) this.#takenOver = false
    this.#keepsNote = false
    this.#note = note
    this.#position = wasAt === undefined ? undefined : offset
    this.#committed = offset
    this.#acknowledged = offset
  }

  async #failed(thrown: unknown, attempt: number): Promise<void> {
    const { topic, partition } = this
    if (isFenced(thrown)) {
      const error = new MeshError('ABORTED', 'another has taken the partition over: nothing of this slice was committed', { cause: thrown })
      this.#options.onEvent({ kind: 'retrying', topic, partition, attempt, delayMs: brokerBackoffLimitMs, error })
      this.#options.onFenced(thrown)
      await pause(brokerBackoffLimitMs, this.#finish.signal)
      return
    }
    const away = isBrokerAway(thrown)
    if (away) this.#options.onAway(thrown)
    const delayMs = backoffMs(attempt, away ? brokerBackoffLimitMs : handlerBackoffLimitMs)
    if (!away || attempt > 1) this.#options.onEvent({ kind: 'retrying', topic, partition, attempt, delayMs, error: asMeshError(thrown) })
    await pause(delayMs, this.#finish.signal)
  }
}

function asMeshError(thrown: unknown): MeshError {
  return thrown instanceof Error && thrown.name.startsWith('KafkaJS') ? kafkaError(thrown, 'committing') : MeshError.from(thrown)
}
