import type { Batch } from './batch.ts'
import type { MeshError } from './error.ts'
import type { Signature } from './tensor.ts'

/** A stream writes history and may wait; a request only reads it. */
export type Mode = 'stream' | 'request'

export interface StageContext {
  /** Fires when the caller no longer wants the answer. */
  readonly signal: AbortSignal
  readonly mode: Mode
}

/** A row that could not be processed; `row` counts in the batch that the stage was given. */
export interface RowFailure {
  readonly row: number
  readonly error: MeshError
}

/**
 * What a stage makes of a batch. Each input row ends in at least one output, in the stage's history, or in one failure.
 * Rows keep their metadata, so a row is known by it and not by its place.
 */
export interface StageResult {
  readonly outputs: ReadonlyMap<string, Batch>
  readonly failures: readonly RowFailure[]
}

/** A function from a batch to batches on named ports. It knows no broker, no socket, no process. */
export interface Stage {
  readonly name: string
  /** Columns that it reads. */
  readonly accepts: Signature
  /** Columns that it adds, by port. */
  readonly ports: Readonly<Record<string, Signature>>
  /** @throws MeshError where the whole batch failed and may be tried again, whole or in halves. */
  process(batch: Batch, context: StageContext): Promise<StageResult>
}
