import type { Datatype } from '@spillway/core'

/** What runs a version's file. */
export type BackendKind = 'onnxruntime' | 'remote' | 'module' | 'ensemble'

/** Which of a model's versions are served, as TensorFlow Serving and Triton say it. Versions are whole numbers in decimal, without leading zeros. */
export type VersionPolicy =
  | { readonly kind: 'latest'; readonly count: number }
  | { readonly kind: 'all' }
  | { readonly kind: 'specific'; readonly versions: readonly string[] }

export interface TensorConfig {
  readonly name: string
  readonly datatype: Datatype
  /** Without the row where the model is batched; -1 is any size. */
  readonly dims: readonly number[]
  /** Names of classes, by index, for the classification extension: a file beside the config, one name a line. */
  readonly labelFile?: string
}

/** How requests of many callers share runs (Triton's `dynamic_batching` and `default_queue_policy`). */
export interface BatchingConfig {
  /** Sizes that the runtime likes: a batch is cut at the largest of them that it reaches. Empty: only `maxBatchSize` counts. */
  readonly preferredBatchSizes: readonly number[]
  /** How long a batch that has reached no preferred size waits for more, though the backend is free, ms. */
  readonly maxQueueDelayMs: number
  /** Most rows that wait; 0: the service's default. */
  readonly maxQueueRows: number
  /** How long a request may wait in the queue, ms; 0: for ever. */
  readonly defaultTimeoutMs: number
  /** What becomes of a request whose time in the queue is over: refused, or put behind those that are in time. */
  readonly timeoutAction: 'reject' | 'delay'
  /** Whether a request's own `timeout` parameter counts where it is shorter. */
  readonly allowTimeoutOverride: boolean
}

export interface EnsembleStep {
  readonly model: string
  /** The default version where absent. */
  readonly version?: string
  /** The ensemble's tensor that an input of the step's model is given, by the input. */
  readonly inputs: ReadonlyMap<string, string>
  /** The ensemble's tensor that an output of the step's model is, by the output. */
  readonly outputs: ReadonlyMap<string, string>
}

/** A request that a version must have answered before it takes traffic (Triton's `model_warmup`). */
export interface WarmupRequest {
  readonly name: string
  readonly rowCount: number
  /** How often; at least 1. */
  readonly count: number
  readonly inputs: ReadonlyMap<string, WarmupInput>
}

export interface WarmupInput {
  readonly datatype: Datatype
  readonly dims: readonly number[]
  /** Made up, or the file in the model's `warmup` folder that holds it raw. */
  readonly data: 'zero' | 'random' | { readonly file: string }
}

/** A model's settings: from `config.pbtxt` or the service's flags, else derived from the model's file. What is absent is for the file to say. */
export interface ModelConfig {
  readonly name: string
  readonly backend: BackendKind
  /** As the metadata reports it: `onnxruntime_onnx`, `ensemble`, … */
  readonly platform: string
  /**
   * Most rows of one run. 0: the first dimension of the tensors is not the row, and a request is run alone. Absent: batched where the file's first dimension is
   * symbolic, else 0 (1 where it is 1).
   */
  readonly maxBatchSize?: number
  readonly inputs?: readonly TensorConfig[]
  readonly outputs?: readonly TensorConfig[]
  readonly versionPolicy: VersionPolicy
  /** Instances of the model, each with a thread of its own; absent: as the manager says. */
  readonly instanceCount?: number
  /** Threads within one run; default 1. */
  readonly threadsPerRun?: number
  /** ONNX Runtime's execution providers, the first choice first: `cpu`, `webgpu`, `cuda`, … Default `cpu`. */
  readonly executionProviders?: readonly string[]
  readonly batching?: BatchingConfig
  readonly ensemble?: readonly EnsembleStep[]
  readonly warmup: readonly WarmupRequest[]
  /** The version's file, where it is not the backend's default name (`model.onnx`, `model.ts`). */
  readonly file?: string
  /** The backend's own settings, as `parameters` of config.pbtxt: for `remote`, `address` and `model`. */
  readonly parameters: ReadonlyMap<string, string>
}
