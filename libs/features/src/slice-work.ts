import { type Batch, MeshError, type Mode, type RowFailure, takeRows, withColumns } from '@spillway/core'
import { keysOf, numberField } from './columns/field-values.ts'
import type { ColumnData } from './columns/column-data.ts'
import type { Scratch } from './columns/scratch.ts'
import { computeVector, windowColumn } from './columns/vector.ts'
import type { LookedUp } from './lookups/look-up.ts'
import type { FeaturePlan, InputPlan } from './plan.ts'
import { lateness, outOfRetention, unfitFields, unfitNumber } from './row-checks.ts'
import type { SourceRows } from './statistics/source-rows.ts'
import type { HistoryEntry, HistoryRead, HistoryWrite, Owner, PackedHistory } from './store.ts'
import { historyNumbers } from './windows/history-numbers.ts'
import type { PlannedHistory } from './windows/plan.ts'
import { type RowPlaces, SliceHistory } from './windows/slice-history.ts'
import { windowScan } from './windows/window-scan.ts'

/** What is no window. */
const none = new Float64Array(0)

/** One batch on its way through the engine. */
export class SliceWork {
  readonly failures: RowFailure[] = []
  /** By index in the plan's histories: those that the batch feeds or looks at. */
  private readonly histories: Map<number, SliceHistory> = new Map()
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
      const values = valueFields.map((field) => (feeder === input.name ? historyNumbers(batch, field) : new Float64Array(0)))
      this.histories.set(index, new SliceHistory(keysOf(batch, keyFields), values, places))
    }
    this.fed = input.feeds.map((index) => this.histories.get(index)!)
    this.windowColumns = input.columns.map(({ source }) =>
      source.kind === 'window' ? new Float64Array(batch.rowCount * source.width) : none,
    )
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

  /** What the store answered to `reads`. */
  hold(stored: readonly (readonly PackedHistory[])[]): void {
    this.touched.forEach((index, at) => this.histories.get(index)!.hold(stored[at]!))
  }

  /** Row after row: checks it, takes it into its histories, computes its windows. */
  walk(mode: Mode): void {
    const scans = this.input.windows.map((group) => windowScan(group, this.histories.get(group.history)!, this.places))
    const numbers = unfitFields(this.input.numberFields.map((field) => ({ field, values: numberField(this.batch, field) })))
    // Without histories there is nothing that a row could be held against.
    if (this.touched.length === 0 && numbers.length === 0 && this.places.times.every(Number.isFinite)) return
    for (let row = 0; row < this.batch.rowCount; row++) {
      const error = unfitNumber(numbers, row) ?? this.refusal(row, mode)
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

  private refusal(row: number, mode: Mode): MeshError | undefined {
    const { input } = this.input
    const time = this.places.times[row]!
    const timeField = input.timeField ?? 'event time'
    if (!Number.isFinite(time)) return new MeshError('INVALID_ARGUMENT', `${timeField} is no time`, { field: timeField })
    for (const index of this.touched) {
      if (this.histories.get(index)!.keyIndices[row]! >= 0) continue
      const field = this.plan.histories[index]!.keyFields.join(', ')
      return new MeshError('INVALID_ARGUMENT', `${field} is absent, and its history goes by it`, { field })
    }
    // A call may ask about any time of which all is kept.
    for (const index of mode === 'stream' ? this.input.feeds : []) {
      const newest = this.histories.get(index)!.newestTimeBefore(row)
      if (time < newest - input.latenessMs) return lateness(timeField, time, newest, input.latenessMs, this.keyName(index, row))
    }
    for (const group of this.input.windows) {
      const history = this.plan.histories[group.history]!
      const fromMs = time - group.delayMs - group.lengthsMs.at(-1)!
      const keptFromMs = this.histories.get(group.history)!.keptFromMs(row, history.retentionMs)
      if (fromMs < keptFromMs) return outOfRetention(timeField, time, { fromMs, keptFromMs, key: this.keyName(group.history, row) })
    }
    return undefined
  }

  private keyName(index: number, row: number): string {
    const history = this.histories.get(index)!
    return `${this.plan.histories[index]!.keyFields.join(', ')} ${history.keys[history.keyIndices[row]!]}`
  }

  /** The rows that did not fail, with the vector. */
  result(
    { columns: lookups, failures: unfound }: LookedUp,
    scratch: Scratch,
  ): { readonly batch: Batch; readonly failures: readonly RowFailure[] } {
    if (this.plan.unfitted) return this.without(this.batch, this.withoutVector(unfound))
    const { vector, failures: unmade } = computeVector(this.input, this.batch, { windows: this.windowColumns, lookups }, scratch)
    return this.without(withColumns(this.batch, [[this.plan.vector.column, vector]]), this.withoutVector([...unfound, ...unmade]))
  }

  /** What columns are made from, of the rows that did not fail. */
  sources({ columns: lookedUp, failures }: LookedUp): SourceRows {
    const given = new Map<string, ColumnData>()
    this.input.columns.forEach(({ name }, index) => {
      const data = lookedUp.get(index) ?? windowColumn(this.input, index, this.windowColumns)
      if (data !== undefined) given.set(name, data)
    })
    return { input: this.input.name, batch: this.batch, given, rows: this.rowsWithout(this.withoutVector(failures)) }
  }

  private without(batch: Batch, failures: readonly RowFailure[]): { readonly batch: Batch; readonly failures: readonly RowFailure[] } {
    return failures.length === 0 ? { batch, failures } : { batch: takeRows(batch, this.rowsWithout(failures)), failures }
  }

  private rowsWithout(failures: readonly RowFailure[]): readonly number[] {
    const failed = new Uint8Array(this.batch.rowCount)
    for (const { row } of failures) failed[row] = 1
    const kept: number[] = []
    for (let row = 0; row < failed.length; row++) if (failed[row] === 0) kept.push(row)
    return kept
  }

  /** All failures, one a row: those of rows that have no vector behind those of rows that are not taken at all. */
  private withoutVector(failures: readonly RowFailure[]): readonly RowFailure[] {
    if (failures.length === 0) return this.failures
    const byRow = new Map(this.failures.map((failure) => [failure.row, failure]))
    for (const failure of failures) if (!byRow.has(failure.row)) byRow.set(failure.row, failure)
    return [...byRow.values()].sort((a, b) => a.row - b.row)
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
