import {
  ColumnCompiler,
  type ColumnResources,
  elementNames,
  type FitRows,
  type ImportedModule,
  type Titles,
} from './columns/compile-columns.ts'
import { namingSteps, withLastKnown } from './columns/last-known.ts'
import type { FeaturesDefinition } from './definition.ts'
import { plannedLookup } from './lookups/compile.ts'
import type { FeatureInput, FeaturePlan, InputPlan } from './plan.ts'
import { listed, wrong } from './refusal.ts'
import { hashOf, type Section } from './statistics/definition-hash.ts'
import { unfittedValues } from './statistics/fitted-values.ts'
import type { VectorSelection } from './statistics/selection.ts'
import type { Statistics } from './statistics/statistics.ts'
import { checkHistories, checkWindowValues, plannedHistory, skewAllowance } from './windows/compile.ts'

export interface CompileOptions {
  /** How far, in event time, one input may run ahead of another: histories are kept that much longer. A quarter of the shortest delay, at least 7 d, where absent. */
  readonly maxSkewMs?: number
  /** What fitted steps were fitted to. */
  readonly statistics?: Statistics | undefined
  /** By path: those that `moduleRequests` lists, imported. */
  readonly modules?: ReadonlyMap<string, ImportedModule>
  /** Text by path: those that `fileRequests` lists. */
  readonly files?: ReadonlyMap<string, string>
}

/** How fitted steps and the selection come by their values. */
export interface Fitting {
  readonly values: ColumnResources['fitted']
  readonly select: VectorSelection
}

/** One compilation of a section: with statistics, without, or fitting them. */
export class FeatureCompiler {
  readonly features: FeaturesDefinition
  private readonly added: ReadonlyMap<string, string>
  private readonly inputs: ReadonlyMap<string, FeatureInput>
  private readonly options: CompileOptions
  private readonly unfitted: boolean

  constructor(
    definition: FeaturesDefinition | undefined,
    inputs: ReadonlyMap<string, FeatureInput>,
    { unfitted = false, ...options }: CompileOptions & { readonly unfitted?: boolean },
  ) {
    this.unfitted = unfitted
    const { features, added } = withLastKnown(definition ?? defaultFeatures(inputs))
    this.features = features
    this.added = added
    this.inputs = inputs
    this.options = options
  }

  plan(fitting: (section: Section) => Fitting): FeaturePlan {
    const { features, inputs, options } = this
    checkHistories(features.histories, inputs)
    checkColumnNames(features, inputs)
    checkLabel(features, inputs)
    return namingSteps(this.added, () => {
      checkWindowValues(features, inputs)
      const lookups = Object.entries(features.lookups).map(([title, lookup]) => plannedLookup(title, lookup, inputs))
      const compiled = new Map<string, ReturnType<ColumnCompiler['compile']>>()
      for (const [name, input] of inputs) if (input.predict) compiled.set(name, this.columns(name, input, fitting))
      const titles = this.titles()
      const maxSkewMs = options.maxSkewMs ?? skewAllowance(features)
      const histories = titles.histories.map((title) => plannedHistory(title, features, inputs, maxSkewMs))
      const planned = new Map<string, InputPlan>()
      for (const [name, input] of inputs) {
        const feeds = histories.flatMap((history, index) => (history.input === name ? [index] : []))
        const { columns = [], windows = [], lookups: looked = [], vector = [], fields = [] } = compiled.get(name) ?? {}
        const values = feeds.flatMap((index) => histories[index]!.valueFields)
        const numberFields = [...new Set([...fields, ...values])].filter((field) =>
          ['number', 'integer'].includes(input.fields.get(field)!),
        )
        const looksAt = [...new Set(windows.map((group) => group.history))]
        planned.set(name, { name, input, feeds, looksAt, windows, lookups: looked, columns, vector, numberFields })
      }
      const names = this.vectorNames(planned)
      return {
        hash: this.hash(),
        unfitted: this.unfitted,
        histories,
        lookups: lookups.filter(({ title }) => titles.lookups.includes(title)),
        inputs: planned,
        vector: { column: 'features', width: names.length, names, type: { datatype: 'FP32', rowShape: [names.length] } },
      }
    })
  }

