import { MeshError } from '@spillway/core'
import { backoffMs, pause } from '../backoff.ts'
import { consumedRecords } from '../consumed.ts'
import { checkNote } from '../note.ts'
import type { Handler, Lag, ProcessOptions, Processor, ProcessorEvent, Slice } from '../port.ts'
import { Slots } from '../slots.ts'
import { stampRecheckMs, stampRefusal } from '../stamp.ts'
import type { Engine } from './engine.ts'
import { LogReader } from './log-reader.ts'
import type { Log, StoredPosition } from './log-store.ts'
import { appended } from './waiting.ts'

const maxBackoffMs = 5000
const defaultDrainGraceMs = 10_000

/** One partition of one topic, worked on by one loop. */
interface Lane {
  readonly log: Log
  readonly reader: LogReader
  /** First offset not yet committed. */
  next: number
  /** Failed attempts at the slice in hand. */
  attempts: number
  /** The slice that the last attempt failed on: the next attempt gets the same. */
  slice: Slice | undefined
  /** Nothing has been committed since the processor started. */
  takenOver: boolean
  note: string | undefined
  /** The note is this processor's. */
  keepsNote: boolean
}

/** new -> running (start) -> draining (drain: no new slice) -> closed; abandoned once the grace of a drain is over. */
export class EmbeddedProcessor implements Processor {
  private readonly engine: () => Engine
  private readonly options: ProcessOptions
  private readonly handle: Handler
  private readonly slots: Slots
  private readonly stopping = new AbortController()
  private readonly abandoned = new AbortController()
  private readonly onDrained: (processor: EmbeddedProcessor) => void
  private lanes: readonly Lane[] = []
  private claims: readonly string[] = []
  private running: Promise<unknown> | undefined
  private drained: Promise<void> | undefined

  /** `engine` throws where the bus is not started. */
  constructor(engine: () => Engine, options: ProcessOptions, handle: Handler, onDrained: (processor: EmbeddedProcessor) => void) {
    this.engine = engine
    this.options = options
    this.handle = handle
    this.slots = new Slots(options.concurrency)
    this.onDrained = onDrained
  }

