import { MeshError } from '@spillway/core'
import { ColumnEvaluation } from '../columns/evaluate.ts'
import { numbersIn } from '../columns/column-data.ts'
import { type CompileOptions, FeatureCompiler, unfittedPlan } from '../feature-compiler.ts'
import type { FeaturesDefinition } from '../definition.ts'
import type { FeatureInput, FeaturePlan, InputPlan, PlannedColumn } from '../plan.ts'
import { wrong } from '../refusal.ts'
import { fittedDefinitionHash, type Section } from './definition-hash.ts'
import { FittingValues } from './fitted-values.ts'
import { RowSample } from './row-sample.ts'
import { scoreOf, selectionHash } from './selection.ts'
import type { SourceRows } from './source-rows.ts'
import { type Statistics, statisticsFormat } from './statistics.ts'

export interface FitterOptions extends Omit<CompileOptions, 'statistics'> {
  /** Most rows that are kept to fit to; a million where absent. */
  readonly rows?: number
  readonly seed?: number
}

const defaultRows = 1_000_000

/**
 * Fits every fitted step of a section, and its selection, to rows of events. Replay them through an engine on `plan` whose `observe` is `add`:
 * windows are then those that serve, and steps are fitted to what the steps before them make of a sample of the rows.
 */
export class StatisticsFitter {
  /** To replay with: it has no vector. */
  readonly plan: FeaturePlan
  private readonly definition: FeaturesDefinition
  private readonly inputs: ReadonlyMap<string, FeatureInput>
  private readonly options: FitterOptions
  private readonly first: InputPlan
  private readonly sample: RowSample
  private readonly seed: number
  private fromMs = Infinity
  private toMs = -Infinity

  /** @throws MeshError INVALID_ARGUMENT as `compileFeatures` */
  constructor(definition: FeaturesDefinition, inputs: ReadonlyMap<string, FeatureInput>, options: FitterOptions = {}) {
    this.definition = definition
    this.inputs = inputs
    this.options = options
    this.seed = options.seed ?? 0
    this.plan = unfittedPlan(definition, inputs, options)
    const predicting = [...this.plan.inputs.values()].filter(({ input }) => input.predict)
    this.first = predicting[0]!
    const fields = fieldsOf(this.first, definition)
    for (const { name, input } of predicting) checkTypes(fields, this.first, { name, input })
    this.sample = new RowSample(fields, { capacity: options.rows ?? defaultRows, seed: this.seed })
  }

  /** @param labels one a row of the batch (NaN: none), where `select.label` is of another input */
  add(rows: SourceRows, labels?: Float64Array): void {
    for (const row of rows.rows) {
      const time = rows.batch.meta.eventTimesMs[row]!
      this.fromMs = Math.min(this.fromMs, time)
      this.toMs = Math.max(this.toMs, time)
    }
    this.sample.add(rows, labels)
  }

  /** @throws MeshError INVALID_ARGUMENT naming the step that the rows do not allow to fit, or where there were none */
  finish(madeAt: Date): Statistics {
    if (this.sample.rowsSeen === 0)
      throw new MeshError('INVALID_ARGUMENT', 'there is no row to fit to: no event of a predicted input was read, or every one failed', {
        field: 'statistics',
      })
    const compiler = new FeatureCompiler(this.definition, this.inputs, this.options)
    const section = compiler.section(this.first.input)
    const values = new FittingValues()
    const batch = this.sample.batch()
    const given = (name: string): ReturnType<RowSample['given']> => this.sample.given(name)
    let selection: Statistics['selection']
    const { name, input } = this.first
    const select = (vector: readonly number[], columns: readonly PlannedColumn[]): readonly number[] => {
      if (section.features.select === undefined) return vector
      const fresh = (): ColumnEvaluation => new ColumnEvaluation(columns, batch, (_index, column) => given(column))
      selection = this.selected(vector, columns, section, fresh)
      return vector
    }
    compiler.columns(name, input, () => ({ values, select }), { batch, given })
    return {
      format: statisticsFormat,
      version: 1,
      madeAt: madeAt.toISOString(),
      rows: this.sample.rowsSeen,
      sampled: this.sample.size,
      seed: this.seed,
      from: new Date(this.fromMs).toISOString(),
      to: new Date(this.toMs).toISOString(),
      columns: values.statistics((column) => fittedDefinitionHash(column, section)),
      ...(selection !== undefined && { selection }),
    }
  }

  /** Each column's score by an evaluation of its own, so that only one column's values are held at a time. */
  private selected(
    vector: readonly number[],
    columns: readonly PlannedColumn[],
    section: Section,
    fresh: () => ColumnEvaluation,
  ): NonNullable<Statistics['selection']> {
    const { atMost, label } = section.features.select!
    const labels = label === undefined ? undefined : this.labels(label, columns, fresh)
    const scored = vector.map((index) => {
      const { name, kind } = columns[index]!
      return { name, score: scoreOf(fresh().column(index), kind, labels) }
    })
    return {
      definition: selectionHash(
        scored.map(({ name }) => name),
        section,
      ),
      kept: scored.toSorted((a, b) => b.score - a.score).slice(0, atMost),
    }
  }

  private labels(label: string, columns: readonly PlannedColumn[], fresh: () => ColumnEvaluation): Float64Array {
    const index = columns.findIndex(({ name }) => name === label)
    const data = index >= 0 ? fresh().column(index) : undefined
    const type = this.first.input.fields.get(label)
    const field = (): Float64Array | undefined =>
      type === undefined ? undefined : numbersIn(fresh().source({ kind: 'field', field: label, type }, -1, label))
    if (data?.kind === 'text' || type === 'string') throw wrong('select.label', `"${label}" is a string: a label is a number or a flag`)
    const labels = data === undefined ? (field() ?? this.sample.joinedLabels()) : numbersIn(data)
    if (labels === undefined)
      throw wrong('select.label', `"${label}" is of another input, and nothing was joined with the rows: give labels to add`)
    return labels
  }
}

function fieldsOf({ columns, input, lookups }: InputPlan, { select }: FeaturesDefinition): readonly string[] {
  const fields = columns.flatMap(({ source }) => (source.kind === 'field' ? [source.field] : []))
  const looked = lookups.flatMap(({ outputs }) => outputs.flatMap(({ field }) => field ?? []))
  const label = select?.label !== undefined && input.fields.has(select.label) ? [select.label] : []
  return [...new Set([...fields, ...looked, ...label])]
}

function checkTypes(
  fields: readonly string[],
  first: InputPlan,
  { name, input }: { readonly name: string; readonly input: FeatureInput },
): void {
  for (const field of fields) {
    const [expected, type] = [first.input.fields.get(field), input.fields.get(field)]
    if (type !== expected)
      throw wrong(
        'vector',
        `field "${field}" is a ${type} in input "${name}" and a ${expected} in "${first.name}": statistics need one type`,
      )
  }
}
