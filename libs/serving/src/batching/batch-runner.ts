import { MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { Backend, PartsRun, Tensors } from '../backend.ts'
import { joinParts, type Piece, rowsOf, split } from './batch-pieces.ts'
import { inRunSpan } from './request-span.ts'
import type { RunTimes } from './run-times.ts'
import type { ServableStatistics } from './statistics.ts'

export interface BatchRunnerOptions {
  readonly backend: Backend
  readonly statistics: ServableStatistics
  /** Told how long each run took. */
  readonly times: RunTimes
  readonly telemetry: Telemetry | undefined
}

/** Carries out batches on a backend, and tells each request what became of its pieces. */
export class BatchRunner {
  readonly #backend: Backend
  readonly #statistics: ServableStatistics
  readonly #times: RunTimes
  readonly #telemetry: Telemetry | undefined
  readonly #never: AbortSignal = new AbortController().signal

  constructor({ backend, statistics, times, telemetry }: BatchRunnerOptions) {
    this.#backend = backend
    this.#statistics = statistics
    this.#times = times
    this.#telemetry = telemetry
  }

  /**
   * A batch that fails is halved until the request at fault stands alone, so that its neighbours are answered. Never rejects: each piece's request is told.
   */
  async run(batch: readonly Piece[]): Promise<void> {
    const rows = rowsOf(batch)
    try {
      const startedMs = performance.now()
      const { outputs, inputMs, outputMs } = await this.#call(batch, rows)
      const endedMs = performance.now()
      this.#times.learn(rows, endedMs - startedMs)
      const parts = split(batch, outputs)
      const splitMs = performance.now() - endedMs + outputMs
      this.#deliver(batch, parts, { inputMs, inferMs: endedMs - startedMs - inputMs - outputMs, outputMs: splitMs })
    } catch (thrown) {
      const error = MeshError.from(thrown, 'INTERNAL')
      if (batch.length === 1 || error.retryable) {
        for (const piece of batch) piece.request.settle(error)
        return
      }
      const half = batch.length >> 1
      await this.run(batch.slice(0, half))
      await this.run(batch.slice(half))
    }
  }

  #call(batch: readonly Piece[], rows: number): Promise<PartsRun> {
    const inputs = batch.map((piece) => piece.inputs)
    const spans = batch.map((piece) => piece.request.span)
    const { model, version } = this.#statistics
    return inRunSpan(this.#telemetry, model, version, rows, spans, async () => {
      const signal = this.#backend.stoppable === true ? wantedSignal(batch) : this.#never
      const deadlineMs = batch.reduce((latest, { request }) => Math.max(latest, request.deadlineMs), 0)
      if (this.#backend.runParts !== undefined) return this.#backend.runParts(inputs, signal, deadlineMs)
      const startedMs = performance.now()
      const joint = joinParts(inputs, this.#backend.signature.inputs.keys())
      const inputMs = performance.now() - startedMs
      return { outputs: await this.#backend.run(joint, signal, deadlineMs), inputMs, outputMs: 0 }
    })
  }

  #deliver(batch: readonly Piece[], parts: readonly Tensors[], spent: { inputMs: number; inferMs: number; outputMs: number }): void {
    this.#statistics.executed(rowsOf(batch), spent.inputMs, spent.inferMs, spent.outputMs)
    for (const [i, { request, index }] of batch.entries()) {
      request.inputMs += spent.inputMs
      request.inferMs += spent.inferMs
      request.outputMs += spent.outputMs
      request.pieces[index] = parts[i]!
      if (--request.missing === 0) request.settle(undefined)
    }
  }
}

/** Fires when all requests of the batch are settled without an answer. */
function wantedSignal(batch: readonly Piece[]): AbortSignal {
  const controller = new AbortController()
  let wanted = batch.length
  const gone = (): void => {
    if (--wanted === 0) controller.abort()
  }
  for (const { request } of batch) (request.whenGone ??= []).push(gone)
  return controller.signal
}
