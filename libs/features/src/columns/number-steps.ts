import { z } from 'zod'
import { wrong } from '../refusal.ts'
import { deviationOf, extremesOf, meanOf, quantilesOf } from '../statistics/moments.ts'
import { anyFlag, anyNumber, type ColumnData, type ColumnKind, numbersIn } from './column-data.ts'
import { type ColumnRun, type CompiledStep, kernel, needs, type Scaling, type StepCompilers, type StepContext } from './step.ts'

const finite = z.number()

function clipped(low: number, high: number): (from: Float64Array, to: Float64Array) => void {
  return (from, to) => {
    for (let i = 0; i < from.length; i++) {
      const value = from[i]!
      to[i] = value < low ? low : value > high ? high : value
    }
  }
}

function scaled(scaling: Scaling, from: ColumnKind, of: { readonly context: StepContext; readonly name: string }): CompiledStep {
  const { offset, scale } = scaling
  const apply = (values: Float64Array, to: Float64Array): void => {
    for (let i = 0; i < values.length; i++) to[i] = (values[i]! - offset) / scale
  }
  return kernel(apply, from, { ...of, scaling })
}

function logarithm(from: Float64Array, to: Float64Array): void {
  for (let i = 0; i < from.length; i++) to[i] = Math.log1p(from[i]!)
}

/** How many edges lie at or below the value: 0 .. edges.length; -1 where it is absent. */
function bucketOf(edges: Float64Array, value: number): number {
  if (Number.isNaN(value)) return -1
  let low = 0
  let high = edges.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (edges[middle]! <= value) low = middle + 1
    else high = middle
  }
  return low
}

function bucketised(edges: readonly number[], from: ColumnKind, context: StepContext): CompiledStep {
  needs(from, ['number', 'index'], context, 'bucketise')
  const sorted = Float64Array.from(edges)
  const size = edges.length + 1
  const apply = (data: ColumnData, run: ColumnRun): ColumnData => {
    const values = numbersIn(data)
    const indices = run.scratch.indices()
    for (let row = 0; row < values.length; row++) indices[row] = bucketOf(sorted, values[row]!)
    return { kind: 'index', values: indices, size, first: 0 }
  }
  return { step: { kind: 'map', apply }, gives: { kind: 'index', size, first: 0 } }
}

/** 1 where low <= x <= high, else 0: an index of two categories. Strict bounds are the next number up or down, which is exact. */
function holds(low: number, high: number, from: ColumnKind, context: StepContext): CompiledStep {
  needs(from, ['number', 'index'], context, 'a comparison')
  const apply = (data: ColumnData, run: ColumnRun): ColumnData => {
    const values = numbersIn(data)
    const flags = run.scratch.indices()
    for (let row = 0; row < values.length; row++) {
      const value = values[row]!
      flags[row] = value >= low && value <= high ? 1 : Number.isNaN(value) ? -1 : 0
    }
    return { kind: 'index', values: flags, size: 2, first: 0 }
  }
  return { step: { kind: 'map', apply }, gives: anyFlag }
}

/** The smallest number above `value`. */
function nextUp(value: number): number {
  if (value === 0) return Number.MIN_VALUE
  const number = new Float64Array([value])
  const bits = new BigInt64Array(number.buffer)
  bits[0] = bits[0]! + (value > 0 ? 1n : -1n)
  return number[0]!
}

function presentNumbers(data: ColumnData, context: StepContext): Float64Array {
  const present = numbersIn(data).filter((value) => !Number.isNaN(value))
  if (present.length === 0)
    throw wrong(context.at, `none of the ${numbersIn(data).length} rows to fit it on has a value of column "${context.columnName}"`)
  return present
}

export const numberSteps: StepCompilers<
  'clip' | 'range' | 'log' | 'standardise' | 'normalise' | 'bucketise' | 'above' | 'below' | 'atLeast' | 'atMost'
