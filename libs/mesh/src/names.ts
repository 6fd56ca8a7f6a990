import { z } from 'zod'

export const nameSchema: z.ZodType<string> = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]*$/, 'use lower-case letters, digits and hyphens, as in fraud or click-through')

/** What Kafka allows as a topic name. */
export const topicSchema: z.ZodType<string> = z
  .string()
  .regex(/^[a-zA-Z0-9._-]{1,249}$/, 'a topic name has letters, digits, dots, underscores and hyphens, at most 249 of them')
