import { MeshError } from '@spillway/core'
import { z } from 'zod'

/** What the fitted steps of one column were fitted to. */
export interface ColumnStatistics {
  /** Hash of what the column's fitted steps depend on: the column up to the last of them, and all that it is made from. */
  readonly definition: string
  /** By index of the step. */
  readonly steps: Readonly<Record<string, unknown>>
}

/** Statistics fitted to rows of events: a versioned artefact, of one definition of features. */
export interface Statistics {
  readonly format: typeof statisticsFormat
  readonly version: 1
  /** RFC 3339. */
  readonly madeAt: string
  /** Rows seen, and how many of them, drawn by chance with `seed`, were fitted to: all where there were not more. */
  readonly rows: number
  readonly sampled: number
  readonly seed: number
  /** Earliest and latest event time, RFC 3339. */
  readonly from: string
  readonly to: string
  readonly columns: Readonly<Record<string, ColumnStatistics>>
  /** Columns and fields of the vector that were kept, best first, with their scores. */
  readonly selection?:
    | { readonly definition: string; readonly kept: readonly { readonly name: string; readonly score: number }[] }
    | undefined
}

export const statisticsFormat = 'spillway-feature-statistics'

const schema: z.ZodType<Statistics> = z.strictObject({
  format: z.literal(statisticsFormat),
  version: z.literal(1),
  madeAt: z.iso.datetime(),
  rows: z.int().min(0),
  sampled: z.int().min(0),
  seed: z.int(),
  from: z.string(),
  to: z.string(),
  columns: z.record(z.string(), z.strictObject({ definition: z.string(), steps: z.record(z.string(), z.unknown()) })),
  selection: z.strictObject({ definition: z.string(), kept: z.array(z.strictObject({ name: z.string(), score: z.number() })) }).optional(),
})

/** @param text of the file @param path as messages name it @throws MeshError INVALID_ARGUMENT with field `statistics` */
export function parseStatistics(text: string, path: string): Statistics {
  const refuse = (message: string): never => {
    throw new MeshError('INVALID_ARGUMENT', `${path}: ${message}`, { field: 'statistics' })
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return refuse(`no JSON: ${(error as Error).message}`)
  }
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const { path: at, message } = parsed.error.issues[0]!
  return refuse(`${at.join('.')}: ${message}: not statistics of version 1, as spillway features fit writes them`)
}

/** As a file, with a line end. */
export function statisticsText(statistics: Statistics): string {
  return `${JSON.stringify(statistics, undefined, 2)}\n`
}
