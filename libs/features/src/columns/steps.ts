import type { StepDefinition } from './definition.ts'

/** A column to a column: a new array of the same length. NaN is a value that is absent, and stays so unless a step says otherwise. */
export type Step = (values: Float64Array) => Float64Array

const hourMs = 3_600_000
const dayMs = 86_400_000
/** 1 January 1970 was a Thursday: 3 where Monday is 0. */
const epochWeekday = 3

function modulo(value: number, divisor: number): number {
  const rest = value % divisor
  return rest < 0 ? rest + divisor : rest
}

function each(transform: (value: number) => number): Step {
  return (values) => {
    const transformed = new Float64Array(values.length)
    for (let i = 0; i < values.length; i++) transformed[i] = transform(values[i]!)
    return transformed
  }
}

function flag(holds: (value: number) => boolean): Step {
  return each((value) => (Number.isNaN(value) ? value : holds(value) ? 1 : 0))
}

/** How many edges lie at or below the value: 0 .. edges.length. */
function bucket(edges: readonly number[]): Step {
  return each((value) => {
    if (Number.isNaN(value)) return value
    let low = 0
    let high = edges.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (edges[middle]! <= value) low = middle + 1
      else high = middle
    }
    return low
  })
}

type Compilers = { readonly [K in keyof StepDefinition]-?: (setting: NonNullable<StepDefinition[K]>) => Step }

/** Every step but `oneHot`, which makes several columns of one: see `oneHotInto`. */
const compilers: Omit<Compilers, 'oneHot'> = {
  hour: () => each((timeMs) => Math.floor(modulo(timeMs, dayMs) / hourMs)),
  weekday: () => each((timeMs) => modulo(Math.floor(timeMs / dayMs) + epochWeekday, 7)),
  impute: (constant) => each((value) => (Number.isNaN(value) ? constant : value)),
  clip: ([low, high]) => each((value) => Math.min(Math.max(value, low!), high!)),
  log: () => each(Math.log1p),
  standardise: ({ mean, deviation }) => each((value) => (value - mean) / deviation),
  bucketise: bucket,
  above: (threshold) => flag((value) => value > threshold),
  below: (threshold) => flag((value) => value < threshold),
  atLeast: (threshold) => flag((value) => value >= threshold),
  atMost: (threshold) => flag((value) => value <= threshold),
}

/** The one step that `definition` holds. */
export function stepName(definition: StepDefinition): keyof StepDefinition {
  return Object.keys(definition)[0] as keyof StepDefinition
}

/** Any step but `oneHot`. */
export function compileStep(definition: StepDefinition): Step {
  const name = stepName(definition) as keyof typeof compilers
  return (compilers[name] as (setting: unknown) => Step)(definition[name])
}

/** Sets a 1 in row `i` of `vector` (rows of `width`) at `at` + the index of the row's value in `categories`; nothing where it is none of them. */
export function oneHotInto(
  vector: Float32Array,
  { at, width }: { readonly at: number; readonly width: number },
  values: ArrayLike<string | number>,
  categories: readonly (string | number)[],
): void {
  const indices = new Map(categories.map((category, index) => [category, index]))
  for (let row = 0; row < values.length; row++) {
    const index = indices.get(values[row]!)
    if (index !== undefined) vector[row * width + at + index] = 1
  }
}
