import {
  type Clock,
  type Component,
  type FailedRows,
  mergeResults,
  MeshError,
  redrivenHeader,
  type Runner,
  type RunResult,
  type StageContext,
} from '@spillway/core'
import type { Attempt, Bus, Lag, Outputs, Processor, ProcessorEvent, Slice, Write } from '@spillway/bus'
import type { HistoryStore } from '@spillway/features'
import type { MeshMetrics, Telemetry } from '@spillway/telemetry'
import { Guard } from './guard.ts'
import { InputLanes } from './input-lanes.ts'
import { Isolation } from './isolation.ts'
import type { Pipeline } from './pipeline.ts'
import type { SegmentPlan } from './graph.ts'
import type { RedriveHead } from './redrive-head.ts'
import { SegmentOutputs } from './segment-outputs.ts'
import type { Sink } from './sinks.ts'
import type { Decoded, Source } from './sources.ts'
import { Turns } from './turns.ts'

export interface SegmentOptions {
  readonly plan: SegmentPlan
  readonly pipeline: Pipeline
  readonly bus: Bus
  /** By source topic. */
  readonly entries: ReadonlyMap<string, { readonly source: Source; readonly runner: Runner; readonly answers: boolean }>
  readonly sinks: ReadonlyMap<string, Sink>
  /** Reads the letters that are given back; absent where none are taken. */
  readonly redrive?: RedriveHead
  /** Where the stages keep their histories, for a segment that reads events. */
  readonly histories?: HistoryStore
  /** The process's, so that it tells its segments' rows apart; one of its own where absent. */
  readonly isolation?: Isolation
  readonly telemetry: Telemetry
  readonly metrics: MeshMetrics
  readonly clock: Clock
}

/**
 * The head of a segment: reads slices, takes them through the stages, and gives outputs, dead letters and position to the bus at once.
 * A throw of its handler means that the bus offers the slice again.
 */
export class Segment implements Component {
  readonly plan: SegmentPlan
  private readonly options: SegmentOptions
  private readonly processor: Processor
  private readonly lanes: InputLanes | undefined
  private readonly outputs: SegmentOutputs
  private readonly guard: Guard
  /** Letters of a partition's events and slices of that partition take turns: they write the same histories. */
  private readonly turns = new Turns()
  private lagTimer: NodeJS.Timeout | undefined
  private currentLags: readonly Lag[] = []
  private newestMs = 0
  private readingLags = false
  /** Slices in work or held back, with when each was taken. */
  private readonly taken = new Map<Slice, number>()
  private unwatch: (() => void) | undefined

  constructor(options: SegmentOptions) {
    const { plan, pipeline, bus, histories, redrive } = options
    this.plan = plan
    this.options = options
    this.outputs = new SegmentOutputs(options)
    const { logger } = options.telemetry
    this.guard = new Guard(options.isolation ?? new Isolation({ logger }), logger)
    const readsEvents = plan.sources.some((source) => source.input !== undefined)
    if (readsEvents) this.lanes = new InputLanes({ ...options, logger })
    const topics = [...plan.sources.map((source) => source.topic), ...(redrive === undefined ? [] : [redrive.topic])]
    this.processor = bus.process(
      {
        topics,
        group: plan.group,
        from: 'earliest',
        maxSliceRecords: readsEvents ? pipeline.slices.maxRecords : 64,
        maxSliceBytes: pipeline.slices.maxBytes,
        // A slice that waits for another input holds its place: every partition needs one.
        concurrency: pipeline.partitions * topics.length,
        ...(readsEvents && histories !== undefined ? { stamp: histories.identity } : {}),
        onEvent: (event) => this.onEvent(event),
      },
      (slice, signal, attempt) => this.handle(slice, signal, attempt),
    )
  }

  async start(signal: AbortSignal): Promise<void> {
    this.unwatch = this.options.metrics.watchQueue(`segment ${this.plan.name}`, () => this.queue())
    // From the start: partitions whose position takes long to find must not pass for idle ones.
    this.lagTimer = setInterval(() => void this.readLags(), Math.max(50, Math.min(1000, this.options.pipeline.alignment.idleMs / 2)))
    await this.lanes?.start()
    await this.processor.start(signal)
  }

