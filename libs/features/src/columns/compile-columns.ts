import type { Batch } from '@spillway/core'
import type { FeaturesDefinition } from '../definition.ts'
import { expressionSource } from '../expressions/expression-source.ts'
import type { FieldType } from '../field-type.ts'
import { LookupCompiler } from '../lookups/compile.ts'
import type { LookupGroup } from '../lookups/plan.ts'
import type { ColumnSource, FeatureInput, PlannedColumn } from '../plan.ts'
import { listed, wrong } from '../refusal.ts'
import type { VectorSelection } from '../statistics/selection.ts'
import { WindowCompiler, windowNames } from '../windows/compile.ts'
import type { WindowGroup } from '../windows/plan.ts'
import { anyFlag, anyNumber, type ColumnData, type ColumnKind, kindName } from './column-data.ts'
import type { ColumnDefinition } from './definition.ts'
import type { StepDefinition } from './step-definition.ts'
import { ColumnEvaluation } from './evaluate.ts'
import { crossSource, exportedFunction, type MadeSource, type Operand, polynomialSource } from './made.ts'
import { moduleSource } from './module-source.ts'
import { applySteps, type FitRequest, hintFor, type Step, type StepContext } from './step.ts'
import { compileStep } from './steps.ts'
import { vectorNames } from './vector-names.ts'

/** A module that the section names, imported. */
export type ImportedModule = Readonly<Record<string, unknown>>

/** What columns are compiled from beside the section. */
export interface ColumnResources {
  /** By the path that the section writes. */
  readonly modules: ReadonlyMap<string, ImportedModule>
  readonly files: ReadonlyMap<string, string>
  readonly fitted: FittedValues
  /** Columns that the section does not write. */
  readonly added: { has(column: string): boolean }
}

/** Where fitted steps get from what they were fitted to. */
export interface FittedValues {
  /** @param data the column up to the step, over the rows to fit it on. @throws MeshError INVALID_ARGUMENT naming `at` */
  value<T>(of: { readonly column: string; readonly step: number; readonly at: string }, request: FitRequest<T>, data: () => ColumnData): T
}

/** Rows to compute columns of while they are compiled. */
export interface FitRows {
  readonly batch: Batch
  given(column: string): ColumnData | undefined
}

interface CompiledColumns {
  readonly columns: readonly PlannedColumn[]
  readonly windows: readonly WindowGroup[]
  readonly lookups: readonly LookupGroup[]
  readonly vector: readonly number[]
  /** Fields that columns are made from. */
  readonly fields: readonly string[]
}

interface NamedInput {
  readonly name: string
  readonly input: FeatureInput
}

/** Names of the plan's histories and lookups, in order. */
export interface Titles {
  readonly histories: readonly string[]
  readonly lookups: readonly string[]
}

function fieldKind(type: FieldType): ColumnKind {
  switch (type) {
    case 'string':
      return { kind: 'text' }
    case 'timestamp':
      return { kind: 'timestamp' }
    case 'boolean':
      return anyFlag
    case 'number':
    case 'integer':
      return { kind: 'number', whole: type === 'integer' }
    default:
      return type satisfies never
  }
}

/** What a column's element is called in the vector. */
export function elementNames({ name, kind }: PlannedColumn): readonly string[] {
  return kind.kind === 'vector' || kind.kind === 'flags' ? kind.elements.map((element) => `${name}${element}`) : [name]
}

/**
 * The columns of one predicting input, each after what it is made from.
 * @param rows where given, columns are computed of them as soon as they are compiled, and steps may be fitted to them
 */
export class ColumnCompiler {
  readonly columns: PlannedColumn[] = []
  private readonly indices = new Map<string, number>()
  private readonly windows: WindowCompiler
  private readonly lookups: LookupCompiler
  private readonly features: FeaturesDefinition
  private readonly of: NamedInput
  private readonly resources: ColumnResources
  readonly evaluation: ColumnEvaluation | undefined

  constructor(features: FeaturesDefinition, titles: Titles, of: NamedInput, resources: ColumnResources, rows?: FitRows) {
    this.features = features
    this.windows = new WindowCompiler(features, titles.histories, of)
    this.lookups = new LookupCompiler(features, titles.lookups, of)
    this.of = of
    this.resources = resources
    this.evaluation = rows === undefined ? undefined : new ColumnEvaluation(this.columns, rows.batch, (_index, name) => rows.given(name))
  }

