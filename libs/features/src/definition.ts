import { z } from 'zod'
import { type ColumnDefinition, columnSchema } from './columns/definition.ts'
import { type LookupDefinition, lookupSchema } from './lookups/definition.ts'
import type { SelectionDefinition } from './statistics/definition.ts'
import { type HistoryDefinition, historySchema } from './windows/definition.ts'

/** The `features:` part of a pipeline file. */
export interface FeaturesDefinition {
  readonly histories: Readonly<Record<string, HistoryDefinition>>
  readonly lookups: Readonly<Record<string, LookupDefinition>>
  readonly columns: Readonly<Record<string, ColumnDefinition>>
  /**
   * Columns, or fields that are numbers already, in the order of the model's input. `customer_*` is every column and such field by that start,
   * `-customer_*` leaves out.
   */
  readonly vector: readonly string[]
  /** Which of the vector's columns are kept: fitted. */
  readonly select?: SelectionDefinition | undefined
  /** File of what fitted steps were fitted to, relative to the pipeline file. */
  readonly statistics?: string | undefined
}

const name = z.string().min(1)

/** Checks the section's form; what refers to something else is checked by `compileFeatures`. */
export const featuresSchema: z.ZodType<FeaturesDefinition> = z.strictObject({
  histories: z.record(name, historySchema).default({}),
  lookups: z.record(name, lookupSchema).default({}),
  columns: z.record(name, columnSchema).default({}),
  vector: z
    .array(name)
    .min(1, 'name at least one column or field: the model needs an input')
    .max(4096)
    .refine((names) => new Set(names).size === names.length, 'each column once'),
  select: z
    .strictObject({
      atMost: z.int().min(1),
      by: z.enum(['variance', 'correlation'], 'choose variance or correlation'),
      label: name.optional(),
    })
    .refine(({ by, label }) => (by === 'correlation') === (label !== undefined), {
      path: ['label'],
      message: 'correlation is with a label, and variance has none',
    })
    .optional(),
  statistics: name.optional(),
})
