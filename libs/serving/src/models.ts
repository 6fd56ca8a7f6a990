import type { MeshError } from '@spillway/core'
import type { ModelSignature, Tensors } from './backend.ts'
import type { ModelConfig } from './config/model-config.ts'

/** As TensorFlow Serving's ModelVersionStatus.State. */
export type VersionState = 'START' | 'LOADING' | 'AVAILABLE' | 'UNLOADING' | 'END'

export interface VersionStatus {
  readonly model: string
  /** Decimal, without leading zeros. */
  readonly version: string
  readonly state: VersionState
  /** Why it is not, or no longer, served; absent where it ended as it was told to. */
  readonly error?: MeshError
  /** `stable`, `canary`, …: those that stand for this version now. */
  readonly labels: readonly string[]
}

/** Which version a caller wants: one, or the one that a label stands for; otherwise the traffic's, by the key where it is split. */
export interface VersionChoice {
  readonly version?: string
  readonly label?: string
  /** Requests of one key go to one version while weights stay. */
  readonly key?: string
}

/** Where calls go that ask for no version, and where copies of them go. */
export interface Traffic {
  /** Version (or `label:NAME`) and weight; weights are relative. Empty: the default version, which is the promoted one, else the latest. */
  readonly split: readonly { readonly to: string; readonly weight: number }[]
  /** Version (or `label:NAME`) that is given copies of so many of the calls (0 to 1) and whose answers are compared and dropped. */
  readonly shadow?: { readonly to: string; readonly fraction: number }
}

export interface InferOptions {
  /** ms since the epoch; Infinity for none. */
  readonly deadlineMs: number
  readonly signal: AbortSignal
  /** How long it may wait in the queue, ms, where the model allows that; 0 or absent: the model's own. */
  readonly queueTimeoutMs?: number
}

/** One version of one model while somebody uses it. Release it exactly once. */
export interface ModelHandle {
  readonly model: string
  readonly version: string
  readonly signature: ModelSignature
  /** Complete: what the file says is in it. */
  readonly config: ModelConfig
  /** Names of classes by output, where the config has them. */
  readonly classLabels: ReadonlyMap<string, readonly string[]>
  /**
   * Runs rows. @throws MeshError INVALID_ARGUMENT naming the input that does not fit and what was expected, RESOURCE_EXHAUSTED where the queue is full,
   * DEADLINE_EXCEEDED where the deadline passes first or would, CANCELLED when the signal fires; else what the backend says of this request.
   */
  infer(inputs: Tensors, rowCount: number, options: InferOptions): Promise<Tensors>
  release(): void
}

/** A count of calls and their time, as in Triton's StatisticDuration. */
export interface DurationStatistic {
  readonly count: bigint
  readonly ns: bigint
}

/** As Triton's ModelStatistics: from 0 at the version's load. */
export interface ModelStatistics {
  readonly model: string
  readonly version: string
  /** ms since the epoch; 0 before the first. */
  readonly lastInferenceMs: number
  /** Rows answered. */
  readonly inferenceCount: bigint
  /** Runs. */
  readonly executionCount: bigint
  /** Requests answered, and refused or failed; then, for the answered: waited, inputs put together, run, outputs taken apart. */
  readonly success: DurationStatistic
  readonly fail: DurationStatistic
  readonly queue: DurationStatistic
  readonly computeInput: DurationStatistic
  readonly computeInfer: DurationStatistic
  readonly computeOutput: DurationStatistic
  readonly batches: readonly {
    readonly batchSize: number
    readonly computeInput: DurationStatistic
    readonly computeInfer: DurationStatistic
    readonly computeOutput: DurationStatistic
  }[]
}

/** Files of a load request that stand for those of the repository (Triton's `file:<path>` parameters), and the config that goes with them. */
export interface LoadOverrides {
  /** config.pbtxt's content as JSON (`config` parameter). */
  readonly config?: string
  /** By path below the model's folder: `1/model.onnx`. */
  readonly files?: ReadonlyMap<string, Uint8Array>
}

/** The models of a process: what every protocol, the mesh and the commands call. */
export interface Models {
  /** Whether every model that should be is served, and nothing is being stopped. */
  readonly ready: boolean
  /** Every model that the repository has or a call has loaded, sorted. */
  names(): readonly string[]
  /** Versions that are or were served, or failed; newest first. @throws MeshError NOT_FOUND for an unknown model. */
  statuses(model: string): readonly VersionStatus[]
  /** Why what the repository has of it could not be looked at, or is nothing that is to be served; what is served stays. @throws MeshError NOT_FOUND for an unknown model. */
  problem(model: string): MeshError | undefined
  /** Why the model is not ready, or the first of those that should be; undefined where it is, and while the server starts or stops. @throws MeshError NOT_FOUND for an unknown model. */
  unready(model?: string): string | undefined
  isReady(model: string, choice?: VersionChoice): boolean
  /** A promise only where the model has to be loaded first. @throws MeshError NOT_FOUND; UNAVAILABLE where it is not loaded; FAILED_PRECONDITION for an unknown label. */
  acquire(model: string, choice?: VersionChoice): ModelHandle | Promise<ModelHandle>
  /** Of loaded versions. @throws MeshError NOT_FOUND */
  statistics(model?: string, version?: string): readonly ModelStatistics[]
  /** Explicit control: resolves when its versions are served. @throws MeshError why the model was refused; what ran before goes on. */
  load(model: string, overrides?: LoadOverrides): Promise<void>
  /** Resolves when it is unloaded. `dependents`: and the models that only its ensemble needed. */
  unload(model: string, options?: { readonly dependents?: boolean }): Promise<void>
  /** Makes the version the default one (update and rollback alike), loading it first where it is not. Takes effect between two runs. */
  promote(model: string, version: string): Promise<void>
  /**
   * Makes the version the default one that was it before this one, however that came about. @returns the version
   * @throws MeshError FAILED_PRECONDITION where there was none, NOT_FOUND where it is gone
   */
  rollback(model: string): Promise<string>
  /** The version that calls go to where there is no split; undefined while there is none. @throws MeshError NOT_FOUND */
  defaultVersion(model: string): string | undefined
  labels(model: string): ReadonlyMap<string, string>
  /** Undefined takes the label away. @throws MeshError FAILED_PRECONDITION where the version is not loaded. */
  setLabel(model: string, label: string, version: string | undefined): void
  traffic(model: string): Traffic
  /** @throws MeshError FAILED_PRECONDITION where a version is not loaded, INVALID_ARGUMENT naming the weight. */
  setTraffic(model: string, traffic: Traffic): void
}