  /** @param select which of the columns that the section names for the vector are in it */
  compile(select: VectorSelection): CompiledColumns {
    for (const name of Object.keys(this.features.columns)) this.column(name, [])
    const columns = Object.keys(this.features.columns).filter((name) => !this.resources.added.has(name))
    const fields = [...this.of.input.fields]
      .filter(([, type]) => fieldKind(type).kind === 'number' || type === 'boolean')
      .map(([name]) => name)
    const named = vectorNames(this.features.vector, columns, fields).map(({ name, at }) => this.inVector(name, at))
    const vector = select(named, this.columns)
    const lookups = this.lookups.groups()
    const used = [
      ...this.columns.flatMap(({ source }) => (source.kind === 'field' ? [source.field] : [])),
      ...lookups.flatMap(({ outputs }) => outputs.flatMap(({ field }) => field ?? [])),
    ]
    return { columns: this.columns, windows: this.windows.groups(), lookups, vector, fields: used }
  }

  /** Index of the column, compiled now where it was not yet; `path` is the way of references that led to it. */
  private column(name: string, path: readonly string[]): number {
    const known = this.indices.get(name)
    if (known !== undefined) return known
    const definition = this.features.columns[name]!
    const at = `columns.${name}`
    const inner = [...path, name]
    this.beforehand(definition.steps ?? [], `${at}.steps`, inner)
    const { source, kind } = this.source(name, definition, at, inner)
    return this.add({ name, source, ...this.steps(definition.steps ?? [], kind, { name, source, at: `${at}.steps` }) })
  }

  private add(column: PlannedColumn): number {
    const index = this.columns.push(column) - 1
    this.indices.set(column.name, index)
    return index
  }

  /** Columns that steps need come before the column that has the steps. */
  private beforehand(steps: readonly StepDefinition[], at: string, path: readonly string[]): void {
    steps.forEach(({ impute }, index) => {
      if (typeof impute === 'object' && 'column' in impute) this.operand(impute.column, `${at}[${index}].impute.column`, path)
    })
  }

  private source(
    name: string,
    definition: ColumnDefinition,
    at: string,
    path: readonly string[],
  ): { source: ColumnSource; kind: ColumnKind } {
    if (definition.lookup !== undefined) return this.lookup(definition, at)
    if (definition.field !== undefined) return this.field(definition.field, `${at}.field`)
    if (definition.column !== undefined) return this.other(definition.column, `${at}.column`, path)
    if (definition.window !== undefined) return this.window(definition, at)
    const made = this.made(name, definition, at, path)
    return { source: { kind: 'made', made }, kind: made.kind }
  }

  private made(name: string, definition: ColumnDefinition, at: string, path: readonly string[]): MadeSource {
    const all = (names: readonly string[], key: string): Operand[] =>
      names.map((operand, index) => this.operand(operand, `${at}.${key}[${index}]`, path))
    if (definition.cross !== undefined) return crossSource(all(definition.cross, 'cross'), definition.buckets, at)
    if (definition.polynomial !== undefined) return polynomialSource(all(definition.polynomial, 'polynomial'), definition.degree ?? 2, at)
    if (definition.expression !== undefined) {
      const where = `${at}.expression`
      return expressionSource(definition.expression, (operand) => this.operand(operand, where, path), name, where)
    }
    const { module: file, export: exported, from, gives = 'number', settings } = definition
    const imported = this.resources.modules.get(file!)
    if (imported === undefined) throw wrong(`${at}.module`, `${file} was not imported: compile with the modules that moduleRequests lists`)
    const made = exportedFunction(imported, exported!, file!, at)
    return moduleSource(all(from!, 'from'), { made, gives, settings, column: name })
  }

  private other(name: string, at: string, path: readonly string[]): { source: ColumnSource; kind: ColumnKind } {
    const column = this.reference(name, Object.keys(this.features.columns), at, path)
    const { kind } = this.columns[column]!
    if (kind.kind === 'flags')
      throw wrong(at, `"${name}" ends in oneHot, which makes several columns: nothing can be made from them as one`)
    return { source: { kind: 'column', column }, kind }
  }

  private reference(name: string, choices: readonly string[], at: string, path: readonly string[]): number {
    if (!Object.hasOwn(this.features.columns, name)) throw wrong(at, `no column is called "${name}": choose among ${listed(choices)}`)
    if (path.includes(name)) throw wrong(at, `columns go round in a circle: ${[...path.slice(path.indexOf(name)), name].join(' → ')}`)
    return this.column(name, path)
  }

