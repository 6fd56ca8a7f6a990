import type { Code } from '@spillway/core'
import type { DurationStatistic, ModelStatistics } from '../models.ts'
import { Buckets } from './buckets.ts'

/** Why a request failed, as Triton's `reason` label says it: refused before it ran, given up by its caller, failed in the run, anything else. */
export type FailureReason = 'REJECTED' | 'CANCELED' | 'BACKEND' | 'OTHER'

/** What an answered request spent, ms. A run's times count whole for each of its requests, as in Triton. */
export interface RequestTimes {
  readonly totalMs: number
  readonly queueMs: number
  readonly inputMs: number
  readonly inferMs: number
  readonly outputMs: number
}

/** Mutable: what a stage of the work has cost so far. */
class Durations {
  count = 0
  ms = 0

  add(ms: number): void {
    this.count++
    this.ms += ms
  }

  snapshot(): DurationStatistic {
    return { count: BigInt(this.count), ns: BigInt(Math.round(this.ms * 1e6)) }
  }
}

class BatchDurations {
  readonly input = new Durations()
  readonly infer = new Durations()
  readonly output = new Durations()
}

const secondsBounds = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
const rowBounds = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]

/**
 * What one version of one model has done since it was loaded. The one set of counters behind the metrics and the statistics of the protocols, which
 * therefore agree; they are read when somebody asks.
 */
export class ServableStatistics {
  readonly model: string
  readonly version: string
  /** Requests taken of which no row has begun to run, and rows that wait. */
  pendingRequests = 0
  queuedRows = 0
  /** Rows of answered requests. */
  inferenceCount = 0
  executionCount = 0
  lastInferenceMs = 0
  readonly success: Durations = new Durations()
  readonly fail: Durations = new Durations()
  readonly queue: Durations = new Durations()
  readonly computeInput: Durations = new Durations()
  readonly computeInfer: Durations = new Durations()
  readonly computeOutput: Durations = new Durations()
  readonly failuresByReason: Map<FailureReason, number> = new Map(
    (['REJECTED', 'CANCELED', 'BACKEND', 'OTHER'] as const).map((reason) => [reason, 0]),
  )
  readonly failuresByCode: Map<Code, number> = new Map()
  readonly batchRows: Buckets = new Buckets(rowBounds)
  readonly queueSeconds: Buckets = new Buckets(secondsBounds)
  readonly computeSeconds: Buckets = new Buckets(secondsBounds)
  /** By rows of a run: not more entries than a batch may have rows. */
  readonly #batches = new Map<number, BatchDurations>()

  constructor(model: string, version: string) {
    this.model = model
    this.version = version
  }

  succeeded(rowCount: number, times: RequestTimes): void {
    this.inferenceCount += rowCount
    this.lastInferenceMs = Date.now()
    this.success.add(times.totalMs)
    this.queue.add(times.queueMs)
    this.computeInput.add(times.inputMs)
    this.computeInfer.add(times.inferMs)
    this.computeOutput.add(times.outputMs)
    this.queueSeconds.observe(times.queueMs / 1000)
  }

  failed(code: Code, reason: FailureReason, totalMs: number): void {
    this.fail.add(totalMs)
    this.failuresByReason.set(reason, (this.failuresByReason.get(reason) ?? 0) + 1)
    this.failuresByCode.set(code, (this.failuresByCode.get(code) ?? 0) + 1)
  }

  /** A run of so many rows. */
  executed(rowCount: number, inputMs: number, inferMs: number, outputMs: number): void {
    this.executionCount++
    this.batchRows.observe(rowCount)
    this.computeSeconds.observe(inferMs / 1000)
    let batch = this.#batches.get(rowCount)
    if (batch === undefined) this.#batches.set(rowCount, (batch = new BatchDurations()))
    batch.input.add(inputMs)
    batch.infer.add(inferMs)
    batch.output.add(outputMs)
  }

  snapshot(): ModelStatistics {
    return {
      model: this.model,
      version: this.version,
      lastInferenceMs: this.lastInferenceMs,
      inferenceCount: BigInt(this.inferenceCount),
      executionCount: BigInt(this.executionCount),
      success: this.success.snapshot(),
      fail: this.fail.snapshot(),
      queue: this.queue.snapshot(),
      computeInput: this.computeInput.snapshot(),
      computeInfer: this.computeInfer.snapshot(),
      computeOutput: this.computeOutput.snapshot(),
      batches: [...this.#batches]
        .toSorted(([a], [b]) => a - b)
        .map(([batchSize, { input, infer, output }]) => ({
          batchSize,
          computeInput: input.snapshot(),
          computeInfer: infer.snapshot(),
          computeOutput: output.snapshot(),
        })),
    }
  }
}
