import { type Batch, emptyBatch, MeshError, type Mode, type RowFailure, takeRows, withColumns } from '@spillway/core'
import { assembleVector, evaluateColumns } from './columns/evaluate.ts'
import { keysOf, numberField } from './columns/field-values.ts'
import type { FeaturePlan, InputPlan } from './plan.ts'
import { lateness, outOfRetention, unfitNumber } from './row-checks.ts'
import type { HistoryEntry, HistoryRead, HistoryStore, HistoryWrite, Owner } from './store.ts'
import type { PlannedHistory } from './windows/plan.ts'
import { type RowPlaces, SliceHistory } from './windows/slice-history.ts'
import { WindowScan } from './windows/window-scan.ts'

export interface FeatureEngineOptions {
  readonly plan: FeaturePlan
  readonly store: HistoryStore
}

export interface FeatureResult {
  /** The rows that did not fail, with column `features`, FP32 [rows, width]; no rows where the input only feeds histories. */
  readonly batch: Batch
  /** `row` counts in the batch that was given. */
  readonly failures: readonly RowFailure[]
}

/** Turns events into feature vectors, and keeps the histories that windows look at. */
export class FeatureEngine {
  private readonly plan: FeaturePlan
  private readonly store: HistoryStore

  constructor(options: FeatureEngineOptions) {
    this.plan = options.plan
    this.store = options.store
  }