  /** A column, or a field as it is. A column that is made of the field by its own name is made of the field. */
  private operand(name: string, at: string, path: readonly string[]): Operand {
    const { input } = this.of
    const ofField = input.fields.has(name) && (path.at(-1) === name || !Object.hasOwn(this.features.columns, name))
    if (!ofField && !Object.hasOwn(this.features.columns, name)) {
      const choices = listed(new Set([...Object.keys(this.features.columns), ...input.fields.keys()]))
      throw wrong(at, `"${name}" is neither a column nor a field of input "${this.of.name}": choose among ${choices}`)
    }
    const index = ofField ? this.rawField(name) : this.reference(name, [], at, path)
    const { kind } = this.columns[index]!
    if (kind.kind === 'flags')
      throw wrong(at, `"${name}" ends in oneHot, which makes several columns: nothing can be made from them as one`)
    return { name, index, kind }
  }

  /** The field without steps, as a column of its own. */
  private rawField(field: string): number {
    // Where a column has the field's name, the field goes by another.
    const name = Object.hasOwn(this.features.columns, field) ? `field ${field}` : field
    const known = this.indices.get(name)
    if (known !== undefined) return known
    const type = this.of.input.fields.get(field)!
    const source: ColumnSource = { kind: 'field', field, type }
    const kind = fieldKind(type)
    return this.add({ name, source, steps: [], kind })
  }

  private window(definition: ColumnDefinition, at: string): { source: ColumnSource; kind: ColumnKind } {
    const width = this.windows.add(definition, this.columns.length, at)
    const kind: ColumnKind = width === 1 ? anyNumber : { kind: 'vector', elements: windowNames('', definition) }
    return { source: { kind: 'window', width }, kind }
  }

  private lookup(definition: ColumnDefinition, at: string): { source: ColumnSource; kind: ColumnKind } {
    const type = this.lookups.add(definition, this.columns.length, at)
    const source: ColumnSource = { kind: 'lookup' }
    if (typeof type !== 'string')
      return { source, kind: { kind: 'vector', elements: Array.from({ length: type.vector }, (_, index) => `[${index}]`) } }
    return { source, kind: type === 'boolean' ? { kind: 'number', whole: true } : fieldKind(type) }
  }

  private field(field: string, at: string): { source: ColumnSource; kind: ColumnKind } {
    const { name, input } = this.of
    const type = input.fields.get(field)
    if (type === undefined) throw wrong(at, `input "${name}" has no field "${field}": choose among ${listed(input.fields.keys())}`)
    return { source: { kind: 'field', field, type }, kind: fieldKind(type) }
  }

  private steps(
    definitions: readonly StepDefinition[],
    from: ColumnKind,
    { name, source, at }: { readonly name: string; readonly source: ColumnSource; readonly at: string },
  ): { readonly steps: readonly Step[]; readonly kind: ColumnKind } {
    const steps: Step[] = []
    let kind = from
    for (const [step, definition] of definitions.entries()) {
      const here = `${at}[${step}]`
      if (kind.kind === 'flags') throw wrong(`${at}[${step - 1}]`, 'oneHot makes several columns: it can only be the last step')
      const context: StepContext = {
        at: here,
        columnName: name,
        column: (other, path) => this.operand(other, path, [name]),
        file: (path, where) => this.file(path, where),
        fitted: (request) => this.resources.fitted.value({ column: name, step, at: here }, request, () => this.upTo(steps, source, name)),
      }
      const compiled = compileStep(definition, kind, context)
      steps.push(compiled.step)
      kind = compiled.gives
    }
    return { steps, kind }
  }

  /** The rows' values of the column that is being compiled, after these steps. */
  private upTo(steps: readonly Step[], source: ColumnSource, name: string): ColumnData {
    const evaluation = this.evaluation!
    return applySteps(evaluation.source(source, this.columns.length, name), steps, evaluation)
  }

  private file(path: string, at: string): string {
    const text = this.resources.files.get(path)
    if (text === undefined) throw wrong(at, `${path} was not read: compile with the files that fileRequests lists`)
    return text
  }

  /** A column that is numbers, or a field that is as it is. */
  private inVector(name: string, at: string): number {
    const known = Object.hasOwn(this.features.columns, name) ? this.indices.get(name)! : undefined
    const index = known ?? this.vectorField(name, at)
    const { kind } = this.columns[index]!
    if (kind.kind === 'text' || kind.kind === 'timestamp') {
      const where = known === undefined ? at : `columns.${name}`
      const what = known === undefined ? `field "${name}" is` : 'the column ends as'
      throw wrong(where, `${what} a ${kindName(kind.kind)}, not a number${hintFor(kind)}`)
    }
    return index
  }

  private vectorField(name: string, at: string): number {
    if (this.of.input.fields.has(name)) return this.rawField(name)
    const names = listed(new Set([...Object.keys(this.features.columns), ...this.of.input.fields.keys()]))
    throw wrong(at, `"${name}" is neither a column nor a field of input "${this.of.name}": choose among ${names}`)
  }
}
