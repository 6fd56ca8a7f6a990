import { type Batch, type Clock, type Component, type FailedRows, sliceBatch } from '@spillway/core'
import type { Lag, Slice } from '@spillway/bus'
import type { HistoryStore, Owner } from '@spillway/features'
import type { Telemetry } from '@spillway/telemetry'
import { Alignment } from './alignment.ts'
import { AlignmentExchange } from './alignment-exchange.ts'
import type { SegmentPlan } from './graph.ts'
import { PartitionShare } from './partition-share.ts'
import type { Pipeline } from './pipeline.ts'
import type { Decoded } from './sources.ts'

export interface InputLanesOptions {
  readonly plan: SegmentPlan
  readonly pipeline: Pipeline
  /** Absent where no history belongs to the inputs. */
  readonly histories?: HistoryStore
  readonly clock: Clock
  readonly logger: Telemetry['logger']
}

/** Rows that may go on. */
export interface Taken extends Decoded {
  /** Rows up to this event time were processed, and are history. */
  readonly done: (eventTimeMs: number) => void
}

/** A part of a slice that was parsed but had to wait: the bus offers its records again, and they are not parsed twice. */
interface Parked {
  readonly firstOffset: bigint
  readonly batch: Batch
  readonly recordCount: number
}

/**
 * The partitions of a segment's inputs, as this process has them: kept together in event time with each other and with those of other
 * processes, and processed only where their histories are all at hand.
 */
export class InputLanes implements Component {
  private readonly options: InputLanesOptions
  private readonly alignment: Alignment | undefined
  private readonly exchange: AlignmentExchange | undefined
  private readonly share: PartitionShare | undefined
  private readonly parked = new Map<string, Parked>()
  /** Why the position of a lane was not taken on. */
  private readonly refusals = new Map<string, string>()

  constructor(options: InputLanesOptions) {
    const { plan, pipeline, histories, clock, logger } = options
    this.options = options
    if (histories?.scope === 'process')
      this.share = new PartitionShare({ segment: plan.name, partitions: plan.sources.length * pipeline.partitions, logger })
    if (pipeline.alignment.maxSkewMs === Infinity) return
    const board = histories?.watermarks?.(pipeline.features.histories.map(({ name }) => name))
    const lanes = plan.sources.flatMap(({ topic }) =>
      Array.from({ length: pipeline.partitions }, (_, partition) => laneOf({ topic, partition })),
    )
    this.alignment = new Alignment({ ...pipeline.alignment, clock, ...(board === undefined ? {} : { sharedLanes: lanes }) })
    if (board !== undefined) this.exchange = new AlignmentExchange({ alignment: this.alignment, board, logger })
  }

  async start(): Promise<void> {
    await this.exchange?.start()
  }

  /** Resolves once the histories of all partitions are at hand. @throws the signal's reason where it fires first, MeshError CANCELLED once closed */
  async whole(signal: AbortSignal): Promise<void> {
    await this.share?.whole(signal)
  }

  /** Before the processor is drained: slices that are held are let go of. */
  close(): void {
    this.share?.close()
    this.alignment?.close()
  }

  async drain(): Promise<void> {
    await this.exchange?.drain()
  }

  /** Why it holds a partition or all of them, and what to do; undefined where it does not. */
  get problem(): string | undefined {
    const [refusal] = this.refusals.values()
    return this.share?.problem ?? refusal
  }

  /** The bus leaves the partition alone until its position is one that goes with the histories. */
  refused(partition: Owner, reason: string): void {
    this.refusals.set(laneOf(partition), reason)
  }

  assigned(partitions: readonly Owner[]): void {
    for (const partition of partitions) {
      // A handler that was halted may have remembered something since the partition was given up.
      this.options.histories?.release(partition)
      this.alignment?.add(laneOf(partition))
      this.refusals.delete(laneOf(partition))
    }
    this.share?.change({ came: partitions.map(laneOf) })
  }

  revoked(partitions: readonly Owner[]): void {
    for (const partition of partitions) {
      this.alignment?.remove(laneOf(partition))
      this.parked.delete(laneOf(partition))
      this.refusals.delete(laneOf(partition))
      this.options.histories?.release(partition)
    }
    this.share?.change({ went: partitions.map(laneOf) })
  }

  lagsRead(lags: readonly Lag[]): void {
    for (const lag of lags) this.alignment?.markBacklog(laneOf(lag), lag.endOffset > lag.committedOffset)
  }

  /**
   * Waits until rows of the slice may be processed; those further ahead in event time are offered again.
   * @throws the signal's reason where it fires first
   */
  async take(slice: Slice, decode: () => Decoded, signal: AbortSignal): Promise<Taken> {
    await this.whole(signal)
    const decoded = this.unpark(slice) ?? decode()
    const { batch } = decoded
    if (this.alignment === undefined || batch.rowCount === 0) return { ...decoded, done: () => undefined }
    const { rowCount, done } = await this.alignment.admit(laneOf(slice), batch.meta.eventTimesMs, signal)
    if (rowCount === batch.rowCount) return { ...decoded, done }
    const nextOffset = batch.meta.offsets[rowCount]!
    const consumed = slice.offsets.indexOf(nextOffset)
    const left = sliceBatch(batch, rowCount, batch.rowCount)
    const { now, later } = splitFailures(decoded.failures, nextOffset)
    // Rows that could not be read stay with their neighbours: parked only where none is left behind.
    if (later === 0) this.parked.set(laneOf(slice), { firstOffset: nextOffset, batch: left, recordCount: decoded.consumed - consumed })
    return { batch: sliceBatch(batch, 0, rowCount), failures: now, consumed, done }
  }

  private unpark(slice: Slice): Decoded | undefined {
    const lane = laneOf(slice)
    const parked = this.parked.get(lane)
    this.parked.delete(lane)
    if (parked === undefined || parked.firstOffset !== slice.offsets[0]! || parked.recordCount > slice.offsets.length) return undefined
    return { batch: parked.batch, failures: [], consumed: parked.recordCount }
  }
}

function laneOf(place: Owner): string {
  return `${place.topic}/${place.partition}`
}

/** Failures of records before an offset, and how many lie behind. */
function splitFailures(failures: readonly FailedRows[], offset: bigint): { now: readonly FailedRows[]; later: number } {
  let later = 0
  const now = failures.flatMap(({ stage, batch, errors }) => {
    let end = 0
    while (end < batch.rowCount && batch.meta.offsets[end]! < offset) end++
    later += batch.rowCount - end
    return end === 0 ? [] : [{ stage, batch: sliceBatch(batch, 0, end), errors: errors.slice(0, end) }]
  })
  return { now, later }
}
