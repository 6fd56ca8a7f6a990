import { z } from 'zod'
import { checkLookup, type LookupColumnDefinition, lookupShape } from '../lookups/definition.ts'
import { checkWindow, type WindowDefinition, windowShape } from '../windows/definition.ts'

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

/** One column: a field, another column, a window or a look-up (exactly one of them), and what is made of it. Durations are text, as in `7d`. */
export interface ColumnDefinition extends WindowDefinition, LookupColumnDefinition {
  /** Its source; beside `lookup` what goes before it. */
  readonly field?: string | undefined
  readonly column?: string | undefined
  readonly steps?: readonly StepDefinition[] | undefined
}

const finite = z.number()
const name = z.string().min(1)
const stepNames = 'hour, weekday, log, impute, clip, standardise, bucketise, above, below, atLeast, atMost, oneHot'

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

export const columnSchema: z.ZodType<ColumnDefinition> = z
  .strictObject({
    field: name.optional(),
    column: name.optional(),
    ...windowShape,
    ...lookupShape,
    steps: z.array(stepSchema).min(1).max(32).optional(),
  })
  .superRefine((column, context) => {
    const refuse = (key: string, message: string): void => context.addIssue({ code: 'custom', path: [key], message })
    const field = column.lookup === undefined ? column.field : undefined
    const sources = [field, column.column, column.window, column.lookup].filter((source) => source !== undefined)
    if (sources.length !== 1)
      context.addIssue({
        code: 'custom',
        message: 'give exactly one of "field", "column", "window" and "lookup": what the column is made from',
      })
    // `of` is a look-up's too.
    checkWindow(column.lookup === undefined ? column : { ...column, of: undefined }, refuse)
    checkLookup(column, refuse)
  })
