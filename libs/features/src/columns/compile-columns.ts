import type { FeaturesDefinition } from '../definition.ts'
import type { FieldType } from '../field-type.ts'
import type { ColumnSource, FeatureInput, PlannedColumn } from '../plan.ts'
import { LookupCompiler, typeName } from '../lookups/compile.ts'
import type { LookupType } from '../lookups/definition.ts'
import type { LookupGroup } from '../lookups/plan.ts'
import { listed, wrong } from '../refusal.ts'
import { WindowCompiler } from '../windows/compile.ts'
import type { WindowGroup } from '../windows/plan.ts'
import type { ColumnDefinition, StepDefinition } from './definition.ts'
import { compileStep, type Step, stepName } from './steps.ts'

interface CompiledColumns {
  readonly columns: readonly PlannedColumn[]
  readonly windows: readonly WindowGroup[]
  readonly lookups: readonly LookupGroup[]
  readonly vector: readonly number[]
  /** One an element of the vector. */
  readonly names: readonly string[]
  /** Fields that columns are made from. */
  readonly fields: readonly string[]
}

interface NamedInput {
  readonly name: string
  readonly input: FeatureInput
}

/** What a value is between two steps. */
type Kind = 'number' | 'timestamp' | 'string'

function kindOf(type: FieldType): Kind {
  return type === 'string' || type === 'timestamp' ? type : 'number'
}

/** Names of the plan's histories and lookups, in order. */
export interface Titles {
  readonly histories: readonly string[]
  readonly lookups: readonly string[]
}

/** The columns of one predicting input, each after what it is made from. */
export function compileColumns(features: FeaturesDefinition, titles: Titles, of: NamedInput): CompiledColumns {
  const compiler = new ColumnCompiler(features, titles, of)
  for (const name of Object.keys(features.columns)) compiler.column(name, [])
  const vector = features.vector.map((name, index) => compiler.inVector(name, `vector[${index}]`))
  const names = vector.flatMap((index) => {
    const { name, oneHot } = compiler.columns[index]!
    return oneHot === undefined ? [name] : oneHot.map((value) => `${name}=${value}`)
  })
  const lookups = compiler.lookups.groups()
  const fields = [
    ...compiler.columns.flatMap(({ source }) => (source.kind === 'field' ? [source.field] : [])),
    ...lookups.flatMap(({ outputs }) => outputs.flatMap(({ field }) => field ?? [])),
  ]
  return { columns: compiler.columns, windows: compiler.windows.groups(), lookups, vector, names, fields }
}

class ColumnCompiler {
  readonly columns: PlannedColumn[] = []
  private readonly indices = new Map<string, number>()
  readonly windows: WindowCompiler
  readonly lookups: LookupCompiler
  private readonly features: FeaturesDefinition
  private readonly of: NamedInput

  constructor(features: FeaturesDefinition, titles: Titles, of: NamedInput) {
    this.features = features
    this.windows = new WindowCompiler(features, titles.histories, of)
    this.lookups = new LookupCompiler(features, titles.lookups, of)
    this.of = of
  }

  /** Index of the column, compiled now where it was not yet; `path` is the way of references that led to it. */
  column(name: string, path: readonly string[]): number {
    const known = this.indices.get(name)
    if (known !== undefined) return known
    const at = `columns.${name}`
    if (path.includes(name))
      throw wrong(`columns.${path.at(-1)}.column`, `columns go round in a circle: ${[...path.slice(path.indexOf(name)), name].join(' → ')}`)
    const definition = this.features.columns[name]!
    const { source, kind } = this.source(definition, at, [...path, name])
    const { steps, oneHot } = compileSteps(definition.steps ?? [], kind, `${at}.steps`)
    const index = this.columns.push({ name, source, steps, oneHot }) - 1
    this.indices.set(name, index)
    return index
  }

