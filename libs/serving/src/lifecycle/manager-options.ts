import type { Clock } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { BatcherOptions } from '../batching/batcher-options.ts'
import type { ListedModel } from './directory-source.ts'
import type { SignatureExpectation } from './loader.ts'
import type { TrafficStore } from '../traffic/kept-traffic.ts'
import type { ModelSource } from './source.ts'

/**
 * What decides which models are loaded. `none`: what is there at the start. `poll`: what is there at any time. `explicit`: what load and unload requests, and
 * `loadModels`, say. As Triton's `--model-control-mode`.
 */
export type ControlMode = 'none' | 'poll' | 'explicit'

export interface ModelManagerOptions {
  /** Folder with `<model>/<version>/model.onnx`. */
  readonly repository?: string
  /** Models that lie elsewhere. */
  readonly listed?: readonly ListedModel[]
  /** Where models come from, in place of folders. */
  readonly source?: ModelSource
  /** Which models are known; all that the source has where absent. */
  readonly models?: readonly string[]
  /** Default `none`. */
  readonly mode?: ControlMode
  /** In `explicit` mode: what is loaded at the start; `*` for all. */
  readonly loadModels?: readonly string[]
  /** In `poll` mode; default 15,000, as Triton's. What the operating system says of a change makes it sooner. */
  readonly pollMs?: number
  /** How long nothing of a version may have changed before it is taken as complete; default 1,000. */
  readonly settleMs?: number
  /** Whether `start` fails where a model cannot be served; default true. Else it is not ready until the model is. */
  readonly exitOnError?: boolean
  /** Whether it is ready only while every model that should be is served; default true. Else as soon as it has started. */
  readonly strictReadiness?: boolean
  /** What callers of a model need of its signature: a version that throws here is refused. By model. */
  readonly expects?: ReadonlyMap<string, SignatureExpectation>
  /** What all models together may hold; without limit where absent. */
  readonly memoryBudgetBytes?: number
  /** What the process holds, bytes: models are taken to hold what it grows by while they are loaded. Default: its resident set. */
  readonly residentBytes?: () => number
  /** How long a model is not called before it is unloaded, to be loaded again when it is; never where absent. */
  readonly idleUnloadMs?: number
  /** How long a call waits for a model that is loaded for it; default 30,000. */
  readonly loadWaitMs?: number
  /** Where promotions, labels and traffic outlast the process; nowhere where absent. */
  readonly keptTraffic?: TrafficStore
  readonly telemetry: Telemetry
  /** Worker threads of each model that is not run inline; default: `onnxWorkers` of an ONNX model, one of a module. */
  readonly workers?: number
  /** Of each ONNX model, where `workers` is absent; default: one for every two cores. */
  readonly onnxWorkers?: number
  /** Threads within one run; default 1: rows of other callers use the other cores better. */
  readonly threadsPerRun?: number
  readonly batching?: BatcherOptions
  readonly clock?: Clock
}