  async drain(): Promise<void> {
    clearInterval(this.lagTimer)
    this.lanes?.close()
    await this.processor.drain()
    await this.lanes?.drain()
    this.unwatch?.()
  }

  /** As of the last reading, at most a second ago. */
  get lags(): readonly Lag[] {
    return this.currentLags
  }

  /** The newest event time that it has seen, ms since the epoch; 0 before the first event. */
  get newestEventMs(): number {
    return this.newestMs
  }

  /** Why it does not work though it runs, and what to do; undefined where all is well. */
  get problem(): string | undefined {
    return this.lanes?.problem
  }

  private async readLags(): Promise<void> {
    if (this.readingLags) return
    this.readingLags = true
    try {
      this.currentLags = await this.processor.lags()
    } catch (error) {
      this.options.telemetry.logger.debug({ err: error, segment: this.plan.name }, 'cannot read how far the segment is behind')
      return
    } finally {
      this.readingLags = false
    }
    this.options.metrics.consumerLags(this.plan.group, this.currentLags)
    this.lanes?.lagsRead(this.inputsOf(this.currentLags))
  }

  private onEvent(event: ProcessorEvent): void {
    const { logger } = this.options.telemetry
    const segment = this.plan.name
    switch (event.kind) {
      case 'assigned':
        this.lanes?.assigned(this.inputsOf(event.partitions))
        logger.info({ segment, partitions: event.partitions.length }, 'partitions assigned')
        break
      case 'revoked':
        this.lanes?.revoked(this.inputsOf(event.partitions))
        logger.info({ segment, partitions: event.partitions.length }, 'partitions revoked')
        break
      case 'retrying': {
        const { topic, partition, attempt, delayMs, error } = event
        // A slice that was let go of because the segment stops.
        if (error.code === 'CANCELLED') break
        logger.warn({ segment, topic, partition, attempt, delayMs, code: error.code, reason: error.message }, 'the slice is tried again')
        break
      }
      case 'refused': {
        const { topic, partition, error } = event
        const reason = `${topic}/${partition} is left alone, its histories are elsewhere: ${error.message}`
        for (const refused of this.inputsOf([event])) this.lanes?.refused(refused, reason)
        logger.error({ segment, topic, partition, code: error.code }, reason)
        break
      }
      case 'disconnected':
        logger.warn({ segment, reason: event.error.message }, 'the broker is away: trying again')
        break
      case 'connected':
        logger.info({ segment }, 'the broker is back')
        break
    }
  }

  /** Letters that are given back hold no input up, in event time or otherwise. */
  private inputsOf<T extends { readonly topic: string }>(partitions: readonly T[]): readonly T[] {
    return partitions.filter(({ topic }) => topic !== this.options.redrive?.topic)
  }

  private queue(): { depth: number; oldestAgeMs: number } {
    const [oldestMs] = this.taken.values()
    return { depth: this.taken.size, oldestAgeMs: oldestMs === undefined ? 0 : this.options.clock.nowMs() - oldestMs }
  }

  private async handle(slice: Slice, signal: AbortSignal, attempt: Attempt): Promise<Outputs> {
    this.taken.set(slice, this.options.clock.nowMs())
    try {
      return await this.process(slice, signal, attempt)
    } finally {
      this.taken.delete(slice)
    }
  }

