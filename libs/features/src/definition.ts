import { parseDurationMs } from '@spillway/core'
import { z } from 'zod'

/** What an entry of a history holds, and whose it is. */
export interface HistoryDefinition {
  /** The input whose events it keeps. */
  readonly input: string
  /** The field whose value an event's history goes by; inputs that look it up have a field of the same name. */
  readonly key: string
  /** Fields that windows aggregate. */
  readonly values: readonly string[]
}

export const windowKinds = ['count', 'sum', 'mean', 'share', 'min', 'max'] as const
export type WindowKind = (typeof windowKinds)[number]

/** One step of a column's chain: exactly one of its keys is there. The README has the table. */
export interface StepDefinition {
  readonly hour?: true | undefined
  readonly weekday?: true | undefined
  readonly impute?: number | undefined
  readonly clip?: readonly number[] | undefined
  readonly log?: true | undefined
  readonly standardise?: { readonly mean: number; readonly deviation: number } | undefined
  readonly bucketise?: readonly number[] | undefined
  readonly above?: number | undefined
  readonly below?: number | undefined
  readonly atLeast?: number | undefined
  readonly atMost?: number | undefined
  readonly oneHot?: readonly (string | number)[] | undefined
}

/** One column: a field, another column or a window (exactly one of the three), and what is made of it. Durations are text, as in `7d`. */
export interface ColumnDefinition {
  readonly field?: string | undefined
  readonly column?: string | undefined
  readonly window?: WindowKind | undefined
  readonly of?: string | undefined
  readonly history?: string | undefined
  readonly length?: string | undefined
  readonly delay?: string | undefined
  /** Value of a window that holds nothing; 0 where absent. */
  readonly empty?: number | undefined
  /** Accepts a window without a delay over a key that is not the partition key: its numbers depend on what other partitions have delivered. */
  readonly approximate?: boolean | undefined
  readonly steps?: readonly StepDefinition[] | undefined
}

/** The `features:` part of a pipeline file. */
export interface FeaturesDefinition {
  readonly histories: Readonly<Record<string, HistoryDefinition>>
  readonly columns: Readonly<Record<string, ColumnDefinition>>
  /** Columns, or fields that are numbers already, in the order of the model's input. */
  readonly vector: readonly string[]
}

const finite = z.number()
const name = z.string().min(1)
const stepNames = 'hour, weekday, log, impute, clip, standardise, bucketise, above, below, atLeast, atMost, oneHot'

const duration = z.string('write a duration, as in 1h or 7d').superRefine((text, context) => {
  try {
    parseDurationMs(text)
  } catch (thrown) {
    context.addIssue({ code: 'custom', message: (thrown as Error).message })
  }
})

const ascending = z
  .array(finite)
  .min(1)
  .refine((edges) => edges.every((edge, index) => index === 0 || edge > edges[index - 1]!), 'edges must ascend')

const flag = z.literal(true, 'this step takes no setting: write its name alone')

const stepSchema = z.preprocess(
  (step) => (typeof step === 'string' ? { [step]: true } : step),
  z
    .strictObject(
      {
        hour: flag.optional(),
        weekday: flag.optional(),
        log: flag.optional(),
        impute: finite.optional(),
        clip: z
          .array(finite)
          .length(2, 'clip takes [lowest, highest]')
          .refine(([low, high]) => low! <= high!, 'the lowest must not be above the highest')
          .optional(),
        standardise: z.strictObject({ mean: finite, deviation: finite.positive('a deviation is above 0') }).optional(),
        bucketise: ascending.optional(),
        above: finite.optional(),
        below: finite.optional(),
        atLeast: finite.optional(),
        atMost: finite.optional(),
        oneHot: z
          .array(z.union([z.string(), finite], 'a value to match is text or a number'))
          .min(1)
          .max(1000)
          .refine((values) => new Set(values.map(String)).size === values.length, 'each value once')
          .optional(),
      },
      {
        error: (issue) =>
          issue.code === 'unrecognized_keys' ? `no step is called ${issue.keys.join(', ')}: choose among ${stepNames}` : undefined,
      },
    )
    .refine((step) => Object.keys(step).length === 1, {
      error: 'a step does one thing: give exactly one of its settings, as in { clip: [0, 100] }',
      when: ({ issues }) => issues.length === 0,
    }),
)

const windowSettings = ['of', 'history', 'length', 'delay', 'empty', 'approximate'] as const

const columnSchema = z
  .strictObject({
    field: name.optional(),
    column: name.optional(),
    window: z.enum(windowKinds, `choose ${windowKinds.join(', ')}`).optional(),
    of: name.optional(),
    history: name.optional(),
    length: duration.optional(),
    delay: duration.optional(),
    empty: finite.optional(),
    approximate: z.boolean().optional(),
    steps: z.array(stepSchema).min(1).max(32).optional(),
  })
  .superRefine((column, context) => {
    const refuse = (key: string, message: string): void => context.addIssue({ code: 'custom', path: [key], message })
    const sources = [column.field, column.column, column.window].filter((source) => source !== undefined)
    if (sources.length !== 1)
      context.addIssue({ code: 'custom', message: 'give exactly one of "field", "column" and "window": what the column is made from' })
    if (column.window === undefined) {
      for (const key of windowSettings)
        if (column[key] !== undefined) refuse(key, `"${key}" belongs to a window: add "window: count" or another kind`)
      return
    }
    if (column.history === undefined) refuse('history', 'say which history the window looks at')
    if (column.length === undefined) refuse('length', 'say how far back the window looks, as in 7d')
    else if (parseFloat(column.length) === 0) refuse('length', 'a window is longer than nothing')
    if (column.window !== 'count' && column.of === undefined) refuse('of', `a ${column.window} needs "of": which of the history's values`)
  })

const historySchema = z
  .strictObject({ input: name, key: name, values: z.array(name).max(64).default([]) })
  .refine((history) => new Set(history.values).size === history.values.length, { path: ['values'], message: 'each value once' })

/** Checks the section's form; what refers to something else is checked by `compileFeatures`. */
export const featuresSchema: z.ZodType<FeaturesDefinition> = z.strictObject({
  histories: z.record(name, historySchema).default({}),
  columns: z.record(name, columnSchema).default({}),
  vector: z
    .array(name)
    .min(1, 'name at least one column or field: the model needs an input')
    .max(4096)
    .refine((names) => new Set(names).size === names.length, 'each column once'),
})
