import { MeshError } from '@spillway/core'
import type { Msg } from '@nats-io/transport-node'
import { backoffMs, pause } from '../backoff.ts'
import { consumedRecords } from '../consumed.ts'
import { orAborted } from '../or-aborted.ts'
import { brokerBackoffLimitMs, PartitionLoop, type PartitionLoopOptions } from '../partition-loop.ts'
import { PositionNote } from '../position-note.ts'
import { RecordQueue } from '../record-queue.ts'
import { isServerAway } from './errors.ts'
import type { NatsLink } from './link.ts'
import { decodeRecord, heldRecords, offsetOf, sequenceOf, type StoredRecord } from './messages.ts'
import { positionKey, streamOf } from './names.ts'
import type { Router } from './router.ts'
import { FencedError, type Positions } from './positions.ts'
import { type Place, Puller } from './puller.ts'
import type { NatsTopics } from './topics.ts'
import type { Outgoing } from './lane.ts'
import type { Writer } from './writer.ts'

export interface PartitionWorkerOptions extends PartitionLoopOptions {
  readonly link: NatsLink
  readonly topics: NatsTopics
  readonly router: Router
  readonly writer: Writer
  readonly positions: Positions
  /** Another has written the position. Resolves when it is known again who holds the partition: the worker is halted where it is another. */
  onFenced(): Promise<void>
  onAway(error: unknown): void
  onBack(): void
}

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
  readonly #loop: PartitionLoop
  readonly #queue: RecordQueue<StoredRecord>
  readonly #note = new PositionNote()
  #puller: Puller | undefined
  /** Undefined while the position is being found. */
  #position: { readonly next: bigint; readonly revision: number } | undefined
  /** Where the log ended when the position was found; undefined once the first slice is gathered. */
  #gatherTo: bigint | undefined
  /** The position's outputs on their way; resolves when they are stored. */
  #delivery: Promise<void> = Promise.resolve()
  /** The position still holds outputs. */
  #holdsOutputs = false

  constructor(options: PartitionWorkerOptions) {
    const { topic, partition, process } = options
    this.#options = options
    this.topic = topic
    this.partition = partition
    this.#key = positionKey(process.group, topic, partition)
    this.#queue = new RecordQueue(topic, partition, heldRecords)
    this.#loop = new PartitionLoop(options)
  }

  /** Resolves when its position has been found for the first time, or it has ended. */
  get found(): Promise<void> {
    return this.#loop.found
  }

  /** First offset not yet committed, or whose outputs are not yet in their streams. */
  get committedOffset(): bigint {
    return this.#loop.committedOffset
  }

  start(): void {
    this.#loop.start({
      step: () => this.#step(),
      failed: (error, attempt) => this.#failed(error, attempt),
      end: () => this.#end(),
    })
  }

  /** Finishes and commits the slice in flight; past `graceMs` gives it up. */
  async finish(graceMs: number): Promise<void> {
    // Once it is halted, nothing that it is still waiting for matters.
    await orAborted(this.#loop.finish(graceMs), this.#loop.halted)
  }

  /** Gives up what is in flight, at once: the partition is another's. */
  halt(): void {
    this.#loop.halt()
  }

  async #step(): Promise<void> {
    if (this.#position === undefined) return this.#findPosition()
    if (this.#queue.length > 0 && this.#isGathered()) return this.#processSlice()
    await this.#loop.rest(this.#holdsOutputs ? idleMs : undefined)
    if (this.#queue.length === 0 && !this.#loop.finishing.aborted) await this.#tidy()
  }

  /**
   * The first slice is to hold all that the owner before may have been given: messages come one after the other, and what is cut of the first of them
   * would be committed, and its note dropped, without the row that the owner before died over.
   */
  #isGathered(): boolean {
    if (this.#gatherTo === undefined) return true
    const { maxSliceRecords, maxSliceBytes } = this.#options.process
    const last = this.#queue.at(this.#queue.length - 1)!
    if (offsetOf(last.sequence) + 1n < this.#gatherTo && !this.#queue.holdsSlice(maxSliceRecords, maxSliceBytes)) return false
    this.#gatherTo = undefined
    return true
  }

  async #end(): Promise<void> {
    void this.#puller?.stop()
    await this.#tidy().catch((error: unknown) => {
      // What is left in the position is sent again by whoever comes next, with the same ids.
      if (!(error instanceof FencedError) && !this.#loop.halted.aborted) this.#options.onAway(error)
    })
  }

  /** Takes outputs that were delivered out of the position: nobody need look for them again. */
  async #tidy(): Promise<void> {
    // A note is dropped too: it must not be taken for the word of a process that died.
    if (!this.#holdsOutputs && !this.#note.isOwn) return
    if (this.#loop.halted.aborted && !this.#note.isOwn) return
    await this.#delivery
    if (this.#position !== undefined) await this.#write([], this.#position.next)
  }

  async #findPosition(): Promise<void> {
    await this.#puller?.stop()
    this.#puller = undefined
    this.#queue.clear()
    const { topic, partition } = this
    const { positions, topics, process } = this.#options
    const found = await positions.read(this.#key)
    if (await this.#loop.refused(found && { offset: found.next, stamp: found.stamp })) return
    if (found !== undefined) await this.#deliver(found.outputs, found.next, found.writtenMs)
    const { earliest, end } = await topics.ends(topic, partition)
    const next = found === undefined ? (process.from === 'latest' ? end : earliest) : this.#within(found.next, earliest, end)
    // Written even where nothing changes: the owner before us can commit no more.
    const position = { next, stamp: found?.stamp, note: found?.next === next ? found.note : undefined }
    const { revision } = await positions.write(this.#key, found?.revision ?? 0, position, [], this.#loop.halted)
    await positions.dropChunks(this.#key)
    this.#holdsOutputs = false
    this.#position = { next, revision }
    this.#gatherTo = end
    this.#note.found(position.note)
    this.#loop.committedOffset = next
    this.#read(next)
    this.#options.onBack()
    this.#loop.positionFound()
  }

  /** Retention has passed the position, or the log has lost its end: on from the nearest record that there is. */
  #within(next: bigint, earliest: bigint, end: bigint): bigint {
    if (next >= earliest && next <= end) return next
    const to = next < earliest ? earliest : end
    this.#loop.skipped(next, to)
    return to
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
        if (sequence > expected) this.#loop.skipped(offsetOf(expected), offsetOf(sequence))
        expected = sequence + 1
        this.#queue.push(decodeRecord(message, sequence, acceptedMs))
        this.#loop.wake()
      },
      onIdle: () => {
        // The last records may have been deleted since: there is no more to gather.
        this.#gatherTo = undefined
        this.#loop.wake()
      },
      onFailure: (error) => this.#options.onAway(error),
      onSuccess: () => this.#options.onBack(),
    })
    this.#puller.start()
  }

  async #processSlice(): Promise<void> {
    const { maxSliceRecords, maxSliceBytes } = this.#options.process
    const slice = this.#queue.slice(maxSliceRecords, maxSliceBytes)
    const keepNote = (note: string): Promise<void> => this.#keepNote(note)
    const attempt = this.#note.attempt(keepNote, () => this.#options.router.maxRecordBytes)
    const outputs = await this.#loop.handle(slice, attempt)
    if (outputs === undefined) return
    if (this.#position === undefined) throw new MeshError('ABORTED', 'a note could not be kept: the position is looked up again')
    const consumed = consumedRecords(outputs, slice)
    const messages: Omit<Outgoing, 'id'>[] = []
    for (const write of outputs.writes) messages.push(...(await this.#options.router.route(write)).messages)
    await this.#delivery
    const next = slice.offsets[consumed - 1]! + 1n
    await this.#commit(messages, next)
    this.#note.advanced()
    this.#queue.drop(consumed)
    this.#puller?.wake()
  }

  async #keepNote(note: string): Promise<void> {
    // What the position holds is dropped with it: it must be in the streams.
    await this.#delivery
    if (this.#position === undefined) throw new MeshError('ABORTED', 'the position is not known: nothing can be committed')
    await this.#commit([], this.#position.next, note)
  }

  async #commit(messages: readonly Omit<Outgoing, 'id'>[], next: bigint, note?: string): Promise<void> {
    if (this.#loop.halted.aborted) throw new MeshError('ABORTED', 'the partition went to another owner')
    await this.#write(messages, next, note)
  }

  async #write(messages: readonly Omit<Outgoing, 'id'>[], next: bigint, note?: string): Promise<void> {
    const { positions, process } = this.#options
    const signal = this.#loop.halted
    const { revision: replaced } = this.#position!
    this.#position = undefined
    // From here on another may find the outputs and send them: what was paused on the way looks for them first.
    const sinceMs = Date.now()
    const { revision, outputs } = await positions.write(this.#key, replaced, { next, stamp: process.stamp, note }, messages, signal)
    this.#position = { next, revision }
    this.#note.committed(note)
    this.#holdsOutputs = outputs.length > 0
    if (outputs.length === 0) this.#loop.committedOffset = next
    else {
      this.#delivery = this.#deliver(outputs, next, sinceMs)
      // Awaited before the next commit; a failure is that of being halted.
      this.#delivery.catch(() => {})
    }
  }

  /** Sends committed outputs until they are stored or it is halted: they can be neither changed nor given up. */
  async #deliver(outputs: readonly Outgoing[], next: bigint, sinceMs: number): Promise<void> {
    const signal = this.#loop.halted
    for (let attempt = 1; outputs.length > 0; attempt++) {
      try {
        await this.#options.writer.write(outputs, { signal, sinceMs })
        break
      } catch (error) {
        if (signal.aborted) throw error
        const delayMs = backoffMs(attempt, brokerBackoffLimitMs)
        this.#loop.retrying(attempt, delayMs, MeshError.from(error))
        await pause(delayMs, signal)
      }
    }
    this.#loop.committedOffset = next
  }

  async #failed(thrown: unknown, attempt: number): Promise<void> {
    if (thrown instanceof FencedError) {
      await orAborted(this.#options.onFenced(), this.#loop.halted)
      return pause(backoffMs(attempt, brokerBackoffLimitMs), this.#loop.finishing)
    }
    const isAway = isServerAway(thrown)
    if (isAway) this.#options.onAway(thrown)
    return this.#loop.backOff(MeshError.from(thrown), attempt, isAway)
  }
}
