import type { Datatype, Tensor } from '@spillway/core'
import type { Tensors } from '../backend.ts'

/** A tensor of a module's signature. */
export interface ModuleTensor {
  readonly datatype: Datatype
  /** Without the row, unless the config's `max_batch_size` is 0; -1 is any size. Absent: one value a row. */
  readonly dims?: readonly number[]
}

/** What a module is told once, when it is loaded. */
export interface ModuleContext {
  readonly model: string
  readonly version: string
  /** The version's folder and the model's: files beside the module are read from there. */
  readonly folder: string
  readonly modelFolder: string
  /** The config's `parameters`. */
  readonly parameters: ReadonlyMap<string, string>
}

/** What a run is told. */
export interface ModuleRun {
  /** Fires when nobody waits for the answer any more; never in a worker thread, which is ended instead where it takes too long. */
  readonly signal: AbortSignal
  /** ms since the epoch; Infinity for none. */
  readonly deadlineMs: number
  /** The texts of a BYTES tensor. */
  readonly texts: (tensor: Tensor) => string[]
  /** A BYTES tensor of texts; shape: as many rows as texts where absent. */
  readonly textTensor: (values: readonly string[], shape?: readonly number[]) => Tensor
}

/** What a `model.ts` exports. */
export interface ModelModule {
  readonly inputs: Readonly<Record<string, ModuleTensor>>
  readonly outputs: Readonly<Record<string, ModuleTensor>>
  /** Most rows of one run; absent: as many as come. */
  readonly maxBatchSize?: number
  /** Runs that may go on at once in one instance of it, where it is not run in a worker thread; default 1. */
  readonly concurrency?: number
  /** Called once, before the first run: reads files, opens connections. */
  start?(context: ModuleContext): Promise<void> | void
  /** Row i of every output belongs to row i of every input. What it throws fails the request; a batch is then run request by request. */
  run(inputs: Tensors, context: ModuleRun): Promise<Tensors> | Tensors
  /** Called once, after the last run. */
  stop?(): Promise<void> | void
}