> = {
  clip(setting, from, context) {
    if (!('quantiles' in setting)) return kernel(clipped(setting[0]!, setting[1]!), from, { context, name: 'clip' })
    needs(from, ['number', 'index', 'vector'], context, 'clip')
    const { low, high } = context.fitted({
      schema: z.strictObject({ low: finite, high: finite }).refine((bounds) => bounds.low <= bounds.high),
      unfitted: { low: 0, high: 0 },
      fit: (data) => {
        const [lower, upper] = quantilesOf(presentNumbers(data, context), setting.quantiles)
        return { low: lower!, high: upper! }
      },
    })
    return kernel(clipped(low, high), from, { context, name: 'clip' })
  },
  range({ min = -Infinity, max = Infinity, else: otherwise }, from, context) {
    if (otherwise === 'clip') return kernel(clipped(min, max), from, { context, name: 'range' })
    if (otherwise === 'absent')
      return kernel(
        (values, to) => {
          for (let i = 0; i < values.length; i++) to[i] = values[i]! >= min && values[i]! <= max ? values[i]! : NaN
        },
        from,
        { context, name: 'range', whole: from.kind === 'number' && from.whole },
      )
    needs(from, ['number', 'index', 'vector'], context, 'range')
    const gives = from.kind === 'index' ? anyNumber : from
    const apply = (data: ColumnData, run: ColumnRun): ColumnData => {
      const values = numbersIn(data)
      const width = data.kind === 'vector' ? data.width : 1
      for (let i = 0; i < values.length; i++)
        if (values[i]! < min || values[i]! > max)
          run.fail(Math.floor(i / width), context.columnName, `${values[i]} is outside its range, ${min} to ${max}`)
      return data.kind === 'index' ? { kind: 'number', values } : data
    }
    return { step: { kind: 'map', apply }, gives }
  },
  log: (_setting, from, context) => kernel(logarithm, from, { context, name: 'log' }),
  standardise(setting, from, context) {
    needs(from, ['number', 'index', 'vector'], context, 'standardise')
    const { mean, deviation } =
      setting !== 'fitted'
        ? setting
        : context.fitted({
            schema: z.strictObject({ mean: finite, deviation: finite.positive('a deviation is above 0: every value was the same') }),
            unfitted: { mean: 0, deviation: 1 },
            fit: (data) => {
              const present = presentNumbers(data, context)
              const fitted = { mean: meanOf(present), deviation: deviationOf(present) }
              if (fitted.deviation === 0)
                throw wrong(context.at, `every value of column "${context.columnName}" is ${fitted.mean}: it has no deviation to divide by`)
              return fitted
            },
          })
    return scaled({ offset: mean, scale: deviation }, from, { context, name: 'standardise' })
  },
  normalise(setting, from, context) {
    needs(from, ['number', 'index', 'vector'], context, 'normalise')
    const { min, max } =
      setting !== 'fitted'
        ? setting
        : context.fitted({
            schema: z.strictObject({ min: finite, max: finite }).refine((bounds) => bounds.min < bounds.max, 'min must be below max'),
            unfitted: { min: 0, max: 1 },
            fit: (data) => {
              const fitted = extremesOf(presentNumbers(data, context))
              if (fitted.min === fitted.max)
                throw wrong(context.at, `every value of column "${context.columnName}" is ${fitted.min}: it has no range to divide by`)
              return fitted
            },
          })
    return scaled({ offset: min, scale: max - min }, from, { context, name: 'normalise' })
  },
  bucketise(setting, from, context) {
    if (!('quantiles' in setting)) return bucketised(setting, from, context)
    needs(from, ['number', 'index'], context, 'bucketise')
    const { edges } = context.fitted({
      schema: z.strictObject({ edges: z.array(finite).min(1) }),
      unfitted: { edges: [0] },
      fit: (data) => {
        const shares = Array.from({ length: setting.quantiles - 1 }, (_, index) => (index + 1) / setting.quantiles)
        // Where many values are the same, so are quantiles: they are one edge.
        return { edges: [...new Set(quantilesOf(presentNumbers(data, context), shares))] }
      },
    })
    return bucketised(edges, from, context)
  },
  above: (threshold, from, context) => holds(nextUp(threshold), Infinity, from, context),
  below: (threshold, from, context) => holds(-Infinity, -nextUp(-threshold), from, context),
  atLeast: (threshold, from, context) => holds(threshold, Infinity, from, context),
  atMost: (threshold, from, context) => holds(-Infinity, threshold, from, context),
}