  async start(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.running !== undefined || this.drained !== undefined) throw new MeshError('FAILED_PRECONDITION', 'a processor is started once')
    const engine = this.engine()
    const logs = this.findLogs(engine)
    this.claim(engine)
    try {
      // The choice of the latest is kept at once: what comes in before the first commit must not be passed over by a restart.
      if (this.options.from === 'latest') await this.keepLatest(engine, logs)
    } catch (thrown) {
      this.unclaim(engine)
      throw thrown
    }
    this.lanes = logs.map((log) => ({
      log,
      reader: new LogReader(engine.store, log),
      next: this.stored(engine, log),
      attempts: 0,
      slice: undefined,
      takenOver: true,
      note: engine.store.position(this.options.group, log)?.note,
      keepsNote: false,
    }))
    this.emit({ kind: 'assigned', partitions: this.partitions() })
    this.running = Promise.all(this.lanes.map((lane) => this.run(engine, lane)))
  }

  drain(): Promise<void> {
    this.drained ??= this.stop()
    return this.drained
  }

  lags(): Promise<readonly Lag[]> {
    const engine = this.engine()
    const next = new Map(this.lanes.map((lane) => [lane.log, lane.next]))
    const lag = (log: Log): Lag => ({
      topic: log.topic,
      partition: log.partition,
      committedOffset: BigInt(next.get(log) ?? this.stored(engine, log)),
      endOffset: BigInt(log.end),
    })
    return Promise.resolve(this.findLogs(engine).map(lag))
  }

  private async stop(): Promise<void> {
    this.stopping.abort()
    if (this.running !== undefined) {
      const engine = this.engine()
      const settled = new AbortController()
      const finished = this.running.finally(() => settled.abort())
      await Promise.race([finished, pause(this.options.drainGraceMs ?? defaultDrainGraceMs, settled.signal)])
      this.abandoned.abort(new MeshError('CANCELLED', 'the processor was drained, and its grace is over'))
      // A commit that was under way when the grace ended is settled before another processor may read the position.
      await engine.committer.idle()
      await this.dropNotes(engine)
      this.unclaim(engine)
      this.emit({ kind: 'revoked', partitions: this.partitions() })
    }
    this.onDrained(this)
  }

  /** It ends in order: its notes must not be taken for the word of a process that died. */
  private async dropNotes(engine: Engine): Promise<void> {
    const noted = this.lanes.filter((lane) => lane.keepsNote)
    await Promise.all(noted.map((lane) => engine.committer.submit({ appends: [], position: this.positionAt(lane.log, lane.next) })))
  }

  private findLogs(engine: Engine): readonly Log[] {
    const topics = this.options.topics.map((name) => engine.router.topic(name))
    const counts = new Set(topics.map((topic) => topic.logs.length))
    if (counts.size > 1) {
      const found = topics.map((topic) => `"${topic.name}" has ${topic.logs.length}`).join(', ')
      throw new MeshError('FAILED_PRECONDITION', `topics that are processed together need equal counts of partitions: ${found}`)
    }
    return topics.flatMap((topic) => topic.logs)
  }

  private claim(engine: Engine): void {
    const { group, topics } = this.options
    const claims = topics.map((topic) => `${group} ${topic}`)
    if (claims.some((claim) => engine.claims.has(claim)))
      throw new MeshError('FAILED_PRECONDITION', `group "${group}" already processes ${topics.join(', ')}: give this one another group`, {
        field: 'group',
      })
    for (const claim of claims) engine.claims.add(claim)
    this.claims = claims
  }

  private unclaim(engine: Engine): void {
    for (const claim of this.claims) engine.claims.delete(claim)
  }

  private async keepLatest(engine: Engine, logs: readonly Log[]): Promise<void> {
    const fresh = logs.filter((log) => engine.store.position(this.options.group, log) === undefined)
    await Promise.all(fresh.map((log) => engine.committer.submit({ appends: [], position: this.positionAt(log, log.end) })))
  }

  private positionAt(log: Log, next: number, note?: string): StoredPosition {
    const { group, stamp } = this.options
    return { group, log, next, stamp, note }
  }

  private stored(engine: Engine, log: Log): number {
    const begin = this.options.from === 'latest' ? log.end : log.earliest
    return engine.store.position(this.options.group, log)?.next ?? begin
  }

  private partitions(): { topic: string; partition: number }[] {
    return this.lanes.map(({ log }) => ({ topic: log.topic, partition: log.partition }))
  }

  private async run(engine: Engine, lane: Lane): Promise<void> {
    await this.accept(engine, lane)
    while (!this.stopping.signal.aborted) {
      if (lane.slice === undefined && lane.next >= lane.log.end) {
        await appended([lane.log], this.stopping.signal)
        continue
      }
      if (!(await this.slots.take(this.stopping.signal))) return
      let failure: MeshError | undefined
      try {
        if (!this.stopping.signal.aborted) await this.attempt(engine, lane)
      } catch (thrown) {
        failure = MeshError.from(thrown)
      } finally {
        this.slots.release()
      }
      if (failure !== undefined && !this.abandoned.signal.aborted) await this.backOff(lane, failure)
    }
  }

  /** Waits for as long as the position rests on something else. */
  private async accept(engine: Engine, lane: Lane): Promise<void> {
    const { group, from } = this.options
    const { topic, partition } = lane.log
    for (let refused = false; !this.stopping.signal.aborted;) {
      const found = engine.store.position(group, lane.log)?.stamp
      const error = stampRefusal(`"${topic}"/${partition}`, this.options, found)
      if (error === undefined) {
        if (!refused) return
        if (from === 'latest') await this.keepLatest(engine, [lane.log])
        lane.next = this.stored(engine, lane.log)
        lane.note = engine.store.position(group, lane.log)?.note
        this.emit({ kind: 'assigned', partitions: [{ topic, partition }] })
        return
      }
      if (!refused) this.emit({ kind: 'refused', topic, partition, error })
      refused = true
      await pause(stampRecheckMs, this.stopping.signal)
    }
  }

  private async attempt(engine: Engine, lane: Lane): Promise<void> {
    const slice = (lane.slice ??= this.read(engine, lane))
    if (slice === undefined) return
    const { takenOver, note } = lane
    const keepNote = async (kept: string): Promise<void> => this.keepNote(engine, lane, kept)
    const outputs = await this.handle(slice, this.abandoned.signal, {
      takenOver,
      note,
      keepNote,
      maxRecordBytes: () => engine.router.maxRecordBytes,
    })
    if (this.abandoned.signal.aborted) return
    const next = Number(slice.offsets[consumedRecords(outputs, slice) - 1]!) + 1
    const appends = outputs.writes.flatMap((write) => engine.router.route(write))
    await engine.committer.submit({ appends, position: this.positionAt(lane.log, next) })
    Object.assign(lane, { next, attempts: 0, slice: undefined, takenOver: false, note: undefined, keepsNote: false })
  }

  private async keepNote(engine: Engine, lane: Lane, note: string): Promise<void> {
    checkNote(note)
    if (this.abandoned.signal.aborted) throw MeshError.from(this.abandoned.signal.reason)
    await engine.committer.submit({ appends: [], position: this.positionAt(lane.log, lane.next, note) })
    Object.assign(lane, { note, keepsNote: true })
  }

  private read(engine: Engine, lane: Lane): Slice | undefined {
    const { log } = lane
    if (lane.next < log.earliest) {
      const lost = { group: this.options.group, topic: log.topic, partition: log.partition, records: log.earliest - lane.next }
      engine.logger?.warn(lost, 'retention dropped records that the group had not processed')
      lane.next = log.earliest
    }
    return lane.reader.read(lane.next, this.options.maxSliceRecords, this.options.maxSliceBytes)
  }

  private async backOff(lane: Lane, error: MeshError): Promise<void> {
    const { topic, partition } = lane.log
    const delayMs = backoffMs(++lane.attempts, maxBackoffMs)
    this.emit({ kind: 'retrying', topic, partition, attempt: lane.attempts, delayMs, error })
    await pause(delayMs, this.stopping.signal)
  }

  private emit(event: ProcessorEvent): void {
    this.options.onEvent?.(event)
  }
}
