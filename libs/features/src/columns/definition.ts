import { z } from 'zod'
import { checkLookup, type LookupColumnDefinition, lookupShape } from '../lookups/definition.ts'
import { checkWindow, type WindowDefinition, windowShape } from '../windows/definition.ts'
import type { ColumnData } from './column-data.ts'
import { type StepDefinition, stepSchema } from './step-definition.ts'

/** What a module's function gives: numbers and text one a row, categories by number, or some numbers a row. */
export type ModuleGives = 'number' | 'text' | { readonly index: number } | { readonly vector: number }

/** A module's function: whole columns by name, which it only reads, to a column of as many rows. It may give text as strings. */
export type ColumnFunction = (
  columns: Readonly<Record<string, ColumnData>>,
  settings: unknown,
  rowCount: number,
) => ColumnData | { readonly kind: 'text'; readonly values: readonly string[] }

/** What is made of other columns and fields. */
export interface CombinationDefinition {
  /** Categories together: hashed into `buckets`, or every pair (triple, …) of them where their sizes are known. */
  readonly cross?: readonly string[] | undefined
  readonly buckets?: number | undefined
  /** Products of 2 to `degree` of the columns. */
  readonly polynomial?: readonly string[] | undefined
  readonly degree?: number | undefined
  /** In the Common Expression Language, over the names of columns and fields. */
  readonly expression?: string | undefined
  /** A TypeScript or JavaScript module, relative to the pipeline file, whose function `export` makes the column `from` whole columns. */
  readonly module?: string | undefined
  readonly export?: string | undefined
  readonly from?: readonly string[] | undefined
  readonly gives?: ModuleGives | undefined
  /** Handed to the function. */
  readonly settings?: unknown
}

/** One column: one source, and what is made of it. Durations are text, as in `7d`. */
export interface ColumnDefinition extends WindowDefinition, LookupColumnDefinition, CombinationDefinition {
  /** Its source; beside `lookup` what goes before it. */
  readonly field?: string | undefined
  readonly column?: string | undefined
  readonly steps?: readonly StepDefinition[] | undefined
}

const name = z.string().min(1)
const several = z
  .array(name)
  .min(2, 'give at least two')
  .max(16)
  .refine((names) => new Set(names).size === names.length, 'each once')

const combinationShape: { readonly [K in keyof CombinationDefinition]-?: z.ZodType<CombinationDefinition[K]> } = {
  cross: several.optional(),
  buckets: z.int().min(1).max(10_000_000).optional(),
  polynomial: z.array(name).min(1).max(16).optional(),
  degree: z.int().min(2).max(5).optional(),
  expression: name.optional(),
  module: name.optional(),
  export: name.optional(),
  from: z.array(name).min(1).max(64).optional(),
  gives: z
    .union(
      [
        z.enum(['number', 'text']),
        z.strictObject({ index: z.int().min(1).max(10_000_000) }),
        z.strictObject({ vector: z.int().min(1).max(4096) }),
      ],
      'choose number, text, { index: size } or { vector: width }',
    )
    .optional(),
  settings: z.unknown().optional(),
}

/** Settings that belong to one of these sources. */
const companions: Readonly<Record<string, keyof CombinationDefinition>> = {
  buckets: 'cross',
  degree: 'polynomial',
  export: 'module',
  from: 'module',
  gives: 'module',
  settings: 'module',
}

export const sourceNames = ['field', 'column', 'window', 'lookup', 'cross', 'polynomial', 'expression', 'module'] as const

export const columnSchema: z.ZodType<ColumnDefinition> = z
  .strictObject({
    field: name.optional(),
    column: name.optional(),
    ...windowShape,
    ...lookupShape,
    ...combinationShape,
    steps: z.array(stepSchema).min(1).max(32).optional(),
  })
  .superRefine((column, context) => {
    const refuse = (key: string, message: string): void => context.addIssue({ code: 'custom', path: [key], message })
    const given = sourceNames.filter((source) => column[source] !== undefined && (source !== 'field' || column.lookup === undefined))
    if (given.length !== 1) {
      const names = `${sourceNames
        .slice(0, -1)
        .map((source) => `"${source}"`)
        .join(', ')} and "${sourceNames.at(-1)}"`
      context.addIssue({ code: 'custom', message: `give exactly one of ${names}: what the column is made from` })
    }
    for (const [setting, source] of Object.entries(companions))
      if (column[setting as keyof ColumnDefinition] !== undefined && column[source] === undefined)
        refuse(setting, `"${setting}" belongs to "${source}"`)
    if (column.module !== undefined && column.export === undefined) refuse('export', 'name the function of the module')
    if (column.module !== undefined && column.from === undefined) refuse('from', 'name the columns and fields that the function is given')
    // `of` is a look-up's too.
    checkWindow(column.lookup === undefined ? column : { ...column, of: undefined }, refuse)
    checkLookup(column, refuse)
  })
