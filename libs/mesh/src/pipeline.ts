import type { CascadeDefinition } from '@spillway/cascade'
import type { CompileOptions, FeatureInput, FeaturePlan, FeaturesDefinition } from '@spillway/features'
import type { InputDefinition } from '@spillway/wire'
import type { CustomStageDefinition } from './custom-stages.ts'
import type { LatePolicy, PipelineDefinition, Placement } from './pipeline-schema.ts'

/** A pipeline as the mesh runs it: exact, readonly, nothing optional left to decide. */
export interface Pipeline {
  readonly name: string
  readonly release: string
  readonly partitions: number
  readonly inputs: ReadonlyMap<string, PipelineInput>
  readonly features: FeaturePlan
  /** What `features` was compiled from: to fit its statistics to rows. */
  readonly featureSource: FeatureSource
  readonly cascade: CascadeDefinition
  /** `features`: elements of the vector that predictions show. */
  readonly predictions: { readonly topic: string; readonly include: readonly string[]; readonly features: readonly VectorElement[] }
  readonly alerts: { readonly topic: string; readonly atLeast: number }
  /** What became of dead letters, and the letters that are given back to their segments. */
  readonly redriveTopic: string
  readonly deadLetterTopic: string
  /** `withinMs` of taking an event in, Infinity where streams have no deadline; `late`: what becomes of one that is over when its event is read. */
  readonly deadline: { readonly withinMs: number; readonly late: LatePolicy }
  readonly calls: {
    readonly maxInFlight: number
    readonly maxRowsInFlight: number
    readonly maxBytesInFlight: number
    readonly timeoutMs: number
  }
  /** How inputs are kept together in event time; `maxSkewMs` is Infinity where no window asks for it. */
  readonly alignment: { readonly maxSkewMs: number; readonly idleMs: number }
  /** Where every served vector is kept; absent where it is not. `calls`: those of synchronous calls too. */
  readonly featureLog?: { readonly topic: string; readonly calls: boolean }
  /** Stages of one's own, in the order of the file. */
  readonly stages: readonly CustomStageDefinition[]
  /** Columns of events that stages behind preprocessing read. */
  readonly keptColumns: ReadonlySet<string>
  /** Absolute path of the file's folder: what its paths are relative to. */
  readonly folder: string
  /** Absolute path of the model repository. */
  readonly modelsPath: string
  readonly placement: Placement
  readonly ordering: PipelineDefinition['ordering']
  readonly slices: { readonly maxRecords: number; readonly maxBytes: number }
  readonly maxEventBytes: number
  readonly retention: { readonly ageMs: number | undefined; readonly bytes: number | undefined }
  /** Hash of what the rows between stages mean: the inputs' fields, the features, what predictions repeat. Frames carry it. */
  readonly schemaHash: string
  topicOf(link: string): string
  groupOf(segment: string): string
}

export interface PipelineInput {
  readonly name: string
  readonly topic: string
  /** Whether its events are answered; otherwise they only feed histories. */
  readonly predict: boolean
  readonly definition: InputDefinition
}

export interface FeatureSource {
  /** Absent where the file has no such section. */
  readonly definition?: FeaturesDefinition
  readonly inputs: ReadonlyMap<string, FeatureInput>
  readonly options: CompileOptions
}

export interface VectorElement {
  readonly name: string
  /** Place in the vector. */
  readonly index: number
}
