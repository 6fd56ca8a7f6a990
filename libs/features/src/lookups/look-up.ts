import { type Batch, MeshError, type RowFailure } from '@spillway/core'
import type { ColumnData } from '../columns/column-data.ts'
import { keysOf, matchableField, numberField } from '../columns/field-values.ts'
import { TextColumn } from '../columns/text-column.ts'
import type { FeaturePlan, InputPlan } from '../plan.ts'
import { kindOf } from './compile.ts'
import type { LookupOutput, PlannedLookup } from './plan.ts'
import type { LookupData, LookupRows, LookupSource } from './source.ts'

/** What was looked up for a batch. */
export interface LookedUp {
  /** By index in the input's columns. */
  readonly columns: ReadonlyMap<number, ColumnData>
  /** Rows that cannot have a vector: what was found is not what the lookup declares. */
  readonly failures: readonly RowFailure[]
}

export const nothingLookedUp: LookedUp = { columns: new Map(), failures: [] }

/** Every lookup is asked at once. @throws MeshError UNAVAILABLE where one is away */
export async function lookUp(
  plan: FeaturePlan,
  input: InputPlan,
  batch: Batch,
  sources: ReadonlyMap<string, LookupSource>,
): Promise<LookedUp> {
  const columns = new Map<number, ColumnData>()
  const failures: RowFailure[] = []
  const timesMs = batch.meta.eventTimesMs
  await Promise.all(
    input.lookups.map(async ({ lookup: index, outputs }) => {
      const lookup = plan.lookups[index]!
      const found = await sourceOf(lookup, sources).read(keysOf(batch, lookup.keyFields), timesMs)
      failures.push(...found.failures)
      for (const output of outputs) columns.set(output.column, columnOf(output, lookup, found, batch))
    }),
  )
  return { columns, failures }
}

function sourceOf({ title }: PlannedLookup, sources: ReadonlyMap<string, LookupSource>): LookupSource {
  const source = sources.get(title)
  if (source === undefined) throw new MeshError('INTERNAL', `the engine was not given lookup "${title}"`)
  return source
}

/** What was found, where it is young enough; the event's own field before it, the default behind. */
function columnOf(output: LookupOutput, lookup: PlannedLookup, { values, timesMs }: LookupRows, batch: Batch): ColumnData {
  const data = values[output.value]!
  const { maxAgeMs, missing, field } = output
  const ages = maxAgeMs === Infinity ? undefined : { timesMs: timesMs!, eventTimesMs: batch.meta.eventTimesMs, maxAgeMs }
  const kind = kindOf(lookup.values[output.value]!.type)
  if (data.kind === 'text') {
    const given = field === undefined ? undefined : (matchableField(batch, field) as readonly string[])
    return { kind: 'text', values: TextColumn.of(mergeTexts(data.values, given, ages, missing as string)) }
  }
  if (data.kind === 'vector') return mergeVectors(data, ages, missing as readonly number[])
  const given = field === undefined ? undefined : numberField(batch, field)
  return { kind: kind as 'number' | 'timestamp', values: mergeNumbers(data.values, given, ages, missing as number) }
}

interface Ages {
  readonly timesMs: Float64Array
  readonly eventTimesMs: Float64Array
  readonly maxAgeMs: number
}

/** A value whose time is unknown is not known to be young. */
function isTooOld(ages: Ages | undefined, row: number): boolean {
  return ages !== undefined && !(ages.eventTimesMs[row]! - ages.timesMs[row]! <= ages.maxAgeMs)
}

function mergeTexts(
  found: readonly string[],
  given: readonly string[] | undefined,
  ages: Ages | undefined,
  missing: string,
): readonly string[] {
  if (given === undefined && ages === undefined && missing === '') return found
  return found.map((value, row) => {
    if (given !== undefined && given[row] !== '') return given[row]!
    return value === '' || isTooOld(ages, row) ? missing : value
  })
}

function mergeNumbers(found: Float64Array, given: Float64Array | undefined, ages: Ages | undefined, missing: number): Float64Array {
  if (given === undefined && ages === undefined && Number.isNaN(missing)) return found
  const merged = new Float64Array(found.length)
  for (let row = 0; row < merged.length; row++) {
    const own = given === undefined ? NaN : given[row]!
    if (!Number.isNaN(own)) merged[row] = own
    else merged[row] = Number.isNaN(found[row]!) || isTooOld(ages, row) ? missing : found[row]!
  }
  return merged
}

function mergeVectors(data: LookupData & { readonly kind: 'vector' }, ages: Ages | undefined, missing: readonly number[]): ColumnData {
  const { values, width } = data
  const merged = values.slice()
  for (let row = 0; row * width < values.length; row++)
    if (Number.isNaN(values[row * width]!) || isTooOld(ages, row)) merged.set(missing, row * width)
  return { kind: 'vector', values: merged, width }
}
