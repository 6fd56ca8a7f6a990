import type { Clock } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { ModelConfig } from '../config/model-config.ts'

export interface BatcherOptions {
  /** Most rows of one run; default 1,024, and never more than the backend takes. A larger request is run in pieces. */
  readonly maxBatchRows?: number
  /** Sizes of a run that the runtime likes: a batch is cut at the largest of them that it reaches, and waits for the smallest. */
  readonly preferredBatchSizes?: readonly number[]
  /** Most rows that wait; default 16,384. A request that does not fit is refused, unless nothing else waits. */
  readonly maxQueueRows?: number
  /** How long a batch that is not full waits for more, though the backend is free; default 0. Worth setting where a run costs the same for any count of rows. */
  readonly maxQueueDelayMs?: number
  /** How long a request may wait; default 0, for ever. */
  readonly defaultTimeoutMs?: number
  /** What becomes of a request that has waited that long: refused, the default, or run after all that have not. */
  readonly timeoutAction?: 'reject' | 'delay'
  /** Whether a request's own time, where it is shorter, counts; default false. */
  readonly allowTimeoutOverride?: boolean
  readonly clock?: Clock
  /** For spans of requests and runs; none where it is absent or not recording. */
  readonly telemetry?: Telemetry
}

/** What a model's config says of batching, over the service's defaults. */
export function batcherOptions({ maxBatchSize, batching }: ModelConfig, defaults: BatcherOptions): BatcherOptions {
  return {
    ...defaults,
    ...(maxBatchSize === undefined || maxBatchSize === 0 ? {} : { maxBatchRows: maxBatchSize }),
    ...(batching === undefined
      ? {}
      : {
          preferredBatchSizes: batching.preferredBatchSizes,
          maxQueueDelayMs: batching.maxQueueDelayMs,
          defaultTimeoutMs: batching.defaultTimeoutMs,
          timeoutAction: batching.timeoutAction,
          allowTimeoutOverride: batching.allowTimeoutOverride,
        }),
    ...(batching === undefined || batching.maxQueueRows === 0 ? {} : { maxQueueRows: batching.maxQueueRows }),
  }
}
