import { MeshError } from '@spillway/core'
import type { Msg } from '@nats-io/transport-node'
import { backoffMs, pause } from '../backoff.ts'
import { consumedRecords } from '../consumed.ts'
import { checkNote } from '../note.ts'
import type { Slots } from '../kafka/slot.ts'
import type { Attempt, Handler, Outputs, ProcessOptions, ProcessorEvent, Slice } from '../port.ts'
import { stampRecheckMs, stampRefusal } from '../stamp.ts'
import { isServerAway } from './errors.ts'
import type { NatsLink } from './link.ts'
import { decodeRecord, offsetOf, sequenceOf } from './messages.ts'
import { positionKey, streamOf } from './names.ts'
import { orAborted } from './or-aborted.ts'
import { RecordQueue } from './record-queue.ts'
import type { Router } from './router.ts'
import { FencedError, type FoundPosition, type Positions } from './positions.ts'
import { type Place, Puller } from './puller.ts'
import type { NatsTopics } from './topics.ts'
import type { Outgoing } from './lane.ts'
import type { Writer } from './writer.ts'

export interface PartitionWorkerOptions {
  readonly topic: string
  readonly partition: number
  readonly process: ProcessOptions
  readonly handle: Handler
  /** Places for handlers. */
  readonly slots: Slots
  readonly link: NatsLink
  readonly topics: NatsTopics
  readonly router: Router
  readonly writer: Writer
  readonly positions: Positions
  /** Another has written the position. Resolves when it is known again who holds the partition: the worker is halted where it is another. */
  onFenced(): Promise<void>
  onAway(error: unknown): void
  onBack(): void
  onEvent(event: ProcessorEvent): void
}

/** The most that is waited between two attempts. */
const handlerBackoffLimitMs = 10_000
const serverBackoffLimitMs = 2000
/** Outputs that were delivered are taken out of the position when nothing was committed for this long. */
const idleMs = 1000

/**
 * One input partition that this process holds. A slice is committed by one write: its position and its outputs, replacing the position before it and
 * only that. Then the outputs go to their streams, while the next slice is handled; they are all there before the next commit. Whoever takes the
 * partition over begins by sending the outputs that were committed last, with the ids that were committed with them.
 */
export class PartitionWorker {
  readonly topic: string
  readonly partition: number
  readonly #options: PartitionWorkerOptions
  readonly #key: string
  /** No more slices are begun. */
  readonly #finish = new AbortController()
  /** What is in flight is given up. */
  readonly #halt = new AbortController()
  readonly #found = Promise.withResolvers<void>()
  readonly #queue = new RecordQueue()
  #puller: Puller | undefined
  /** Undefined while the position is being found. */
  #position: { readonly next: bigint; readonly revision: number } | undefined
  #committed = 0n
  /** The position's outputs on their way; resolves when they are stored. */
  #delivery: Promise<void> = Promise.resolve()
  /** The position still holds outputs. */
  #holdsOutputs = false
  /** Nothing has been committed since the partition was taken over. */
  #takenOver = true
  #note: string | undefined
  /** The note is this process's. */
  #keepsNote = false
  #isRefused = false
  #slice: Slice | undefined
  #wake: (() => void) | undefined
  #running: Promise<void> | undefined

  constructor(options: PartitionWorkerOptions) {
    this.#options = options
    this.topic = options.topic
    this.partition = options.partition
    this.#key = positionKey(options.process.group, options.topic, options.partition)
  }

  /** Resolves when its position has been found for the first time, or it has ended. */
  get found(): Promise<void> {
    return this.#found.promise
  }

  /** First offset not yet committed, or whose outputs are not yet in their streams. */
  get committedOffset(): bigint {
    return this.#committed
  }

  start(): void {
    this.#running ??= this.#run()
  }

