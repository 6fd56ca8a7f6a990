import { parseDurationMs } from '@spillway/core'
import type { FeaturesDefinition } from '../definition.ts'
import type { FeatureInput } from '../plan.ts'
import { listed, wrong } from '../refusal.ts'
import type { HistoryDefinition, WindowDefinition } from './definition.ts'
import type { PlannedHistory, WindowGroup, WindowOutput } from './plan.ts'

export function keyFieldsOf(history: HistoryDefinition): readonly string[] {
  return typeof history.key === 'string' ? [history.key] : history.key
}

/** Whether events of one key all come on one partition of the history's input. */
function isOwned(history: HistoryDefinition, input: FeatureInput): boolean {
  return input.keyField !== undefined && keyFieldsOf(history).includes(input.keyField)
}

/** @throws MeshError INVALID_ARGUMENT whose `field` is the path within the section */
export function checkHistories(histories: Readonly<Record<string, HistoryDefinition>>, inputs: ReadonlyMap<string, FeatureInput>): void {
  for (const [title, history] of Object.entries(histories)) {
    const at = `histories.${title}`
    const input = inputs.get(history.input)
    if (input === undefined) throw wrong(`${at}.input`, `no input is called "${history.input}": choose among ${listed(inputs.keys())}`)
    for (const field of keyFieldsOf(history)) {
      const keyType = input.fields.get(field)
      if (keyType === undefined)
        throw wrong(`${at}.key`, `input "${history.input}" has no field "${field}": choose among ${listed(input.fields.keys())}`)
      if (keyType !== 'string' && keyType !== 'integer')
        throw wrong(`${at}.key`, `"${field}" is a ${keyType}: a key is a string or an integer`)
    }
    history.values.forEach((value, index) => {
      const type = input.fields.get(value)
      const path = `${at}.values[${index}]`
      if (type === undefined)
        throw wrong(path, `input "${history.input}" has no field "${value}": choose among ${listed(input.fields.keys())}`)
      if (type === 'string' || type === 'timestamp')
        throw wrong(path, `"${value}" is a ${type}: a history keeps numbers, integers and booleans`)
    })
  }
}

/** @throws MeshError INVALID_ARGUMENT whose `field` is the path within the section */
export function checkShares(features: FeaturesDefinition, inputs: ReadonlyMap<string, FeatureInput>): void {
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

export function plannedHistory(
  title: string,
  features: FeaturesDefinition,
  inputs: ReadonlyMap<string, FeatureInput>,
  maxSkewMs: number,
): PlannedHistory {
  const definition = features.histories[title]!
  const { input, values } = definition
  const keyFields = keyFieldsOf(definition)
  let spanMs = 0
  for (const column of Object.values(features.columns))
    if (column.history === title) spanMs = Math.max(spanMs, parseDurationMs(column.length!) + parseDurationMs(column.delay ?? '0ms'))
  // An event that looks it up may be late itself, and its input may lag behind the one that feeds the history.
  let slackMs = inputs.get(input)!.latenessMs
  for (const [name, reader] of inputs) if (reader.predict && name !== input) slackMs = Math.max(slackMs, reader.latenessMs + maxSkewMs)
  return {
    name: `${title}:${input}.${keyFields.join('+')}(${values.join(',')})`,
    title,
    input,
    keyFields,
    valueFields: values,
    valueCount: values.length,
    retentionMs: spanMs + slackMs,
    owned: isOwned(definition, inputs.get(input)!),
  }
}

interface PlannedWindow {
  readonly history: number
  readonly value: number
  readonly delayMs: number
  readonly lengthMs: number
  readonly output: Omit<WindowOutput, 'length'>
}

/** Collects the windows of one predicting input. */
export class WindowCompiler {
  private readonly windows: PlannedWindow[] = []
  private readonly features: FeaturesDefinition
  private readonly titles: readonly string[]
  private readonly of: { readonly name: string; readonly input: FeatureInput }

  /** @param titles the plan's histories, in order */
  constructor(features: FeaturesDefinition, titles: readonly string[], of: { readonly name: string; readonly input: FeatureInput }) {
    this.features = features
    this.titles = titles
    this.of = of
  }

  /**
   * @param column index in the input's columns
   * @returns numbers a row
   * @throws MeshError INVALID_ARGUMENT whose `field` is the path within the section
   */
  add(definition: WindowDefinition, column: number, at: string): number {
    const { window, history: title, of: value } = definition
    const history = this.features.histories[title!]
    if (history === undefined || !Object.hasOwn(this.features.histories, title!))
      throw wrong(`${at}.history`, `no history is called "${title}": choose among ${listed(Object.keys(this.features.histories))}`)
    const index = value === undefined ? -1 : history.values.indexOf(value)
    if (value !== undefined && index === -1)
      throw wrong(
        `${at}.of`,
        `history "${title}" keeps no value "${value}": choose among ${listed(history.values)}, or add it to its values`,
      )
    this.checkKeys(history, title!, at)
    const delayMs = parseDurationMs(definition.delay ?? '0ms')
    const { input, name } = this.of
    const own = history.input === name && isOwned(history, input)
    if (delayMs === 0 && !own && definition.approximate !== true)
      throw wrong(
        `${at}.delay`,
        `history "${title}" does not go by the partition key of input "${name}" (${input.keyField ?? 'none'}), so what it holds depends on what other partitions have delivered: ` +
          'give the window a delay, or accept that with "approximate: true"',
      )
    const output = { column, kind: window!, ofValue: index >= 0, empty: definition.empty ?? 0 }
    const lengthMs = parseDurationMs(definition.length!)
    this.windows.push({ history: this.titles.indexOf(title!), value: index, delayMs, lengthMs, output })
    return 1
  }

  private checkKeys(history: HistoryDefinition, title: string, at: string): void {
    const { input, name } = this.of
    for (const field of keyFieldsOf(history)) {
      const keyType = input.fields.get(field)
      if (keyType === undefined)
        throw wrong(
          `${at}.history`,
          `history "${title}" is looked up by "${field}", and input "${name}" has no such field: its fields are ${listed(input.fields.keys())}`,
        )
      if (keyType !== 'string' && keyType !== 'integer')
        throw wrong(
          `${at}.history`,
          `history "${title}" is looked up by "${field}", which is a ${keyType} in input "${name}": a key is a string or an integer`,
        )
    }
  }

  /** One group for each history, delay and value; windows that only count join whichever there is. */
  groups(): WindowGroup[] {
    const groups = Object.values(
      Object.groupBy(
        this.windows,
        ({ history, delayMs, value }) => `${history}/${delayMs}/${value >= 0 ? value : this.valueBeside(history, delayMs)}`,
      ),
    ) as PlannedWindow[][]
    return groups.map((windows) => {
      const lengthsMs = [...new Set(windows.map(({ lengthMs }) => lengthMs))].sort((a, b) => a - b)
      const outputs = windows.map(({ lengthMs, output }) => ({ ...output, length: lengthsMs.indexOf(lengthMs) }))
      const { history, delayMs } = windows[0]!
      return { history, value: Math.max(...windows.map(({ value }) => value)), delayMs, lengthsMs, outputs }
    })
  }

  private valueBeside(history: number, delayMs: number): number {
    return this.windows.find((other) => other.history === history && other.delayMs === delayMs && other.value >= 0)?.value ?? -1
  }
}