  /** @param rows to compute columns of, and fit them to, while they are compiled */
  columns(
    name: string,
    input: FeatureInput,
    fitting: (section: Section) => Fitting,
    rows?: FitRows,
  ): ReturnType<ColumnCompiler['compile']> {
    const { modules = new Map(), files = new Map() } = this.options
    const { values, select } = fitting(this.section(input))
    const resources: ColumnResources = { modules, files, fitted: values, added: this.added }
    return new ColumnCompiler(this.features, this.titles(), { name, input }, resources, rows).compile(select)
  }

  section(input: FeatureInput): Section {
    const { modules, files } = this.options
    return {
      features: this.features,
      input,
      functionText: (path, name) => String(modules?.get(path)?.[name]),
      fileText: (path) => files?.get(path) ?? '',
    }
  }

  private titles(): Titles {
    const read = Object.values(this.features.columns)
    return {
      histories: Object.keys(this.features.histories).filter((title) => read.some(({ history }) => history === title)),
      lookups: Object.keys(this.features.lookups).filter((title) => read.some(({ lookup }) => lookup === title)),
    }
  }

  private vectorNames(planned: ReadonlyMap<string, InputPlan>): readonly string[] {
    let names: readonly string[] | undefined
    for (const { name, input, columns, vector } of planned.values()) {
      if (!input.predict) continue
      const own = vector.flatMap((index) => elementNames(columns[index]!))
      names ??= own
      const other = own.findIndex((element, index) => element !== names![index])
      if (other !== -1 || own.length !== names.length)
        throw wrong(
          'vector',
          `of input "${name}" it has ${own.length} elements and of the first predicted one ${names.length} (${own[other] ?? names[own.length]}): fields of one name must be of one type`,
        )
    }
    return names ?? []
  }

  private hash(): string {
    const { statistics, modules, files } = this.options
    const { statistics: _path, ...features } = this.features
    const functions = Object.values(features.columns).flatMap(({ module, export: name }) =>
      module === undefined ? [] : [String(modules?.get(module)?.[name ?? ''])],
    )
    const inputs = [...this.inputs].map(([name, { fields, predict }]) => [name, [...fields], predict])
    return hashOf([
      features,
      inputs,
      functions,
      [...(files ?? [])],
      statistics?.columns,
      statistics?.selection?.kept.map(({ name }) => name),
    ])
  }
}

function defaultFeatures(inputs: ReadonlyMap<string, FeatureInput>): FeaturesDefinition {
  const predicting = [...inputs.values()].find((input) => input.predict)
  const vector = [...(predicting?.fields ?? [])].filter(([, type]) => type === 'number' || type === 'integer').map(([field]) => field)
  if (vector.length === 0) throw wrong('vector', 'the predicting input has no field of numbers: name the columns of the vector')
  return { histories: {}, lookups: {}, columns: {}, vector }
}

/** A column called as a field of its input would say two things by one name, unless it is that field, transformed or not. */
function checkColumnNames(features: FeaturesDefinition, inputs: ReadonlyMap<string, FeatureInput>): void {
  for (const [name, column] of Object.entries(features.columns)) {
    if (column.field === name) continue
    for (const [inputName, input] of inputs)
      if (input.predict && input.fields.has(name))
        throw wrong(`columns.${name}`, `input "${inputName}" has a field "${name}" too: give the column another name`)
  }
}

/** A column, a field of every predicting input, or `<input>.<field>` of another one. */
function checkLabel({ select, columns }: FeaturesDefinition, inputs: ReadonlyMap<string, FeatureInput>): void {
  const label = select?.label
  if (label === undefined || Object.hasOwn(columns, label)) return
  const predicting = [...inputs.values()].filter(({ predict }) => predict)
  if (predicting.every(({ fields }) => fields.has(label))) return
  const others = [...inputs].flatMap(([name, { fields }]) => [...fields.keys()].map((field) => `${name}.${field}`))
  if (others.includes(label)) return
  const choices = listed([...Object.keys(columns), ...(predicting[0]?.fields.keys() ?? []), ...others])
  throw wrong('select.label', `"${label}" is neither a column nor a field: choose among ${choices}`)
}

/** A plan that computes only what columns are made from, to fit them to. */
export function unfittedPlan(
  definition: FeaturesDefinition,
  inputs: ReadonlyMap<string, FeatureInput>,
  options: CompileOptions,
): FeaturePlan {
  const fitting: Fitting = { values: unfittedValues, select: (vector) => vector }
  return new FeatureCompiler(definition, inputs, { ...options, unfitted: true }).plan(() => fitting)
}
