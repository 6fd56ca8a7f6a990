import { parseDurationMs } from '@spillway/core'
import { z } from 'zod'
import type { FieldType } from '../field-type.ts'

/** What a looked-up value is: a type that fields have, or a vector of numbers. */
export type LookupType = FieldType | { readonly vector: number }

/** Values that another job wrote, by key. Exactly one of `file`, `table` and `redis` says where. */
export interface LookupDefinition {
  /** CSV with a header, or JSON lines (`.ndjson`, `.jsonl`); either may end in `.gz`. Relative to the pipeline file. */
  readonly file?: string | undefined
  /** `<SQLite file>#<table or view>`, relative to the pipeline file. */
  readonly table?: string | undefined
  /** Key of a Redis hash, `{key}` (or `{field}`, for a key of several) standing for the event's: `profile:{key}`. */
  readonly redis?: string | undefined
  /** The Redis server, where it is not the store's. */
  readonly url?: string | undefined
  /** The event's field, or fields together; columns of the same names are the key in a file or table. */
  readonly key: string | readonly string[]
  readonly values: Readonly<Record<string, LookupType>>
  /** The column that says as of when a row is: RFC 3339 or epoch milliseconds. */
  readonly time?: string | undefined
  /** Values older than this, at the event's time, are not used. Text, as in `7d`. */
  readonly maxAge?: string | undefined
  /** A file or table may hold several rows a key, of different times: the newest at or before the event's time counts. */
  readonly versions?: boolean | undefined
  /** How often a file is looked at for a change; never where absent. */
  readonly refresh?: string | undefined
}

/** A column's settings where it is looked up; `of` and `field` are shared with other sources. */
export interface LookupColumnDefinition {
  readonly lookup?: string | undefined
  /** Which of the lookup's values. */
  readonly of?: string | undefined
  /** A field of the event that goes before the lookup where it is there. */
  readonly field?: string | undefined
  /** Where the key is unknown, the value missing or too old; absent where absent. Of a vector, a number stands for every element. */
  readonly default?: number | string | boolean | readonly number[] | undefined
  /** Shorter than the lookup's own, or instead of it. */
  readonly maxAge?: string | undefined
}

const name = z.string().min(1)

const duration = z.string('write a duration, as in 30d').superRefine((text, context) => {
  try {
    if (parseDurationMs(text) === 0) context.addIssue({ code: 'custom', message: 'it must be longer than nothing' })
  } catch (thrown) {
    context.addIssue({ code: 'custom', message: (thrown as Error).message })
  }
})

/** The settings of a looked-up column, as part of a column's. */
export const lookupShape: { readonly [K in keyof Omit<LookupColumnDefinition, 'of' | 'field'>]-?: z.ZodType<LookupColumnDefinition[K]> } = {
  lookup: name.optional(),
  default: z.union([z.number(), z.string(), z.boolean(), z.array(z.number()).min(1)], 'a value as the lookup has them').optional(),
  maxAge: duration.optional(),
}

/** What a looked-up column's settings must be together. @param refuse is told the setting and what would be right */
export function checkLookup(column: LookupColumnDefinition, refuse: (key: string, message: string) => void): void {
  if (column.lookup === undefined) {
    for (const key of ['default', 'maxAge'] as const)
      if (column[key] !== undefined) refuse(key, `"${key}" belongs to a look-up: add "lookup: <name>"`)
  } else if (column.of === undefined) refuse('of', 'a look-up needs "of": which of its values')
}

const fieldTypes = ['string', 'number', 'integer', 'boolean', 'timestamp'] as const

export const lookupSchema: z.ZodType<LookupDefinition> = z
  .strictObject({
    file: name.optional(),
    table: z
      .string()
      .regex(/^[^#]+#[^#]+$/, 'write <SQLite file>#<table>, as in ./scores.db#scores')
      .optional(),
    redis: name.optional(),
    url: z
      .string()
      .regex(/^rediss?:\/\//, 'write redis://host:port, or rediss:// for TLS')
      .optional(),
    key: z.union([
      name,
      z
        .array(name)
        .min(1)
        .max(8)
        .refine((fields) => new Set(fields).size === fields.length, 'each field once'),
    ]),
    values: z
      .record(
        name,
        z.union(
          [z.enum(fieldTypes), z.strictObject({ vector: z.int().min(1).max(4096) })],
          `choose ${fieldTypes.join(', ')}, or { vector: <width> }`,
        ),
      )
      .refine((values) => Object.keys(values).length > 0, 'name at least one value'),
    time: name.optional(),
    maxAge: duration.optional(),
    versions: z.boolean().optional(),
    refresh: duration.optional(),
  })
  .superRefine((lookup, context) => {
    const refuse = (key: string, message: string): void => context.addIssue({ code: 'custom', path: [key], message })
    if ([lookup.file, lookup.table, lookup.redis].filter((place) => place !== undefined).length !== 1)
      context.addIssue({ code: 'custom', message: 'give exactly one of "file", "table" and "redis": where the values are' })
    if (lookup.url !== undefined && lookup.redis === undefined) refuse('url', '"url" is that of a Redis server: give "redis" too')
    if (lookup.refresh !== undefined && lookup.file === undefined)
      refuse('refresh', 'only a file is read again: tables and Redis are always as they are now')
    if (lookup.maxAge !== undefined && lookup.time === undefined)
      refuse('maxAge', 'an age needs "time": which value says as of when a row is')
    if (lookup.versions === true && lookup.time === undefined)
      refuse('versions', 'versions need "time": which column says as of when a row is')
    if (lookup.versions === true && lookup.redis !== undefined) refuse('versions', 'a Redis hash has one version: use a file or a table')
  })
