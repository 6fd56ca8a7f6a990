import { z } from 'zod'
import { wrong } from '../refusal.ts'
import { meanOf } from '../statistics/moments.ts'
import { anyNumber, type ColumnData, type ColumnKind, kindName, numbersIn } from './column-data.ts'
import { type CompiledStep, type ColumnRun, kernel, needs, type StepCompilers, type StepContext } from './step.ts'
import { TextColumn } from './text-column.ts'

function constant(value: number, from: ColumnKind, context: StepContext): CompiledStep {
  // A category stays one.
  const index = from.kind === 'index' ? value - from.first : -1
  if (from.kind === 'index' && Number.isInteger(index) && index >= 0 && index < from.size) {
    const apply = (data: ColumnData): ColumnData => {
      const { values, size, first } = data as Extract<ColumnData, { kind: 'index' }>
      return { kind: 'index', values: values.map((given) => (given < 0 ? index : given)), size, first }
    }
    return { step: { kind: 'map', apply }, gives: from }
  }
  const whole = Number.isInteger(value) && ((from.kind === 'number' && from.whole) || from.kind === 'index')
  return kernel(
    (values, to) => {
      for (let i = 0; i < values.length; i++) to[i] = Number.isNaN(values[i]) ? value : values[i]!
    },
    from,
    { context, name: 'impute', whole },
  )
}

function text(constantText: string, context: StepContext): CompiledStep {
  if (constantText === '') throw wrong(context.at, 'empty text is absent')
  const apply = (data: ColumnData): ColumnData => {
    const { strings } = data.values as TextColumn
    return { kind: 'text', values: TextColumn.of(strings.map((value) => (value === '' ? constantText : value))) }
  }
  return { step: { kind: 'map', apply }, gives: { kind: 'text' } }
}

/** Where it is absent, the other column's value. */
function from(
  other: { readonly index: number; readonly kind: ColumnKind },
  own: ColumnKind,
  context: StepContext,
  at: string,
): CompiledStep {
  const numeric = (kind: ColumnKind): boolean => kind.kind === 'number' || kind.kind === 'index'
  if (own.kind !== other.kind.kind && !(numeric(own) && numeric(other.kind)))
    throw wrong(at, `a ${kindName(own.kind)} is imputed from another, and this is a ${kindName(other.kind.kind)}`)
  needs(own, ['number', 'index', 'timestamp', 'text'], context, 'impute')
  if (own.kind === 'text') {
    const apply = (data: ColumnData, run: ColumnRun): ColumnData => {
      const others = (run.column(other.index).values as TextColumn).strings
      const { strings } = data.values as TextColumn
      return { kind: 'text', values: TextColumn.of(strings.map((value, row) => (value === '' ? others[row]! : value))) }
    }
    return { step: { kind: 'map', apply }, gives: own }
  }
  const kind = own.kind === 'timestamp' ? 'timestamp' : 'number'
  const apply = (data: ColumnData, run: ColumnRun): ColumnData => {
    const others = numbersIn(run.column(other.index))
    return { kind, values: numbersIn(data).map((value, row) => (Number.isNaN(value) ? others[row]! : value)) }
  }
  const whole = own.kind === 'number' && own.whole && other.kind.kind === 'number' && other.kind.whole
  return { step: { kind: 'map', apply }, gives: kind === 'timestamp' ? own : whole ? { kind: 'number', whole } : anyNumber }
}

export const imputeStep: StepCompilers<'impute'> = {
  impute(setting, own, context) {
    if (typeof setting === 'object') {
      // A last known value is a column too by now: see last-known.ts.
      if ('last' in setting) throw wrong(context.at, 'a last known value is made from a field')
      const at = `${context.at}.impute.column`
      return from(context.column(setting.column, at), own, context, at)
    }
    if (own.kind === 'text') {
      if (typeof setting === 'number') throw wrong(`${context.at}.impute`, `${setting} is a number, and this is a string: write text`)
      return text(setting, context)
    }
    if (typeof setting === 'number') return constant(setting, own, context)
    if (setting !== 'mean')
      throw wrong(`${context.at}.impute`, `"${setting}" is text, and this is a ${kindName(own.kind)}: give a number or mean`)
    needs(own, ['number', 'index', 'vector'], context, 'impute')
    const { mean } = context.fitted({
      schema: z.strictObject({ mean: z.number() }),
      unfitted: { mean: 0 },
      fit: (data) => {
        const present = numbersIn(data).filter((value) => !Number.isNaN(value))
        if (present.length === 0) throw wrong(context.at, `none of the rows to fit it on has a value of column "${context.columnName}"`)
        return { mean: meanOf(present) }
      },
    })
    return constant(mean, own, context)
  },
}
