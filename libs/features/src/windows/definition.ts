import { parseDurationMs } from '@spillway/core'
import { z } from 'zod'

export const windowKinds = ['count', 'sum', 'mean', 'share', 'min', 'max', 'distinct', 'last', 'sinceLast'] as const
export type WindowKind = (typeof windowKinds)[number]

/** What a history keeps, and whose it is. */
export interface HistoryDefinition {
  /** The input whose events it keeps. */
  readonly input: string
  /** The field, or fields together, whose values an event's history goes by; inputs that look it up have fields of the same names. */
  readonly key: string | readonly string[]
  /** Fields that windows aggregate. Of text a hash is kept: enough to tell how many are different. */
  readonly values: readonly string[]
  /** How long events are kept, as in `60d`; what its windows need where absent. A window that needs more is refused. */
  readonly retention?: string | undefined
}

/** A column's settings where it is a window. Durations are text, as in `7d`. */
export interface WindowDefinition {
  readonly window?: WindowKind | undefined
  readonly of?: string | undefined
  readonly history?: string | undefined
  readonly length?: string | undefined
  readonly delay?: string | undefined
  /** Of `last`: how many values, newest first; one where absent. */
  readonly count?: number | undefined
  /** Value of a window that holds nothing; where absent 0, and NaN (a number that is absent) for `last` and `sinceLast`. */
  readonly empty?: number | undefined
  /** Whether a window over the input's own events holds the one it is computed for; where absent it does, but for `last` and `sinceLast`. */
  readonly current?: boolean | undefined
  /** Accepts a window without a delay over a key that is not the partition key: its numbers depend on what other partitions have delivered. */
  readonly approximate?: boolean | undefined
}

const mostLast = 256
const name = z.string().min(1)

const duration = z.string('write a duration, as in 1h or 7d').superRefine((text, context) => {
  try {
    parseDurationMs(text)
  } catch (thrown) {
    context.addIssue({ code: 'custom', message: (thrown as Error).message })
  }
})

/** The settings of a window, as part of a column's. */
export const windowShape: { readonly [K in keyof WindowDefinition]-?: z.ZodType<WindowDefinition[K]> } = {
  window: z.enum(windowKinds, `choose ${windowKinds.join(', ')}`).optional(),
  of: name.optional(),
  history: name.optional(),
  length: duration.optional(),
  delay: duration.optional(),
  count: z.int().min(1).max(mostLast).optional(),
  empty: z.number().optional(),
  current: z.boolean().optional(),
  approximate: z.boolean().optional(),
}

const windowSettings = ['of', 'history', 'length', 'delay', 'count', 'empty', 'current', 'approximate'] as const
const withoutValue: ReadonlySet<WindowKind> = new Set(['count', 'sinceLast'])

/** What a window's settings must be together. @param refuse is told the setting and what would be right */
export function checkWindow(column: WindowDefinition, refuse: (key: string, message: string) => void): void {
  if (column.window === undefined) {
    for (const key of windowSettings)
      if (column[key] !== undefined) refuse(key, `"${key}" belongs to a window: add "window: count" or another kind`)
    return
  }
  if (column.history === undefined) refuse('history', 'say which history the window looks at')
  if (column.length === undefined) refuse('length', 'say how far back the window looks, as in 7d')
  else if (parseFloat(column.length) === 0) refuse('length', 'a window is longer than nothing')
  if (column.count !== undefined && column.window !== 'last') refuse('count', 'only "window: last" gives several values')
  if (!withoutValue.has(column.window) && column.of === undefined)
    refuse('of', `a ${column.window} needs "of": which of the history's values`)
}

export const historySchema: z.ZodType<HistoryDefinition> = z
  .strictObject({
    input: name,
    key: z.union([
      name,
      z
        .array(name)
        .min(1)
        .max(8)
        .refine((fields) => new Set(fields).size === fields.length, 'each field once'),
    ]),
    values: z.array(name).max(64).default([]),
    retention: duration.optional(),
  })
  .refine((history) => new Set(history.values).size === history.values.length, { path: ['values'], message: 'each value once' })
