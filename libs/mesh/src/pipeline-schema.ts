import { type CascadeDefinition, cascadeSchema } from '@spillway/cascade'
import { type FeaturesDefinition, featuresSchema } from '@spillway/features'
import { durationSchema, type InputDefinition, inputSchema } from '@spillway/wire'
import { z } from 'zod'
import { type StageEntry, stageEntriesSchema } from './custom-stages.ts'
import { nameSchema, topicSchema } from './names.ts'

const linkSchema = z.enum(['local', 'grpc', 'topic'])

const placementSchema = z.strictObject({
  /** preprocessing → cascade-router */
  features: linkSchema.default('local'),
  /** One tier of the cascade → the next; `local` stays inside the segment and keeps order per key across tiers. */
  escalations: z
    .enum(
      ['local', 'topic'],
      'choose "topic" (a segment of its own: accepted rows never wait) or "local" (inside: order per key across tiers)',
    )
    .default('local'),
  /** cascade-router → postprocessing */
  scored: linkSchema.default('local'),
  /** cascade-router → model */
  models: z
    .enum(['local', 'grpc'], 'a model is only ever called: choose "local" (in this process) or "grpc" (the model service)')
    .default('local'),
})

/** What becomes of an event whose deadline is over when it is read, as after an outage. */
const lateSchema = z
  .enum(
    ['degrade', 'wait', 'refuse'],
    'choose "degrade" (answered without the higher tiers), "wait" (answered in full) or "refuse" (a dead letter)',
  )
  .default('degrade')

/** A duration alone is `within`. */
const deadlineSchema = z.preprocess(
  (given) => (typeof given === 'string' ? { within: given } : given),
  z.strictObject({ within: durationSchema.optional(), late: lateSchema }),
)

/** A whole pipeline file, with durations in ms and every default in place. Each lib brings the schema of its own part. */
export const pipelineSchema: z.ZodType<PipelineDefinition> = z.strictObject({
  pipeline: nameSchema,
  release: z.string().min(1).default('1'),
  partitions: z.int().min(1).max(1024).default(8),
  inputs: z.record(z.string(), inputSchema),
  features: featuresSchema.optional(),
  /** Keeps every served vector on a topic; off where absent. */
  featureLog: z
    .union(
      [
        z.literal(true).transform(() => ({ topic: undefined, calls: false })),
        z.strictObject({ topic: topicSchema.optional(), calls: z.boolean().default(false) }),
      ],
      'write true, or settings, as in { topic: fraud.vectors, calls: true }',
    )
    .optional(),
  stages: stageEntriesSchema.default([]),
  cascade: cascadeSchema,
  outputs: z
    .strictObject({
      predictions: z
        .strictObject({
          topic: topicSchema.default('predictions'),
          /** Event fields, and columns that stages add, which each prediction repeats. */
          include: z.array(z.string()).default([]),
          /** Elements of the vector that each prediction shows, by name. */
          features: z.union([z.boolean(), z.array(z.string()).min(1)], 'write true for all features, or their names').default(false),
        })
        .prefault({}),
      alerts: z.strictObject({ topic: topicSchema.default('alerts'), atLeast: z.number().min(0).max(1).default(0.5) }).prefault({}),
    })
    .prefault({}),
  deadLetters: z.strictObject({ topic: topicSchema }).optional(),
  deadline: deadlineSchema.prefault({}),
  ordering: z
    .enum(['per-tier', 'per-key'], 'choose "per-key" (answers in the order of the events, whichever tier gives them) or "per-tier"')
    .default('per-tier'),
  calls: z
    .strictObject({
      maxInFlight: z.int().min(1).max(100_000).default(512),
      maxRowsInFlight: z.int().min(1).max(10_000_000).default(20_000),
      maxBytesInFlight: z.int().min(65_536).default(67_108_864),
      timeout: durationSchema.default(10_000),
    })
    .prefault({}),
  alignment: z.strictObject({ maxSkew: durationSchema.optional(), idle: durationSchema.default(2000) }).prefault({}),
  /** Model repository, relative to the file. */
  models: z.string().default('./models'),
  placement: placementSchema.prefault({}),
  slices: z
    .strictObject({ maxRecords: z.int().min(1).max(100_000).default(1000), maxBytes: z.int().min(1024).max(16_777_216).default(1_000_000) })
    .prefault({}),
  /** A larger event becomes a dead letter. */
  maxEventBytes: z.int().min(64).max(524_288).default(262_144),
  /** What the topics that Spillway creates keep; for ever where absent. */
  retention: z.strictObject({ age: durationSchema.optional(), bytes: z.int().min(1).optional() }).prefault({}),
  /** Names of internal topics, by link; `<pipeline>.<link>` where absent. */
  topics: z.record(z.string(), topicSchema).default({}),
  /** Names of consumer groups, by segment; `<pipeline>.<segment>` where absent. */
  groups: z.record(z.string(), z.string().min(1)).default({}),
})

export type LatePolicy = 'degrade' | 'wait' | 'refuse'
export type LinkKind = 'local' | 'grpc' | 'topic'

export interface Placement {
  readonly features: LinkKind
  readonly escalations: 'local' | 'topic'
  readonly scored: LinkKind
  readonly models: 'local' | 'grpc'
}

/** A pipeline file as read: durations in ms, every default in place. */
export interface PipelineDefinition {
  readonly pipeline: string
  readonly release: string
  readonly partitions: number
  readonly inputs: Readonly<Record<string, InputDefinition>>
  readonly features?: FeaturesDefinition | undefined
  /** `calls`: vectors of synchronous calls too, as far as there is room. */
  readonly featureLog?: { readonly topic?: string | undefined; readonly calls: boolean } | undefined
  readonly stages: readonly StageEntry[]
  readonly cascade: CascadeDefinition
  readonly outputs: {
    readonly predictions: { readonly topic: string; readonly include: readonly string[]; readonly features: boolean | readonly string[] }
    readonly alerts: { readonly topic: string; readonly atLeast: number }
  }
  readonly deadLetters?: { readonly topic: string } | undefined
  /** `within`: answer in this long of taking the event in, degraded if need be; off where absent. */
  readonly deadline: { readonly within?: number | undefined; readonly late: LatePolicy }
  /** `per-key`: answers of a key in the order of its events, whichever tier gives them; `per-tier`: in that order tier by tier. */
  readonly ordering: 'per-tier' | 'per-key'
  /** Of synchronous calls: how many, and how many of their rows and bytes, are in flight before more are refused, and how long one without a deadline may take. */
  readonly calls: {
    readonly maxInFlight: number
    readonly maxRowsInFlight: number
    readonly maxBytesInFlight: number
    readonly timeout: number
  }
  readonly alignment: { readonly maxSkew?: number | undefined; readonly idle: number }
  readonly models: string
  readonly placement: Placement
  readonly slices: { readonly maxRecords: number; readonly maxBytes: number }
  readonly maxEventBytes: number
  readonly retention: { readonly age?: number | undefined; readonly bytes?: number | undefined }
  readonly topics: Readonly<Record<string, string>>
  readonly groups: Readonly<Record<string, string>>
}
