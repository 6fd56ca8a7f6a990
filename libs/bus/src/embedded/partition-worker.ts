import { MeshError } from '@spillway/core'
import { consumedRecords } from '../consumed.ts'
import { PartitionLoop, type PartitionLoopOptions } from '../partition-loop.ts'
import type { Slice } from '../port.ts'
import { PositionNote } from '../position-note.ts'
import type { Commit } from './committer.ts'
import type { Engine } from './engine.ts'
import { LogReader } from './log-reader.ts'
import type { Log, StoredPosition } from './log-store.ts'
import { appended } from './waiting.ts'

export interface PartitionWorkerOptions extends PartitionLoopOptions {
  readonly engine: Engine
  readonly log: Log
}

/** One input partition: a slice of it is read from the file, handled, and committed with its position, one after the other. */
export class PartitionWorker {
  readonly log: Log
  readonly #options: PartitionWorkerOptions
  readonly #loop: PartitionLoop
  readonly #reader: LogReader
  readonly #note = new PositionNote()
  /** First offset not yet committed; undefined until the position is found. */
  #next: number | undefined
  /** The slice that the last attempt failed on: the next attempt gets the same. */
  #slice: Slice | undefined

  constructor(options: PartitionWorkerOptions) {
    this.log = options.log
    this.#options = options
    this.#loop = new PartitionLoop(options)
    this.#reader = new LogReader(options.engine.store, options.log)
  }

  /** Resolves when its position has been found for the first time, or it has ended. */
  get found(): Promise<void> {
    return this.#loop.found
  }

  /** First offset not yet committed. */
  get committedOffset(): bigint {
    return this.#loop.committedOffset
  }

  start(): void {
    this.#loop.start({
      step: () => this.#step(),
      failed: (error, attempt) => this.#loop.backOff(MeshError.from(error), attempt, false),
      end: () => Promise.resolve(),
    })
  }

  /** Finishes and commits the slice in flight; past `graceMs` gives it up. */
  finish(graceMs: number): Promise<void> {
    return this.#loop.finish(graceMs)
  }

  /** It has ended in order: its note must not be taken for the word of a process that died. */
  async dropNote(): Promise<void> {
    if (this.#note.isOwn) await this.#commit(this.#next!)
  }

  async #step(): Promise<void> {
    if (this.#next === undefined) return this.#findPosition()
    if (this.#slice === undefined && this.#next >= this.log.end) return appended([this.log], this.#loop.finishing)
    return this.#processSlice(this.#next)
  }

  async #findPosition(): Promise<void> {
    const { engine, process } = this.#options
    const found = engine.store.position(process.group, this.log)
    if (await this.#loop.refused(found && { offset: BigInt(found.next), stamp: found.stamp })) return
    const next = found?.next ?? (process.from === 'latest' ? this.log.end : this.log.earliest)
    this.#loop.committedOffset = BigInt(next)
    // The choice of the latest is kept at once: what comes in before the first commit must not be passed over by a restart.
    if (found === undefined && process.from === 'latest') await this.#commit(next)
    this.#next = next
    this.#note.found(found?.note)
    this.#loop.positionFound()
  }

  async #processSlice(from: number): Promise<void> {
    const slice = (this.#slice ??= this.#read(from))
    if (slice === undefined) return
    const { router } = this.#options.engine
    const keepNote = (note: string): Promise<void> => this.#keepNote(note)
    const outputs = await this.#loop.handle(
      slice,
      this.#note.attempt(keepNote, () => router.maxRecordBytes),
    )
    if (outputs === undefined || this.#loop.halted.aborted) return
    const next = Number(slice.offsets[consumedRecords(outputs, slice) - 1]!) + 1
    const appends = outputs.writes.flatMap((write) => router.route(write))
    await this.#commit(next, { appends })
    this.#note.advanced()
    this.#slice = undefined
    this.#next = next
    this.#loop.committedOffset = BigInt(next)
  }

  async #keepNote(note: string): Promise<void> {
    if (this.#loop.halted.aborted) throw new MeshError('CANCELLED', 'the processor was drained, and its grace is over')
    await this.#commit(this.#next!, { note })
  }

  async #commit(next: number, { appends = [], note }: { appends?: Commit['appends']; note?: string } = {}): Promise<void> {
    const { engine, process } = this.#options
    const position: StoredPosition = { group: process.group, log: this.log, next, stamp: process.stamp, note }
    await engine.committer.submit({ appends, position })
    this.#note.committed(note)
  }

  #read(next: number): Slice | undefined {
    const { engine, process } = this.#options
    const { topic, partition, earliest } = this.log
    if (next < earliest) {
      const lost = { group: process.group, topic, partition, records: earliest - next }
      engine.logger?.warn(lost, 'retention dropped records that the group had not processed')
      this.#next = next = earliest
    }
    return this.#reader.read(next, process.maxSliceRecords, process.maxSliceBytes)
  }
}
