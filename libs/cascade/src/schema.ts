import { z } from 'zod'

const unit = z.number().min(0).max(1)

const acceptSchema = z
  .strictObject({ below: unit.optional(), above: unit.optional() })
  .refine(
    (accept) => accept.below !== undefined || accept.above !== undefined,
    'give "below", "above" or both: the scores that the tier may answer itself',
  )
  .refine((accept) => (accept.below ?? 0) <= (accept.above ?? 1), '"below" must not be larger than "above"')

const tierSchema = z.strictObject({
  /** Its name in the model repository or on the server at `address`. */
  model: z.string().min(1),
  version: z.string().optional(),
  /** host:port of an Open Inference Protocol gRPC server that serves this model; the pipeline's own model service where absent. */
  address: z.string().optional(),
  /** The model's input tensor; its only one where absent. */
  input: z.string().optional(),
  /** The model's output tensor that holds the score; its only one where absent. */
  score: z.string().optional(),
  /** Which element of a row's output is the score; the only one where absent. */
  class: z.int().min(0).optional(),
  accept: acceptSchema.optional(),
  /** What streams do while the model cannot be called; calls never wait. */
  whenUnavailable: z
    .enum(['wait', 'degrade'], 'choose "wait" (for the model to come back) or "degrade" (the tier before answers at once)')
    .default('wait'),
})

/** The `cascade:` part of a pipeline file. */
export const cascadeSchema: z.ZodType<CascadeDefinition> = z
  .strictObject({ tiers: z.array(tierSchema).min(1).max(8) })
  .superRefine((cascade, context) => {
    if (cascade.tiers[0]?.whenUnavailable === 'degrade')
      context.addIssue({
        code: 'custom',
        path: ['tiers', 0, 'whenUnavailable'],
        message: 'the first tier has no tier before it that could answer: it can only "wait"',
      })
    cascade.tiers.forEach((tier, index) => {
      const last = index === cascade.tiers.length - 1
      if (last && tier.accept !== undefined)
        context.addIssue({
          code: 'custom',
          path: ['tiers', index, 'accept'],
          message: 'the last tier answers every row that reaches it: leave "accept" out',
        })
      if (!last && tier.accept === undefined)
        context.addIssue({
          code: 'custom',
          path: ['tiers', index],
          message: 'every tier but the last needs "accept: { below: …, above: … }", or no row would ever reach the next tier',
        })
    })
  })

export interface AcceptancePolicy {
  /** Scores under this are accepted. */
  readonly below?: number | undefined
  /** Scores over this are accepted. */
  readonly above?: number | undefined
}

export interface TierDefinition {
  readonly model: string
  readonly version?: string | undefined
  readonly address?: string | undefined
  readonly input?: string | undefined
  readonly score?: string | undefined
  readonly class?: number | undefined
  readonly accept?: AcceptancePolicy | undefined
  readonly whenUnavailable: 'wait' | 'degrade'
}

export interface CascadeDefinition {
  readonly tiers: readonly TierDefinition[]
}
