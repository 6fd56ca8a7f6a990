import { parseDurationMs } from '@spillway/core'
import { compileColumns } from './compile-columns.ts'
import type { FeaturesDefinition, HistoryDefinition } from './definition.ts'
import type { FeatureInput, FeaturePlan, InputPlan, PlannedHistory } from './plan.ts'
import { listed, wrong } from './refusal.ts'

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
  checkShares(features, inputs)
  const titles = Object.keys(features.histories).filter((title) => isLookedAt(title, features))
  const compiled = new Map<string, ReturnType<typeof compileColumns>>()
  for (const [name, input] of inputs) if (input.predict) compiled.set(name, compileColumns(features, titles, { name, input }))
  const histories = titles.map((title) => plannedHistory(title, features, inputs, options.maxSkewMs ?? defaultMaxSkewMs))
  const planned = new Map<string, InputPlan>()
  for (const [name, input] of inputs) {
    const feeds = histories.flatMap((history, index) => (history.input === name ? [index] : []))
    const { columns = [], windows = [], vector = [], fields = [] } = compiled.get(name) ?? {}
    const values = feeds.flatMap((index) => histories[index]!.valueFields)
    const numberFields = [...new Set([...fields, ...values])].filter((field) => ['number', 'integer'].includes(input.fields.get(field)!))
    const looksAt = [...new Set(windows.map((group) => group.history))]
    planned.set(name, { name, input, feeds, looksAt, windows, columns, vector, numberFields })
  }
  const names = [...compiled.values()][0]?.names ?? []
  return {
    histories,
    inputs: planned,
    vector: { column: 'features', width: names.length, names, type: { datatype: 'FP32', rowShape: [names.length] } },
  }
}

function defaultFeatures(inputs: ReadonlyMap<string, FeatureInput>): FeaturesDefinition {
  const predicting = [...inputs.values()].find((input) => input.predict)
  const vector = [...(predicting?.fields ?? [])].filter(([, type]) => type === 'number' || type === 'integer').map(([field]) => field)
  if (vector.length === 0) throw wrong('vector', 'the predicting input has no field of numbers: name the columns of the vector')
  return { histories: {}, columns: {}, vector }
}

function isLookedAt(title: string, features: FeaturesDefinition): boolean {
  return Object.values(features.columns).some((column) => column.history === title)
}

function checkHistories(histories: Readonly<Record<string, HistoryDefinition>>, inputs: ReadonlyMap<string, FeatureInput>): void {
  for (const [title, history] of Object.entries(histories)) {
    const at = `histories.${title}`
    const input = inputs.get(history.input)
    if (input === undefined) throw wrong(`${at}.input`, `no input is called "${history.input}": choose among ${listed(inputs.keys())}`)
    const keyType = input.fields.get(history.key)
    if (keyType === undefined)
      throw wrong(`${at}.key`, `input "${history.input}" has no field "${history.key}": choose among ${listed(input.fields.keys())}`)
    if (keyType !== 'string' && keyType !== 'integer')
      throw wrong(`${at}.key`, `"${history.key}" is a ${keyType}: a key is a string or an integer`)
    history.values.forEach((value, index) => {
      const type = input.fields.get(value)
      if (type === undefined)
        throw wrong(
          `${at}.values[${index}]`,
          `input "${history.input}" has no field "${value}": choose among ${listed(input.fields.keys())}`,
        )
      if (type === 'string' || type === 'timestamp')
        throw wrong(`${at}.values[${index}]`, `"${value}" is a ${type}: a history keeps numbers, integers and booleans`)
    })
  }
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

function checkShares(features: FeaturesDefinition, inputs: ReadonlyMap<string, FeatureInput>): void {
  for (const [name, { window, history, of }] of Object.entries(features.columns)) {
    if (window !== 'share') continue
    const type = inputs.get(features.histories[history!]?.input ?? '')?.fields.get(of!)
    if (type === 'number')
      throw wrong(
        `columns.${name}.of`,
        `"${of}" is a number, and a share is that of flags (booleans, or integers 0 and 1): use "window: mean"`,
      )
  }
}

function plannedHistory(
  title: string,
  features: FeaturesDefinition,
  inputs: ReadonlyMap<string, FeatureInput>,
  maxSkewMs: number,
): PlannedHistory {
  const { input, key, values } = features.histories[title]!
  let spanMs = 0
  for (const column of Object.values(features.columns))
    if (column.history === title) spanMs = Math.max(spanMs, parseDurationMs(column.length!) + parseDurationMs(column.delay ?? '0ms'))
  // An event that looks it up may be late itself, and its input may lag behind the one that feeds the history.
  let slackMs = inputs.get(input)!.latenessMs
  for (const [name, reader] of inputs) if (reader.predict && name !== input) slackMs = Math.max(slackMs, reader.latenessMs + maxSkewMs)
  return {
    name: `${title}:${input}.${key}(${values.join(',')})`,
    title,
    input,
    keyField: key,
    valueFields: values,
    valueCount: values.length,
    retentionMs: spanMs + slackMs,
  }
}