  /**
   * Features of a batch of one input's events: columns by field (string BYTES, number FP64, integer INT64, boolean BOOL, timestamp FP64 ms; NaN is absent).
   *
   * On a stream the rows are consecutive events of a partition, in the order of their offsets: they become history, durably, before this resolves, and a row
   * sees of its own partition what lies before it. Slices cut otherwise, or given again, get the same numbers. A request only reads: each row sees
   * what the store holds up to its time, and itself.
   *
   * Failures: OUT_OF_RANGE for an event older than its key's newest by more than the input's lateness, or than what its histories keep, or with a
   * number that FP32 cannot hold; INVALID_ARGUMENT for one without a key or a time. A failed row is not in any history.
   * @throws MeshError UNAVAILABLE where the store is away, NOT_FOUND for an unknown input
   */
  async compute(batch: Batch, input: string, mode: Mode): Promise<FeatureResult> {
    const plan = this.plan.inputs.get(input)
    if (plan === undefined) throw new MeshError('NOT_FOUND', `no input is called "${input}"`, { field: 'input' })
    if (batch.rowCount === 0 || (mode === 'request' && !plan.input.predict)) return { batch: emptyBatch, failures: [] }
    const owner = mode === 'stream' ? ownerOf(batch) : undefined
    const work = new SliceWork(this.plan, plan, batch, mode === 'stream' ? await this.places(batch) : callPlaces(batch), owner)
    if (work.touched.length > 0) {
      const stored = await this.store.read(work.reads())
      work.touched.forEach((index, at) => work.histories.get(index)!.hold(stored[at]!))
    }
    work.walk(mode)
    const result = plan.input.predict ? work.result() : { batch: emptyBatch, failures: work.failures }
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
    return { times: eventTimesMs, origins, offsets }
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

/** One batch on its way through the engine. */
class SliceWork {
  readonly failures: RowFailure[] = []
  /** By index in the plan's histories: those that the batch feeds or looks at. */
  readonly histories: Map<number, SliceHistory> = new Map()
  readonly touched: readonly number[]
  private readonly failed: Uint8Array
  private readonly windowColumns: readonly Float64Array[]
  private readonly plan: FeaturePlan
  private readonly input: InputPlan
  private readonly batch: Batch
  private readonly places: RowPlaces
  private readonly fed: readonly SliceHistory[]
  private readonly owner: Owner | undefined

  constructor(plan: FeaturePlan, input: InputPlan, batch: Batch, places: RowPlaces, owner: Owner | undefined) {
    this.plan = plan
    this.input = input
    this.batch = batch
    this.places = places
    this.owner = owner
    this.failed = new Uint8Array(batch.rowCount)
    this.touched = [...new Set([...input.feeds, ...input.looksAt])]
    for (const index of this.touched) {
      const { keyFields, valueFields, input: feeder } = plan.histories[index]!
      // The values of another input's history are only in the store.
      const values = valueFields.map((field) => (feeder === input.name ? numberField(batch, field) : new Float64Array(0)))
      this.histories.set(index, new SliceHistory(keysOf(batch, keyFields), values, places))
    }
    this.fed = input.feeds.map((index) => this.histories.get(index)!)
    this.windowColumns = input.columns.map(({ source }) => new Float64Array(source.kind === 'window' ? batch.rowCount * source.width : 0))
  }

  /** What the store is asked for: a history a read, in the order of `touched`. */
  reads(): HistoryRead[] {
    return this.touched.map((index) => {
      const history = this.plan.histories[index]!
      return { history, keys: this.histories.get(index)!.keys, ...this.ownerOf(history) }
    })
  }

  /** The slice's partition is the keys' owner where it is the one that feeds them. */
  private ownerOf(history: PlannedHistory): { readonly owner?: Owner } {
    return this.owner !== undefined && history.owned && history.input === this.input.name ? { owner: this.owner } : {}
  }

  /** Row after row: checks it, takes it into its histories, computes its windows. */
  walk(mode: Mode): void {
    const scans = this.input.windows.map((group) => new WindowScan(group, this.histories.get(group.history)!, this.places))
    const numbers = this.input.numberFields.map((field) => ({ field, values: numberField(this.batch, field) }))
    for (let row = 0; row < this.batch.rowCount; row++) {
      const error = unfitNumber(numbers, row) ?? this.refusal(row)
      if (error !== undefined) {
        this.failed[row] = 1
        this.failures.push({ row, error })
        continue
      }
      for (const history of this.fed) history.add(row)
      for (const scan of scans) scan.compute(row, this.windowColumns)
      if (mode === 'request') for (const history of this.fed) history.clear(row)
    }
  }

  private refusal(row: number): MeshError | undefined {
    const { input } = this.input
    const time = this.places.times[row]!
    const timeField = input.timeField ?? 'event time'
    if (!Number.isFinite(time)) return new MeshError('INVALID_ARGUMENT', `${timeField} is no time`, { field: timeField })
    for (const index of this.touched) {
      if (this.histories.get(index)!.keyIndices[row]! >= 0) continue
      const field = this.plan.histories[index]!.keyFields.join(', ')
      return new MeshError('INVALID_ARGUMENT', `${field} is absent, and its history goes by it`, { field })
    }
    for (const index of this.input.feeds) {
      const newest = this.histories.get(index)!.newestTimeBefore(row)
      if (time < newest - input.latenessMs) return lateness(timeField, time, newest, input.latenessMs, this.keyName(index, row))
    }
    for (const group of this.input.windows) {
      if (this.input.feeds.includes(group.history)) continue
      const history = this.plan.histories[group.history]!
      const stored = this.histories.get(group.history)!.storedFor(row)
      const from = time - group.delayMs - group.lengthsMs.at(-1)!
      if (stored.count > 0 && from < stored.times[stored.count - 1]! - history.retentionMs)
        return outOfRetention(timeField, time, this.keyName(group.history, row))
    }
    return undefined
  }

  private keyName(index: number, row: number): string {
    const history = this.histories.get(index)!
    return `${this.plan.histories[index]!.keyFields.join(', ')} ${history.keys[history.keyIndices[row]!]}`
  }

  /** The rows that did not fail, with the vector. */
  result(): FeatureResult {
    const columns = evaluateColumns(this.input, this.batch, this.windowColumns, new Map())
    const { column, width } = this.plan.vector
    const whole = withColumns(this.batch, [[column, assembleVector(this.input, columns, this.batch, width)]])
    if (this.failures.length === 0) return { batch: whole, failures: [] }
    const kept: number[] = []
    for (let row = 0; row < this.batch.rowCount; row++) if (this.failed[row] === 0) kept.push(row)
    return { batch: takeRows(whole, kept), failures: this.failures }
  }

  /** What the slice adds, by key. Rows that the store holds already are among them: they tell it how far the slice reaches back. */
  writes(): HistoryWrite[] {
    return this.input.feeds.flatMap((index) => this.writesOf(this.plan.histories[index]!, this.histories.get(index)!))
  }

  private writesOf(history: PlannedHistory, slice: SliceHistory): HistoryWrite[] {
    const { times, origins, offsets } = this.places
    const entries = new Array<HistoryEntry[] | undefined>(slice.keys.length)
    for (let row = 0; row < this.batch.rowCount; row++) {
      if (this.failed[row] === 1) continue
      const entry = {
        timeMs: times[row]!,
        origin: origins[row]!,
        offset: offsets[row]!,
        values: slice.values.map((values) => values[row]!),
      }
      const key = slice.keyIndices[row]!
      const ofKey = entries[key]
      if (ofKey === undefined) entries[key] = [entry]
      else ofKey.push(entry)
    }
    const owner = this.ownerOf(history)
    return entries.flatMap((ofKey, index) => (ofKey === undefined ? [] : [{ history, key: slice.keys[index]!, entries: ofKey, ...owner }]))
  }
}
