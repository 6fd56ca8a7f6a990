import { z } from 'zod'

/** Where a date part is taken: UTC, or in an IANA time zone. */
export type DatePart = true | { readonly zone: string }

/** Terms of a text, hashed or looked up: runs of `min` to `max` words, or of as many characters. */
export interface TermsDefinition {
  readonly of: 'word' | 'char'
  readonly min: number
  readonly max: number
}

/** One step of a column's chain: exactly one of its keys is there (`unknown` beside `vocabulary`). The README has the table. */
export interface StepDefinition {
  readonly trim?: true | undefined
  readonly lower?: true | undefined
  readonly upper?: true | undefined
  readonly replace?: { readonly pattern: string; readonly with: string } | undefined
  readonly range?:
    | { readonly min?: number | undefined; readonly max?: number | undefined; readonly else: 'absent' | 'clip' | 'fail' }
    | undefined
  /** Text is a constant of a column of text; `mean` of numbers is fitted. `last`: a history. */
  readonly impute?: number | string | { readonly column: string } | { readonly last: string; readonly within: string } | undefined
  readonly clip?: readonly number[] | { readonly quantiles: readonly number[] } | undefined
  readonly log?: true | undefined
  readonly standardise?: 'fitted' | { readonly mean: number; readonly deviation: number } | undefined
  readonly normalise?: 'fitted' | { readonly min: number; readonly max: number } | undefined
  readonly bucketise?: readonly number[] | { readonly quantiles: number } | undefined
  readonly above?: number | undefined
  readonly below?: number | undefined
  readonly atLeast?: number | undefined
  readonly atMost?: number | undefined
  readonly minute?: DatePart | undefined
  readonly hour?: DatePart | undefined
  readonly weekday?: DatePart | undefined
  readonly weekend?: DatePart | undefined
  readonly day?: DatePart | undefined
  readonly dayOfYear?: DatePart | undefined
  readonly month?: DatePart | undefined
  readonly quarter?: DatePart | undefined
  readonly year?: DatePart | undefined
  readonly cycle?: number | undefined
  readonly vocabulary?:
    | readonly (string | number)[]
    | { readonly file: string }
    | { readonly size: number; readonly atLeast: number }
    | undefined
  /** Category of what is not in the vocabulary. */
  readonly unknown?: number | undefined
  readonly hash?: { readonly buckets: number; readonly seed: number } | undefined
  readonly oneHot?: true | readonly (string | number)[] | undefined
  readonly ngrams?: (TermsDefinition & { readonly buckets: number; readonly weight: 'count' | 'binary' }) | undefined
  readonly tfidf?: (TermsDefinition & { readonly size: number; readonly atLeast: number }) | undefined
}

export type StepName = Exclude<keyof StepDefinition, 'unknown'>

/** The step that `definition` holds. */
export function stepName(definition: StepDefinition): StepName {
  return Object.keys(definition).find((key) => key !== 'unknown') as StepName
}

/** Most categories of one index, and elements of one vector: what is wider is no model's input. */
const mostBuckets = 10_000_000
const mostElements = 4096

const finite = z.number()
const flag = z.literal(true, 'this step takes no setting: write its name alone')

const ascending = z
  .array(finite)
  .min(1)
  .refine((edges) => edges.every((edge, index) => index === 0 || edge > edges[index - 1]!), 'edges must ascend')

/** By the form of the value, so that what is wrong is told of the form that was meant. */
function byForm<T>(choose: (value: unknown) => z.ZodType<T>): z.ZodType<T> {
  return z.unknown().transform((value, context) => {
    const parsed = choose(value).safeParse(value)
    if (parsed.success) return parsed.data
    for (const issue of parsed.error.issues) context.issues.push({ ...issue, input: value } as z.core.$ZodRawIssue)
    return z.NEVER
  })
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function listOrObject<T>(list: z.ZodType<T>, object: z.ZodType<T>): z.ZodType<T> {
  return byForm((value) => (isObject(value) ? object : list))
}

const zone = z.string().refine((name) => {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== ''
  } catch {
    return false
  }
}, 'no such time zone: write an IANA name, as in Europe/Paris')
const datePart: z.ZodType<DatePart> = byForm<DatePart>((value) =>
  isObject(value) ? z.strictObject({ zone }) : z.literal(true, 'write the name alone, or { zone: Europe/Paris }'),
)

const pair = z
  .array(finite)
  .length(2, 'clip takes [lowest, highest]')
  .refine(([low, high]) => low! <= high!, 'the lowest must not be above the highest')
const quantilePair = z
  .array(finite.min(0).max(1))
  .length(2, 'give two quantiles, as in [0.01, 0.99]')
  .refine(([low, high]) => low! < high!, 'the lower quantile must be below the upper')

const words = z
  .array(z.union([z.string(), finite], 'a value to match is text or a number'))
  .min(1)
  .max(mostElements)
  .refine((values) => new Set(values.map(String)).size === values.length, 'each value once')

const pattern = z.string().superRefine((source, context) => {
  try {
    RegExp(source, 'gu').test('')
  } catch (thrown) {
    context.addIssue({ code: 'custom', message: (thrown as Error).message })
  }
})

