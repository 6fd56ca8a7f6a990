import { type Batch, emptyBatch, MeshError, type Mode, redrivenHeader, type RowFailure } from '@spillway/core'
import { Scratch } from './columns/scratch.ts'
import { lookUp, nothingLookedUp } from './lookups/look-up.ts'
import type { LookupSource } from './lookups/source.ts'
import type { FeaturePlan } from './plan.ts'
import { SliceWork } from './slice-work.ts'
import type { SourceRows } from './statistics/source-rows.ts'
import type { HistoryStore, Owner } from './store.ts'
import type { RowPlaces } from './windows/slice-history.ts'

export interface FeatureEngineOptions {
  readonly plan: FeaturePlan
  readonly store: HistoryStore
  /** By title, started: one for each of the plan's, from `createLookups`. */
  readonly lookups?: ReadonlyMap<string, LookupSource>
  /** Is given what each predicted batch's columns are made from. */
  readonly observe?: (rows: SourceRows) => void
}

export interface FeatureResult {
  /** The rows that did not fail, with column `features`, FP32 [rows, width]; no rows where the input only feeds histories. */
  readonly batch: Batch
  /** In order; `row` counts in the batch that was given. */
  readonly failures: readonly RowFailure[]
}

/** Turns events into feature vectors, and keeps the histories that windows look at. */
export class FeatureEngine {
  private readonly plan: FeaturePlan
  private readonly store: HistoryStore
  private readonly lookups: ReadonlyMap<string, LookupSource>
  private readonly scratch = new Scratch()
  private readonly observe: ((rows: SourceRows) => void) | undefined

  /** @throws MeshError INTERNAL where one of the plan's lookups is missing */
  constructor(options: FeatureEngineOptions) {
    this.plan = options.plan
    this.store = options.store
    this.lookups = options.lookups ?? new Map()
    this.observe = options.observe
    for (const { title } of options.plan.lookups)
      if (!this.lookups.has(title)) throw new MeshError('INTERNAL', `the engine needs lookup "${title}": give it what createLookups made`)
  }

  /**
   * Features of a batch of one input's events: columns by field (string BYTES, number FP64, integer INT64, boolean BOOL, timestamp FP64 ms; NaN is absent).
   *
   * On a stream the rows are consecutive events of a partition, in the order of their offsets: they become history, durably, before this resolves, and a row
   * sees of its own partition what lies before it. Slices cut otherwise, or given again, get the same numbers. A request only reads: each row sees
   * what the store holds up to its time, and itself. The lookups are read beside the store.
   *
   * Failures: OUT_OF_RANGE for an event older than its key's newest by more than the input's lateness (a stream), or than what its histories keep, or with
   * a number that FP32 cannot hold; INVALID_ARGUMENT for one without a key or a time. Such a row is not in any history. A row that only cannot have a
   * vector (what was looked up for it is not what the lookup declares: FAILED_PRECONDITION) has happened all the same: it fails, and is in its histories.
   * Given again from its dead letter, at its own position (a batch of such rows alone), it adds nothing twice; it fails with OUT_OF_RANGE where its
   * windows look back to where the histories are not kept any more.
   * @throws MeshError UNAVAILABLE where the store or a lookup is away, NOT_FOUND for an unknown input
   */
  async compute(batch: Batch, input: string, mode: Mode): Promise<FeatureResult> {
    const plan = this.plan.inputs.get(input)
    if (plan === undefined) throw new MeshError('NOT_FOUND', `no input is called "${input}"`, { field: 'input' })
    if (batch.rowCount === 0 || (mode === 'request' && !plan.input.predict)) return { batch: emptyBatch, failures: [] }
    const owner = mode === 'stream' ? ownerOf(batch) : undefined
    const work = new SliceWork(this.plan, plan, batch, mode === 'stream' ? await this.places(batch) : callPlaces(batch), owner)
    const [stored, lookedUp] = await Promise.all([
      work.touched.length > 0 ? this.store.read(work.reads()) : [],
      plan.lookups.length > 0 ? lookUp(this.plan, plan, batch, this.lookups) : nothingLookedUp,
    ])
    work.hold(stored)
    work.walk(mode)
    const result = plan.input.predict ? work.result(lookedUp, this.scratch) : { batch: emptyBatch, failures: work.failures }
    if (plan.input.predict) this.observe?.(work.sources(lookedUp))
    const writes = mode === 'stream' ? work.writes() : []
    if (writes.length > 0) await this.store.append(writes)
    return result
  }

  private async places(batch: Batch): Promise<RowPlaces> {
    const { topics, partitions, offsets: positions, eventTimesMs } = batch.meta
    const origins = new Uint32Array(batch.rowCount)
    const offsets = new Float64Array(batch.rowCount)
    for (let row = 0; row < batch.rowCount; row++) {
      offsets[row] = Number(positions[row])
      if (offsets[row]! < 0)
        throw new MeshError('INTERNAL', `row ${row} of a stream has no position: history needs its topic, partition and offset`)
      const same = row > 0 && topics[row] === topics[row - 1] && partitions[row] === partitions[row - 1]
      origins[row] = same ? origins[row - 1]! : await this.store.origin(topics[row]!, partitions[row]!)
    }
    return { times: eventTimesMs, origins, offsets, late: batch.meta.headers[0]![redrivenHeader] !== undefined }
  }
}

/** The one partition that all rows came from; undefined where there are several. */
function ownerOf({ rowCount, meta: { topics, partitions } }: Batch): Owner | undefined {
  const [topic, partition] = [topics[0]!, partitions[0]!]
  for (let row = 1; row < rowCount; row++) if (topics[row] !== topic || partitions[row] !== partition) return undefined
  return { topic, partition }
}

/** A call's rows have no position; the store numbers origins from 1. */
function callPlaces(batch: Batch): RowPlaces {
  return { times: batch.meta.eventTimesMs, origins: new Uint32Array(batch.rowCount), offsets: new Float64Array(batch.rowCount).fill(-1) }
}