  private source(definition: ColumnDefinition, at: string, path: readonly string[]): { source: ColumnSource; kind: Kind } {
    if (definition.lookup !== undefined) return this.lookup(definition, at)
    if (definition.field !== undefined) return this.field(definition.field, `${at}.field`)
    if (definition.column === undefined)
      return { source: { kind: 'window', width: this.windows.add(definition, this.columns.length, at) }, kind: 'number' }
    if (!Object.hasOwn(this.features.columns, definition.column))
      throw wrong(`${at}.column`, `no column is called "${definition.column}": choose among ${listed(Object.keys(this.features.columns))}`)
    const column = this.column(definition.column, path)
    if (this.columns[column]!.oneHot !== undefined)
      throw wrong(
        `${at}.column`,
        `"${definition.column}" ends in oneHot, which makes several columns: nothing can be made from them as one`,
      )
    return { source: { kind: 'column', column }, kind: 'number' }
  }

  private lookup(definition: ColumnDefinition, at: string): { source: ColumnSource; kind: Kind } {
    const type: LookupType = this.lookups.add(definition, this.columns.length, at)
    // Vectors: until the steps know them.
    if (typeof type !== 'string') throw wrong(`${at}.of`, `"${definition.of}" is a ${typeName(type)}, not a number`)
    return { source: { kind: 'lookup' }, kind: kindOf(type) }
  }

  private field(field: string, at: string): { source: ColumnSource; kind: Kind } {
    const { name, input } = this.of
    const type = input.fields.get(field)
    if (type === undefined) throw wrong(at, `input "${name}" has no field "${field}": choose among ${listed(input.fields.keys())}`)
    return { source: { kind: 'field', field }, kind: kindOf(type) }
  }

  /** A column, or a field that is a number as it is. */
  inVector(name: string, at: string): number {
    const known = this.indices.get(name)
    if (known !== undefined) return known
    const type = this.of.input.fields.get(name)
    if (type === undefined) {
      const names = listed(new Set([...Object.keys(this.features.columns), ...this.of.input.fields.keys()]))
      throw wrong(at, `"${name}" is neither a column nor a field of input "${this.of.name}": choose among ${names}`)
    }
    const hint = type === 'timestamp' ? '[hour] or [weekday]' : '[{ oneHot: [...] }]'
    if (kindOf(type) !== 'number')
      throw wrong(at, `field "${name}" is a ${type}, not a number: make a column of it, with steps such as ${hint}`)
    const index = this.columns.push({ name, source: { kind: 'field', field: name }, steps: [], oneHot: undefined }) - 1
    this.indices.set(name, index)
    return index
  }
}

interface CompiledSteps {
  readonly steps: readonly Step[]
  readonly oneHot: readonly (string | number)[] | undefined
}

function compileSteps(definitions: readonly StepDefinition[], from: Kind, at: string): CompiledSteps {
  const steps: Step[] = []
  let kind = from
  for (const [index, definition] of definitions.entries()) {
    const name = stepName(definition)
    if (name === 'oneHot') {
      if (index !== definitions.length - 1) throw wrong(`${at}[${index}]`, 'oneHot makes several columns: it can only be the last step')
      if (kind === 'timestamp') throw wrong(`${at}[${index}]`, 'a timestamp is not matched: take its hour or weekday first')
      return { steps, oneHot: categories(definition.oneHot!, kind, `${at}[${index}].oneHot`) }
    }
    const needed = name === 'hour' || name === 'weekday' ? 'timestamp' : 'number'
    if (kind !== needed) throw wrong(`${at}[${index}]`, `${name} is made from a ${needed}, and this is a ${kind}${hints[kind]}`)
    steps.push(compileStep(definition))
    kind = 'number'
  }
  if (kind !== 'number') throw wrong(at.replace(/\.steps$/, ''), `the column ends as a ${kind}, not a number${hints[kind]}`)
  return { steps, oneHot: undefined }
}

const hints: Readonly<Record<Kind, string>> = {
  number: '',
  timestamp: ': take its hour or weekday first',
  string: ': only oneHot is made from a string',
}

function categories(values: readonly (string | number)[], kind: Kind, at: string): readonly (string | number)[] {
  if (kind === 'string') return values.map(String)
  values.forEach((value, index) => {
    if (typeof value !== 'number') throw wrong(`${at}[${index}]`, `"${value}" is text, and what it is matched with is a number`)
  })
  return values
}