const terms = {
  of: z.enum(['word', 'char'], 'choose word or char').default('word'),
  min: z.int().min(1).max(16).default(1),
  max: z.int().min(1).max(16).default(1),
}
const inOrder = ({ min, max }: TermsDefinition): boolean => min <= max
const notInOrder = { path: ['min'], message: 'min must not be above max' }

type Shape = { readonly [K in keyof StepDefinition]-?: z.ZodType<StepDefinition[K]> }

const stepShape: Shape = {
  trim: flag.optional(),
  lower: flag.optional(),
  upper: flag.optional(),
  replace: z.strictObject({ pattern, with: z.string() }).optional(),
  range: z
    .strictObject({
      min: finite.optional(),
      max: finite.optional(),
      else: z.enum(['absent', 'clip', 'fail'], 'choose absent, clip or fail').default('absent'),
    })
    .refine(({ min, max }) => min !== undefined || max !== undefined, 'give min, max or both')
    .refine(({ min = -Infinity, max = Infinity }) => min <= max, { path: ['min'], message: 'min must not be above max' })
    .optional(),
  impute: byForm<StepDefinition['impute']>((value) => {
    if (!isObject(value))
      return typeof value === 'string' ? z.string().min(1) : z.number('give a number, text, mean, { column } or { last, within }')
    return 'last' in (value as object)
      ? z.strictObject({ last: z.string(), within: z.string('say how old it may be, as in 7d') })
      : z.strictObject({ column: z.string('name a column or field') })
  }).optional(),
  clip: listOrObject<StepDefinition['clip']>(pair, z.strictObject({ quantiles: quantilePair })).optional(),
  log: flag.optional(),
  standardise: byForm<StepDefinition['standardise']>((value) =>
    isObject(value)
      ? z.strictObject({ mean: finite, deviation: finite.positive('a deviation is above 0') })
      : z.literal('fitted', 'write fitted, or { mean, deviation }'),
  ).optional(),
  normalise: byForm<StepDefinition['normalise']>((value) =>
    isObject(value)
      ? z.strictObject({ min: finite, max: finite }).refine(({ min, max }) => min < max, 'min must be below max')
      : z.literal('fitted', 'write fitted, or { min, max }'),
  ).optional(),
  bucketise: listOrObject<StepDefinition['bucketise']>(
    ascending,
    z.strictObject({ quantiles: z.int().min(2).max(mostElements) }),
  ).optional(),
  above: finite.optional(),
  below: finite.optional(),
  atLeast: finite.optional(),
  atMost: finite.optional(),
  minute: datePart.optional(),
  hour: datePart.optional(),
  weekday: datePart.optional(),
  weekend: datePart.optional(),
  day: datePart.optional(),
  dayOfYear: datePart.optional(),
  month: datePart.optional(),
  quarter: datePart.optional(),
  year: datePart.optional(),
  cycle: finite.positive('a period is above 0').optional(),
  vocabulary: byForm<StepDefinition['vocabulary']>((value) => {
    if (!isObject(value)) return words
    return 'file' in (value as object)
      ? z.strictObject({ file: z.string().min(1) })
      : z.strictObject({ size: z.int().min(1).max(1_000_000), atLeast: z.int().min(1).default(1) })
  }).optional(),
  unknown: z.int().min(0).max(mostBuckets).optional(),
  hash: z.strictObject({ buckets: z.int().min(1).max(mostBuckets), seed: z.int().min(0).max(0xffff_ffff).default(0) }).optional(),
  oneHot: byForm<StepDefinition['oneHot']>((value) => (value === true ? flag : words)).optional(),
  ngrams: z
    .strictObject({
      ...terms,
      buckets: z.int().min(1).max(mostElements),
      weight: z.enum(['count', 'binary'], 'choose count or binary').default('count'),
    })
    .refine(inOrder, notInOrder)
    .optional(),
  tfidf: z
    .strictObject({ ...terms, size: z.int().min(1).max(mostElements), atLeast: z.int().min(1).default(1) })
    .refine(inOrder, notInOrder)
    .optional(),
}

const stepNames = Object.keys(stepShape)
  .filter((name) => name !== 'unknown')
  .join(', ')

export const stepSchema: z.ZodType<StepDefinition> = z.preprocess(
  (step) => (typeof step === 'string' ? { [step]: true } : step),
  z
    .strictObject(stepShape, {
      error: (issue) =>
        issue.code === 'unrecognized_keys' ? `no step is called ${issue.keys.join(', ')}: choose among ${stepNames}` : undefined,
    })
    .refine((step) => Object.keys(step).filter((key) => key !== 'unknown').length === 1, {
      error: 'a step does one thing: give exactly one of its settings, as in { clip: [0, 100] }',
      when: ({ issues }) => issues.length === 0,
    })
    .refine((step) => step.unknown === undefined || step.vocabulary !== undefined, {
      path: ['unknown'],
      error: '"unknown" belongs to "vocabulary"',
      when: ({ issues }) => issues.length === 0,
    }),
)