  /** Finishes and commits the slice in flight; past `graceMs` gives it up. */
  async finish(graceMs: number): Promise<void> {
    this.#finish.abort()
    this.#wake?.()
    const timer = setTimeout(() => this.halt(), graceMs)
    // Once it is halted, nothing that it is still waiting for matters.
    if (this.#running !== undefined) await orAborted(this.#running, this.#halt.signal)
    clearTimeout(timer)
    this.halt()
  }

  /** Gives up what is in flight, at once: the partition is another's. */
  halt(): void {
    this.#finish.abort()
    this.#halt.abort()
    this.#wake?.()
  }

  async #run(): Promise<void> {
    let failures = 0
    while (!this.#finish.signal.aborted) {
      try {
        if (this.#position === undefined) await this.#findPosition()
        else if (this.#queue.length > 0) await this.#processSlice()
        else await this.#wait()
        failures = 0
      } catch (error) {
        if (!this.#halt.signal.aborted) await this.#failed(error, ++failures)
      }
    }
    void this.#puller?.stop()
    await this.#tidy().catch((error: unknown) => {
      // What is left in the position is sent again by whoever comes next, with the same ids.
      if (!(error instanceof FencedError) && !this.#halt.signal.aborted) this.#options.onAway(error)
    })
    this.#found.resolve()
  }

  async #wait(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#wake = resolve
    const timer = this.#holdsOutputs ? setTimeout(resolve, idleMs) : undefined
    if (this.#queue.length === 0 && !this.#finish.signal.aborted) await promise
    clearTimeout(timer)
    this.#wake = undefined
    if (this.#queue.length === 0 && !this.#finish.signal.aborted) await this.#tidy()
  }

  /** Takes outputs that were delivered out of the position: nobody need look for them again. */
  async #tidy(): Promise<void> {
    // A note is dropped too: it must not be taken for the word of a process that died.
    if (!this.#holdsOutputs && !this.#keepsNote) return
    if (this.#halt.signal.aborted && !this.#keepsNote) return
    await this.#delivery
    if (this.#position !== undefined) await this.#write([], this.#position.next)
  }

  async #findPosition(): Promise<void> {
    await this.#puller?.stop()
    this.#puller = undefined
    this.#queue.clear()
    this.#slice = undefined
    const { topic, partition } = this
    const { positions, topics, process } = this.#options
    const found = await positions.read(this.#key)
    if (await this.#refused(found)) return
    if (found !== undefined) await this.#deliver(found.outputs, found.next, found.writtenMs)
    const { earliest, end } = await topics.ends(topic, partition)
    const next = found === undefined ? (process.from === 'latest' ? end : earliest) : this.#within(found.next, earliest, end)
    // Written even where nothing changes: the owner before us can commit no more.
    const position = { next, stamp: found?.stamp, note: found?.next === next ? found.note : undefined }
    const { revision } = await positions.write(this.#key, found?.revision ?? 0, position, [], this.#halt.signal)
    await positions.dropChunks(this.#key)
    this.#holdsOutputs = false
    this.#position = { next, revision }
    this.#note = position.note
    this.#committed = next
    this.#read(next)
    this.#options.onBack()
    this.#found.resolve()
  }

  /** Retention has passed the position, or the log has lost its end: on from the nearest record that there is. */
  #within(next: bigint, earliest: bigint, end: bigint): bigint {
    if (next >= earliest && next <= end) return next
    const to = next < earliest ? earliest : end
    this.#skipped(next, to)
    return to
  }

  #skipped(next: bigint, to: bigint): void {
    const error = new MeshError('OUT_OF_RANGE', `offset ${next} is not in the log: going on at ${to}`)
    this.#options.onEvent({ kind: 'retrying', topic: this.topic, partition: this.partition, attempt: 1, delayMs: 0, error })
  }

  /** Whether the position rests on something else: it is looked at again after a while. */
  async #refused(found: FoundPosition | undefined): Promise<boolean> {
    const { topic, partition } = this
    const error = stampRefusal(`"${topic}"/${partition}`, this.#options.process, found?.stamp)
    const before = this.#isRefused
    this.#isRefused = error !== undefined
    if (error === undefined) {
      if (before) this.#options.onEvent({ kind: 'assigned', partitions: [{ topic, partition }] })
      return false
    }
    if (!before) this.#options.onEvent({ kind: 'refused', topic, partition, error })
    this.#committed = found!.next
    this.#found.resolve()
    await pause(stampRecheckMs, this.#finish.signal)
    return true
  }

  #read(next: bigint): void {
    const { maxSliceRecords, maxSliceBytes } = this.#options.process
    let expected = sequenceOf(next)
    this.#puller = new Puller(this.#options.link, {
      stream: streamOf(this.topic, this.partition),
      from: { sequence: expected },
      // Room for the next slice beside the one that is being handled.
      wanted: () => (this.#queue.bytes < 2 * maxSliceBytes ? 2 * maxSliceRecords - this.#queue.length : 0),
      onMessage: (message: Msg, { sequence, acceptedMs }: Place) => {
        if (sequence > expected) this.#skipped(offsetOf(expected), offsetOf(sequence))
        expected = sequence + 1
        this.#queue.push(decodeRecord(message, sequence, acceptedMs))
        this.#wake?.()
      },
      onFailure: (error) => this.#options.onAway(error),
      onSuccess: () => this.#options.onBack(),
    })
    this.#puller.start()
  }

  async #processSlice(): Promise<void> {
    const { maxSliceRecords, maxSliceBytes } = this.#options.process
    const slice = (this.#slice ??= this.#queue.slice(this.topic, this.partition, maxSliceRecords, maxSliceBytes))
    const outputs = await this.#handle(slice)
    if (outputs === undefined) return
    if (this.#position === undefined) throw new MeshError('ABORTED', 'a note could not be kept: the position is looked up again')
    const consumed = consumedRecords(outputs, slice)
    const messages: Omit<Outgoing, 'id'>[] = []
    for (const write of outputs.writes) messages.push(...(await this.#options.router.route(write)).messages)
    await this.#delivery
    const next = slice.offsets[consumed - 1]! + 1n
    await this.#commit(messages, next)
    this.#takenOver = false
    this.#queue.drop(consumed)
    this.#slice = undefined
    this.#puller?.wake()
  }

  /** Undefined where it was given up. */
  async #handle(slice: Slice): Promise<Outputs | undefined> {
    const { slots, handle } = this.#options
    if (!(await slots.take(this.#finish.signal))) return undefined
    const { signal } = this.#halt
    try {
      return await orAborted(handle(slice, signal, this.#attempt()), signal)
    } finally {
      slots.release()
    }
  }

  #attempt(): Attempt {
    return {
      takenOver: this.#takenOver,
      note: this.#note,
      maxRecordBytes: () => this.#options.router.maxRecordBytes,
      keepNote: async (note) => {
        checkNote(note)
        // What the position holds is dropped with it: it must be in the streams.
        await this.#delivery
        if (this.#position === undefined) throw new MeshError('ABORTED', 'the position is not known: nothing can be committed')
        await this.#commit([], this.#position.next, note)
        this.#keepsNote = true
      },
    }
  }

  async #commit(messages: readonly Omit<Outgoing, 'id'>[], next: bigint, note?: string): Promise<void> {
    if (this.#halt.signal.aborted) throw new MeshError('ABORTED', 'the partition went to another owner')
    await this.#write(messages, next, note)
  }

  async #write(messages: readonly Omit<Outgoing, 'id'>[], next: bigint, note?: string): Promise<void> {
    const { positions, process } = this.#options
    const { signal } = this.#halt
    const { revision: replaced } = this.#position!
    this.#position = undefined
    // From here on another may find the outputs and send them: what was paused on the way looks for them first.
    const sinceMs = Date.now()
    const { revision, outputs } = await positions.write(this.#key, replaced, { next, stamp: process.stamp, note }, messages, signal)
    this.#position = { next, revision }
    this.#note = note
    this.#keepsNote = false
    this.#holdsOutputs = outputs.length > 0
    if (outputs.length === 0) this.#committed = next
    else {
      this.#delivery = this.#deliver(outputs, next, sinceMs)
      // Awaited before the next commit; a failure is that of being halted.
      this.#delivery.catch(() => {})
    }
  }

  /** Sends committed outputs until they are stored or it is halted: they can be neither changed nor given up. */
  async #deliver(outputs: readonly Outgoing[], next: bigint, sinceMs: number): Promise<void> {
    const { signal } = this.#halt
    for (let attempt = 1; outputs.length > 0; attempt++) {
      try {
        await this.#options.writer.write(outputs, { signal, sinceMs })
        break
      } catch (error) {
        if (signal.aborted) throw error
        const { topic, partition } = this
        const delayMs = backoffMs(attempt, serverBackoffLimitMs)
        this.#options.onEvent({ kind: 'retrying', topic, partition, attempt, delayMs, error: MeshError.from(error) })
        await pause(delayMs, signal)
      }
    }
    this.#committed = next
  }

  async #failed(thrown: unknown, attempt: number): Promise<void> {
    const { topic, partition } = this
    if (thrown instanceof FencedError) {
      await orAborted(this.#options.onFenced(), this.#halt.signal)
      await pause(backoffMs(attempt, serverBackoffLimitMs), this.#finish.signal)
      return
    }
    const away = isServerAway(thrown)
    if (away) this.#options.onAway(thrown)
    const delayMs = backoffMs(attempt, away ? serverBackoffLimitMs : handlerBackoffLimitMs)
    if (!away || attempt > 1) this.#options.onEvent({ kind: 'retrying', topic, partition, attempt, delayMs, error: MeshError.from(thrown) })
    await pause(delayMs, this.#finish.signal)
  }
}