  private async process(slice: Slice, signal: AbortSignal, attempt: Attempt): Promise<Outputs> {
    const { metrics, clock, redrive } = this.options
    if (redrive !== undefined && slice.topic === redrive.topic) return this.processLetters(slice, redrive, signal, attempt)
    const entry = this.options.entries.get(slice.topic)
    if (entry === undefined)
      throw new MeshError('INTERNAL', `segment ${this.plan.name} was given a slice of ${slice.topic}, which it does not read`)
    const decode = (): Decoded => entry.source.decode(slice, clock.nowMs())
    const { done, ...decoded } = this.lanes === undefined ? { ...decode(), done: undefined } : await this.lanes.take(slice, decode, signal)
    metrics.eventsIn(slice.topic, decoded.consumed)
    const context: StageContext = { signal, mode: 'stream' }
    const { stage } = this.plan.sources.find(({ topic }) => topic === slice.topic)!
    const rows = { batch: decoded.batch, firstRow: 0, stage, runner: entry.runner }
    const run = await this.inTurn(`${slice.topic}/${slice.partition}`, () => this.guard.run(rows, attempt, context))
    const result = mergeResults([run, { outputs: new Map(), failures: decoded.failures }])
    if (entry.answers) this.checkComplete(slice, decoded, result)
    const { writes, result: written } = this.outputs.encode(slice.partition, result, attempt)
    this.observe(written, clock.nowMs())
    const { rowCount, meta } = decoded.batch
    if (rowCount > 0) {
      const newestMs = maxOf(meta.eventTimesMs)
      this.newestMs = Math.max(this.newestMs, newestMs)
      done?.(newestMs)
    }
    return { writes, consumed: decoded.consumed }
  }

  /** Letters that were given back: as any slice, but that they wait for no other input, and hold none up. */
  private async processLetters(slice: Slice, redrive: RedriveHead, signal: AbortSignal, attempt: Attempt): Promise<Outputs> {
    const { metrics, clock } = this.options
    await this.lanes?.whole(signal)
    const writes: Write[] = []
    let firstRow = 0
    for (const rows of await redrive.read(slice, clock.nowMs(), signal)) {
      const { lane, batch, runner, stage = this.plan.sources[0]!.stage, failures, answers } = rows
      const context: StageContext = { signal, mode: 'stream' }
      const guarded = runner && { batch, firstRow, stage, runner }
      const run = guarded === undefined ? noResult : await this.inTurn(lane, () => this.guard.run(guarded, attempt, context))
      firstRow += batch.rowCount
      const result = mergeResults([run, { outputs: new Map(), failures }])
      if (answers) this.checkComplete(slice, rows, result)
      const encoded = this.outputs.encode(slice.partition, result, attempt)
      writes.push(...encoded.writes)
      this.observe(encoded.result, clock.nowMs())
    }
    metrics.eventsIn(slice.topic, slice.records.count)
    return { writes }
  }

  /** Histories are kept by the segment that reads events: only there do letters and events meet. */
  private inTurn<T>(lane: string, work: () => Promise<T>): Promise<T> {
    return this.options.redrive === undefined || this.lanes === undefined ? work() : this.turns.take(lane, work)
  }

  /** Every row ends as an output or as a failure: a stage that loses one must not pass in silence. */
  private checkComplete(slice: Slice, decoded: Pick<Decoded, 'batch' | 'failures'>, result: RunResult): void {
    const { sinks } = this.options
    let answered = 0
    for (const [topic, batch] of result.outputs) if (sinks.get(topic)?.answers !== false) answered += batch.rowCount
    const failed = count(result.failures)
    const given = decoded.batch.rowCount + count(decoded.failures)
    if (answered + failed !== given)
      throw new MeshError(
        'INTERNAL',
        `${given} rows of ${slice.topic}/${slice.partition} gave ${answered} outputs and ${failed} failures: a stage lost rows or made some up`,
      )
  }

  private observe(result: RunResult, nowMs: number): void {
    const { metrics, pipeline } = this.options
    for (const [topic, batch] of result.outputs) metrics.outputsOut(topic, batch.rowCount)
    for (const { stage, errors } of result.failures) for (const error of errors) metrics.deadLetters(stage, error.code, 1)
    const predictions = result.outputs.get(pipeline.predictions.topic)
    if (predictions === undefined) return
    const { ingestTimesMs, headers } = predictions.meta
    // Of a letter that was given back, the time to its answer says nothing of the mesh.
    metrics.observeLatencies(
      ingestTimesMs.filter((_, row) => headers[row]![redrivenHeader] === undefined).map((ingestMs) => nowMs - ingestMs),
    )
  }
}

const noResult: RunResult = { outputs: new Map(), failures: [] }

function count(failures: readonly FailedRows[]): number {
  return failures.reduce((sum, failure) => sum + failure.batch.rowCount, 0)
}

function maxOf(values: Float64Array): number {
  let max = -Infinity
  for (const value of values) if (value > max) max = value
  return max
}
