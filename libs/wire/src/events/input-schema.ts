import { type ColumnType, type Datatype, parseDurationMs, type Signature } from '@spillway/core'
import { z } from 'zod'

export type FieldType = 'string' | 'number' | 'integer' | 'boolean' | 'timestamp'

/** One field of an event, as the pipeline file declares it. */
export interface FieldDefinition {
  readonly type: FieldType
  /** May be absent or null. */
  readonly optional: boolean
  /** Bounds of a number or integer, inclusive. */
  readonly min?: number | undefined
  readonly max?: number | undefined
  /** Most characters (code points) of a string. */
  readonly maxLength?: number | undefined
}

/** One input of the pipeline file, compiled: what its events look like. */
export interface InputDefinition {
  /** The input's name where absent. */
  readonly topic?: string | undefined
  /** Fields that hold an event's id, partition key and time; see `compileEventReader` for what stands in where absent. */
  readonly id?: string | undefined
  readonly key?: string | undefined
  readonly time?: string | undefined
  /** An event older than its key's newest by more is refused. */
  readonly latenessMs: number
  /** Whether its events are answered with predictions; else they feed histories only. */
  readonly predict: boolean
  readonly fields: Readonly<Record<string, FieldDefinition>>
}

const fieldTypes = ['string', 'number', 'integer', 'boolean', 'timestamp'] as const
const fieldTypesText = 'choose string, number, integer, boolean or timestamp'

const fieldSchema = z.preprocess(
  (field) => (typeof field === 'string' ? { type: field } : field),
  z
    .strictObject(
      {
        type: z.enum(fieldTypes, fieldTypesText),
        optional: z.boolean().default(false),
        min: z.number().optional(),
        max: z.number().optional(),
        maxLength: z.int().min(1).optional(),
      },
      {
        error: (issue) =>
          issue.code === 'invalid_type' ? `give a type (${fieldTypesText}) or settings, as in { type: number, min: 0 }` : undefined,
      },
    )
    .superRefine((field, context) => {
      const refuse = (key: string, message: string): void => context.addIssue({ code: 'custom', path: [key], message })
      if (field.type !== 'number' && field.type !== 'integer') {
        if (field.min !== undefined) refuse('min', `only a number or integer has a minimum, not a ${field.type}`)
        if (field.max !== undefined) refuse('max', `only a number or integer has a maximum, not a ${field.type}`)
      } else if (field.min !== undefined && field.max !== undefined && field.min > field.max)
        refuse('max', `the maximum ${field.max} is below the minimum ${field.min}`)
      if (field.maxLength !== undefined && field.type !== 'string')
        refuse('maxLength', `only a string has a maximum length, not a ${field.type}`)
    }),
)

/** A duration as text (`5m`), in ms. */
export const durationSchema: z.ZodType<number> = z.string().transform((text, context) => {
  try {
    return parseDurationMs(text)
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message })
    return z.NEVER
  }
})

const weekMs = 7 * 86_400_000

/** What may serve as id or key, and as time. */
const textTypes: readonly FieldType[] = ['string', 'integer']
const timeTypes: readonly FieldType[] = ['timestamp']

/** One input of the pipeline file. A field may be given by its type alone: `amount: number`. */
export const inputSchema: z.ZodType<InputDefinition> = z
  .strictObject({
    topic: z.string().min(1).optional(),
    id: z.string().optional(),
    key: z.string().optional(),
    time: z.string().optional(),
    lateness: durationSchema.default(weekMs),
    predict: z.boolean().default(true),
    fields: z
      .record(z.string().min(1), fieldSchema)
      .refine((fields) => Object.keys(fields).length > 0, 'declare the fields that events have, as in amount: number')
      .refine(
        (fields) => !Object.keys(fields).some((name) => name.startsWith('spillway.')),
        'names that begin with "spillway." are reserved',
      ),
  })
  .superRefine((input, context) => {
    const mustBe = (setting: 'id' | 'key' | 'time', types: readonly FieldType[]): void => {
      const name = input[setting]
      if (name === undefined) return
      const refuse = (message: string): void => context.addIssue({ code: 'custom', path: [setting], message })
      const field = Object.hasOwn(input.fields, name) ? input.fields[name] : undefined
      if (field === undefined) refuse(`there is no field "${name}"; the fields are ${Object.keys(input.fields).join(', ')}`)
      else if (!types.includes(field.type)) refuse(`field "${name}" is a ${field.type}; as ${setting} it must be a ${types.join(' or ')}`)
      else if (field.optional) refuse(`field "${name}" is optional; as ${setting} it must not be`)
    }
    mustBe('id', textTypes)
    mustBe('key', textTypes)
    mustBe('time', timeTypes)
  })
  .transform(({ lateness, ...input }) => ({ ...input, latenessMs: lateness }))

/** Absent numbers are NaN, and only a float has a NaN: optional integers and booleans are held as FP64 too. */
const datatypes: Readonly<Record<FieldType, { readonly required: Datatype; readonly optional: Datatype }>> = {
  string: { required: 'BYTES', optional: 'BYTES' },
  number: { required: 'FP64', optional: 'FP64' },
  integer: { required: 'INT64', optional: 'FP64' },
  boolean: { required: 'BOOL', optional: 'FP64' },
  timestamp: { required: 'FP64', optional: 'FP64' },
}

/**
 * The columns that an input's events become, each of one value a row: string is BYTES, number FP64, integer INT64, boolean BOOL, timestamp FP64
 * (ms since the epoch). Optional numbers, integers, booleans (0 and 1) and timestamps are FP64, NaN where absent; an absent string is ''.
 */
export function inputSignature(input: InputDefinition): Signature {
  const columns = new Map<string, ColumnType>()
  for (const [name, field] of Object.entries(input.fields)) {
    columns.set(name, { datatype: datatypes[field.type][field.optional ? 'optional' : 'required'], rowShape: [] })
  }
  return columns
}
