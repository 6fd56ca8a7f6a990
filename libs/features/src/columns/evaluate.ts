import { type Batch, MeshError, type RowFailure } from '@spillway/core'
import type { FieldType } from '../field-type.ts'
import type { ColumnSource, PlannedColumn } from '../plan.ts'
import type { ColumnData } from './column-data.ts'
import { fieldColumn } from './field-values.ts'
import { hasAbsent, hashesOf } from './made.ts'
import { Scratch } from './scratch.ts'
import { applySteps, type ColumnRun, type Scaling } from './step.ts'

/** What was computed before, of windows and look-ups. */
export type GivenColumns = (index: number, name: string) => ColumnData | undefined

/** Columns of a batch, each computed when it is first asked for. */
export class ColumnEvaluation implements ColumnRun {
  readonly rowCount: number
  readonly scratch: Scratch
  private readonly planned: readonly PlannedColumn[]
  private readonly batch: Batch
  private readonly given: GivenColumns
  private readonly done: (ColumnData | undefined)[] = []
  private readonly fields = new Map<string, ColumnData>()
  private readonly hashes = new Map<number, Uint32Array>()
  private readonly absences = new Map<number, boolean>()
  private readonly failed = new Map<number, RowFailure>()

  /** @param scratch where what it makes may be used again once it is done with */
  constructor(planned: readonly PlannedColumn[], batch: Batch, given: GivenColumns, scratch: Scratch = new Scratch()) {
    this.scratch = scratch
    scratch.begin(batch.rowCount)
    this.planned = planned
    this.rowCount = batch.rowCount
    this.batch = batch
    this.given = given
  }

  column(index: number): ColumnData {
    const known = this.done[index]
    if (known !== undefined) return known
    const { name, source, steps } = this.planned[index]!
    const data = applySteps(this.source(source, index, name), steps, this)
    this.done[index] = data
    return data
  }

  /** For the vector: a last step that only scales numbers is left to whoever writes them. */
  unscaled(index: number): { readonly data: ColumnData; readonly scaling: Scaling | undefined } {
    const { name, source, steps } = this.planned[index]!
    const last = steps.at(-1)
    const scaling = last?.kind === 'kernel' ? last.scaling : undefined
    if (scaling === undefined) return { data: this.column(index), scaling }
    const data = applySteps(this.source(source, index, name), steps.slice(0, -1), this)
    if (data.kind === 'number') return { data, scaling }
    return { data: this.column(index), scaling: undefined }
  }

  /** What the steps of column `index`, called `name`, start from. */
  source(source: ColumnSource, index: number, name: string): ColumnData {
    switch (source.kind) {
      case 'field':
        return this.field(source.field, source.type)
      case 'column':
        return this.column(source.column)
      case 'window':
      case 'lookup':
        return this.givenColumn(index, name)
      case 'made':
        return source.made.make(this)
      default:
        return source satisfies never
    }
  }

  hashesOf(column: number): Uint32Array {
    const known = this.hashes.get(column)
    if (known !== undefined) return known
    const hashes = hashesOf(this.column(column), this.scratch.hashes())
    this.hashes.set(column, hashes)
    return hashes
  }

  hasAbsent(column: number): boolean {
    const known = this.absences.get(column)
    if (known !== undefined) return known
    const has = hasAbsent(this.column(column))
    this.absences.set(column, has)
    return has
  }

  fail(row: number, column: string, message: string): void {
    if (this.failed.has(row)) return
    this.failed.set(row, { row, error: new MeshError('INVALID_ARGUMENT', `column "${column}": ${message}`, { field: column }) })
  }

  overflow(row: number, element: string): void {
    if (this.failed.has(row)) return
    const error = new MeshError('OUT_OF_RANGE', `${element} is beyond what the vector holds, ±3.4e38 (FP32)`, { field: element })
    this.failed.set(row, { row, error })
  }

  /** One a row at most. */
  get failures(): readonly RowFailure[] {
    return [...this.failed.values()]
  }

  private field(field: string, type: FieldType): ColumnData {
    const known = this.fields.get(field)
    if (known !== undefined) return known
    const data = fieldColumn(this.batch, field, { type, scratch: this.scratch })
    this.fields.set(field, data)
    return data
  }

  private givenColumn(index: number, name: string): ColumnData {
    const data = this.given(index, name)
    if (data === undefined) throw new MeshError('INTERNAL', `column "${name}" was not computed before the columns that are made of it`)
    return data
  }
}
