import { parseDurationMs } from '@spillway/core'
import type { FeaturesDefinition } from '../definition.ts'
import type { FeatureInput } from '../plan.ts'
import { listed, wrong } from '../refusal.ts'
import type { HistoryDefinition, WindowDefinition, WindowKind } from './definition.ts'
import type { PlannedHistory, WindowGroup, WindowOutput, WindowScanKind } from './plan.ts'

const scans: Readonly<Record<WindowKind, WindowScanKind>> = {
  count: 'aggregate',
  sum: 'aggregate',
  mean: 'aggregate',
  share: 'aggregate',
  min: 'aggregate',
  max: 'aggregate',
  distinct: 'distinct',
  last: 'newest',
  sinceLast: 'newest',
}

/** What the elements of a window's column are called: `name`, or `name[1]` (the newest) to `name[count]` where it gives several. */
export function windowNames(name: string, { count = 1 }: WindowDefinition): readonly string[] {
  return count === 1 ? [name] : Array.from({ length: count }, (_, index) => `${name}[${index + 1}]`)
}

function keyFieldsOf(history: HistoryDefinition): readonly string[] {
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
      if (type === 'timestamp') throw wrong(path, `"${value}" is a timestamp: a history keeps numbers, integers, booleans and text`)
    })
  }
}

/** What each window's value must be. @throws MeshError INVALID_ARGUMENT whose `field` is the path within the section */
export function checkWindowValues(features: FeaturesDefinition, inputs: ReadonlyMap<string, FeatureInput>): void {
  for (const [name, { window, history, of }] of Object.entries(features.columns)) {
    if (window === undefined || of === undefined) continue
    const type = inputs.get(features.histories[history!]?.input ?? '')?.fields.get(of)
    if (window === 'share' && type === 'number')
      throw wrong(
        `columns.${name}.of`,
        `"${of}" is a number, and a share is that of flags (booleans, or integers 0 and 1): use "window: mean"`,
      )
    if (type === 'string' && !takesText.has(window))
      throw wrong(`columns.${name}.of`, `"${of}" is text, of which a history keeps a hash: only ${listed(takesText)} are made from it`)
  }
}

const takesText: ReadonlySet<WindowKind> = new Set(['count', 'distinct', 'sinceLast'])

const defaultMaxSkewMs = 7 * 86_400_000

/** How far partitions may come apart where nobody says: what an alignment by the shortest delay allows, which is a quarter of it, and no less than 7 d. */
export function skewAllowance({ columns }: FeaturesDefinition): number {
  const delaysMs = Object.values(columns).flatMap(({ delay }) => (delay === undefined ? [] : [parseDurationMs(delay)]))
  const shortestMs = Math.min(...delaysMs.filter((delayMs) => delayMs > 0))
  return shortestMs === Infinity ? defaultMaxSkewMs : Math.max(defaultMaxSkewMs, shortestMs / 4)
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
  const owned = isOwned(definition, inputs.get(input)!)
  // An event that looks it up may be late itself, and its partition may lag behind those that feed the history.
  let slackMs = inputs.get(input)!.latenessMs
  for (const [name, reader] of inputs)
    if (reader.predict && !(owned && name === input)) slackMs = Math.max(slackMs, reader.latenessMs + maxSkewMs)
  const retentionMs = retentionOf(title, features, slackMs)
  const made = values.map((value) => (inputs.get(input)!.fields.get(value) === 'string' ? `#${value}` : value))
  return {
    name: `${title}:${input}.${keyFields.join('+')}(${made.join(',')})`,
    title,
    input,
    keyFields,
    valueFields: values,
    valueCount: values.length,
    retentionMs,
    owned,
  }
}

/** What the history's windows need, or what it is told to keep. @throws MeshError INVALID_ARGUMENT for a window that needs more than that */
function retentionOf(title: string, features: FeaturesDefinition, slackMs: number): number {
  const { retention } = features.histories[title]!
  const keptMs = retention === undefined ? Infinity : parseDurationMs(retention)
  let neededMs = slackMs
  for (const [name, { history, length, delay }] of Object.entries(features.columns)) {
    if (history !== title) continue
    const windowMs = parseDurationMs(length!) + parseDurationMs(delay ?? '0ms')
    neededMs = Math.max(neededMs, windowMs + slackMs)
    if (windowMs + slackMs > keptMs)
      throw wrong(
        `columns.${name}.length`,
        `the window reaches ${durationText(windowMs)} back (length and delay), an event may be ${durationText(slackMs)} late on top, and history "${title}" keeps ${retention}: ` +
          `shorten it to ${keptMs > slackMs ? durationText(keptMs - slackMs) : 'nothing'} in all, or set histories.${title}.retention to ${durationText(windowMs + slackMs)} or more`,
      )
  }
  return retention === undefined ? neededMs : keptMs
}

const units = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
] as const

/** Exactly, as the file would have it. */
function durationText(durationMs: number): string {
  const [unit, unitMs] = units.find(([, ms]) => durationMs % ms === 0) ?? ['ms', 1]
  return `${durationMs / unitMs}${unit}`
}

interface PlannedWindow {
  readonly history: number
  readonly value: number
  readonly delayMs: number
  readonly lengthMs: number
  readonly scan: WindowScanKind
  readonly current: boolean
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
    if (definition.current !== undefined && history.input !== name)
      throw wrong(`${at}.current`, `history "${title}" is of input "${history.input}": an event of "${name}" is not in it`)
    const scan = scans[window!]
    const { current = scan !== 'newest', empty = scan === 'newest' ? NaN : 0, count: width = 1 } = definition
    const output = { column, kind: window!, ofValue: index >= 0, empty, width }
    const lengthMs = parseDurationMs(definition.length!)
    this.windows.push({ history: this.titles.indexOf(title!), value: index, delayMs, lengthMs, scan, current, output })
    return width
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

  /** One group for each history, delay, value and manner; windows that only count join whichever there is. */
  groups(): WindowGroup[] {
    const groups = Object.values(
      Object.groupBy(
        this.windows,
        (window) =>
          `${window.history}/${window.delayMs}/${window.scan}/${window.current}/${window.value >= 0 ? window.value : this.valueBeside(window)}`,
      ),
    ) as PlannedWindow[][]
    return groups.map((windows) => {
      const lengthsMs = [...new Set(windows.map(({ lengthMs }) => lengthMs))].sort((a, b) => a - b)
      const outputs = windows.map(({ lengthMs, output }) => ({ ...output, length: lengthsMs.indexOf(lengthMs) }))
      const { history, delayMs, scan, current } = windows[0]!
      return { history, value: Math.max(...windows.map(({ value }) => value)), delayMs, scan, current, lengthsMs, outputs }
    })
  }

  /** The value of another window that is walked alike. */
  private valueBeside({ history, delayMs, scan, current }: PlannedWindow): number {
    const beside = this.windows.find(
      (other) =>
        other.value >= 0 && other.history === history && other.delayMs === delayMs && other.scan === scan && other.current === current,
    )
    return beside?.value ?? -1
  }
}
