import type { z } from 'zod'
import { wrong } from '../refusal.ts'
import { anyNumber, type ColumnData, type ColumnKind, kindName, numbersIn, numbersOfIndex } from './column-data.ts'
import type { Scratch } from './scratch.ts'
import type { StepDefinition, StepName } from './step-definition.ts'

/** The rows that a plan's columns are computed of. */
export interface ColumnRun {
  readonly rowCount: number
  /** Arrays of a value a row, for what a step makes. */
  readonly scratch: Scratch
  column(index: number): ColumnData
  /** MurmurHash3 of each row's value in a column, made once a run. */
  hashesOf(column: number): Uint32Array
  /** Whether a row of it has no value, looked at once a run. */
  hasAbsent(column: number): boolean
  /** The row gets no vector, and fails with INVALID_ARGUMENT; the first failure of a row counts. @param field what the message is of */
  fail(row: number, field: string, message: string): void
}

interface Kernel {
  readonly kind: 'kernel'
  apply(from: Float64Array, to: Float64Array): void
  /** Where it only scales, so that it can be done while the vector is written. */
  readonly scaling?: Scaling | undefined
}

/** (x - offset) / scale */
export interface Scaling {
  readonly offset: number
  readonly scale: number
}

/** Compiled. A kernel goes from numbers to numbers, NaN staying NaN unless it says otherwise; `to` may be `from`. */
export type Step = Kernel | { readonly kind: 'map'; apply(data: ColumnData, run: ColumnRun): ColumnData }

export interface CompiledStep {
  readonly step: Step
  readonly gives: ColumnKind
}

/** What a step learns from data, once, and is then told by the statistics. */
export interface FitRequest<T> {
  readonly schema: z.ZodType<T>
  /** Stands for it before there are statistics, where only the sources are wanted. */
  readonly unfitted: T
  /** @throws MeshError INVALID_ARGUMENT where the data do not allow it */
  fit(data: ColumnData): T
}

/** What compiling a step needs of the section around it. */
export interface StepContext {
  /** Path of the step. */
  readonly at: string
  readonly columnName: string
  /** Another column, or a field. @param at the path that names it */
  column(name: string, at: string): { readonly index: number; readonly kind: ColumnKind }
  /** Text of a file that the section names. */
  file(path: string, at: string): string
  fitted<T>(request: FitRequest<T>): T
}

export type StepCompiler<Name extends StepName> = (
  setting: NonNullable<StepDefinition[Name]>,
  from: ColumnKind,
  context: StepContext,
  definition: StepDefinition,
) => CompiledStep

export type StepCompilers<Names extends StepName> = { readonly [Name in Names]: StepCompiler<Name> }

const hints: Readonly<Record<ColumnKind['kind'], string>> = {
  number: '',
  index: '',
  vector: '',
  timestamp: ': take its hour, weekday or another part first',
  text: ': make a number of it first, by vocabulary, hash, oneHot, ngrams or tfidf',
  flags: ': oneHot can only be the last step',
}

export function hintFor(kind: ColumnKind): string {
  return hints[kind.kind]
}

/** @throws MeshError where the step cannot be made from what is before it */
export function needs(from: ColumnKind, kinds: readonly ColumnKind['kind'][], context: StepContext, name: string): void {
  if (kinds.includes(from.kind)) return
  const wanted = kinds.filter((kind) => kind !== 'index' || !kinds.includes('number')).map((kind) => `a ${kindName(kind)}`)
  throw wrong(context.at, `${name} is made from ${wanted.join(' or ')}, and this is a ${kindName(from.kind)}${hintFor(from)}`)
}

/** Numbers to numbers; a vector stays one, an index becomes a number. */
export function kernel(
  apply: (from: Float64Array, to: Float64Array) => void,
  from: ColumnKind,
  {
    context,
    name,
    whole = false,
    scaling,
  }: { readonly context: StepContext; readonly name: string; readonly whole?: boolean; readonly scaling?: Scaling },
): CompiledStep {
  needs(from, ['number', 'index', 'vector'], context, name)
  const gives: ColumnKind = from.kind === 'vector' ? from : whole ? { kind: 'number', whole } : anyNumber
  return { step: { kind: 'kernel', apply, scaling }, gives }
}

export function applySteps(source: ColumnData, steps: readonly Step[], run: ColumnRun): ColumnData {
  let data = source
  let owned = false
  for (const step of steps) {
    if (step.kind === 'map') {
      data = step.apply(data, run)
      owned = false
      continue
    }
    const from = data.kind === 'index' ? numbersOfIndex(data, run.scratch.numbers()) : numbersIn(data)
    const to = owned ? from : data.kind === 'vector' ? new Float64Array(from.length) : run.scratch.numbers()
    step.apply(from, to)
    data = data.kind === 'vector' ? { kind: 'vector', values: to, width: data.width } : { kind: 'number', values: to }
    owned = true
  }
  return data
}
