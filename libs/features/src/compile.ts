import { compileColumns } from './columns/compile-columns.ts'
import type { FeaturesDefinition } from './definition.ts'
import type { FeatureInput, FeaturePlan, InputPlan } from './plan.ts'
import { plannedLookup } from './lookups/compile.ts'
import { wrong } from './refusal.ts'
import { checkHistories, checkWindowValues, plannedHistory } from './windows/compile.ts'

export interface CompileOptions {
  /** How far, in event time, one input may run ahead of another: histories are kept that much longer. 7 d where absent. */
  readonly maxSkewMs?: number
}

const defaultMaxSkewMs = 7 * 86_400_000

/**
 * Resolves every reference of the section. Where it is absent, the vector is every number and integer of the predicting input, in order.
 * @throws MeshError INVALID_ARGUMENT whose `field` is the path within the section, as in `columns.amount.field`
 */
export function compileFeatures(
  definition: FeaturesDefinition | undefined,
  inputs: ReadonlyMap<string, FeatureInput>,
  options: CompileOptions = {},
): FeaturePlan {
  const features = definition ?? defaultFeatures(inputs)
  checkHistories(features.histories, inputs)
  checkColumnNames(features, inputs)
  checkWindowValues(features, inputs)
  const read = Object.values(features.columns)
  const titles = {
    histories: Object.keys(features.histories).filter((title) => isLookedAt(title, features)),
    lookups: Object.keys(features.lookups).filter((title) => read.some(({ lookup }) => lookup === title)),
  }
  const lookups = Object.entries(features.lookups).map(([title, lookup]) => plannedLookup(title, lookup, inputs))
  const compiled = new Map<string, ReturnType<typeof compileColumns>>()
  for (const [name, input] of inputs) if (input.predict) compiled.set(name, compileColumns(features, titles, { name, input }))
  const histories = titles.histories.map((title) => plannedHistory(title, features, inputs, options.maxSkewMs ?? defaultMaxSkewMs))
  const planned = new Map<string, InputPlan>()
  for (const [name, input] of inputs) {
    const feeds = histories.flatMap((history, index) => (history.input === name ? [index] : []))
    const { columns = [], windows = [], lookups: looked = [], vector = [], fields = [] } = compiled.get(name) ?? {}
    const values = feeds.flatMap((index) => histories[index]!.valueFields)
    const numberFields = [...new Set([...fields, ...values])].filter((field) => ['number', 'integer'].includes(input.fields.get(field)!))
    const looksAt = [...new Set(windows.map((group) => group.history))]
    planned.set(name, { name, input, feeds, looksAt, windows, lookups: looked, columns, vector, numberFields })
  }
  const names = [...compiled.values()][0]?.names ?? []
  return {
    histories,
    lookups: lookups.filter(({ title }) => titles.lookups.includes(title)),
    inputs: planned,
    vector: { column: 'features', width: names.length, names, type: { datatype: 'FP32', rowShape: [names.length] } },
  }
}

function defaultFeatures(inputs: ReadonlyMap<string, FeatureInput>): FeaturesDefinition {
  const predicting = [...inputs.values()].find((input) => input.predict)
  const vector = [...(predicting?.fields ?? [])].filter(([, type]) => type === 'number' || type === 'integer').map(([field]) => field)
  if (vector.length === 0) throw wrong('vector', 'the predicting input has no field of numbers: name the columns of the vector')
  return { histories: {}, lookups: {}, columns: {}, vector }
}

function isLookedAt(title: string, features: FeaturesDefinition): boolean {
  return Object.values(features.columns).some((column) => column.history === title)
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
