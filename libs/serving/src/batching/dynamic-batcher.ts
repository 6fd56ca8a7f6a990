import { type Clock, type Code, MeshError, systemClock } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { Backend, Tensors } from '../backend.ts'
import type { InferOptions } from '../models.ts'
import { type Pending, type Piece, rowsOf, sliceRows } from './batch-pieces.ts'
import { BatchRunner } from './batch-runner.ts'
import type { BatcherOptions } from './batcher-options.ts'
import { checkInputs } from './check-inputs.ts'
import { cancelled, expired, pendingRequest } from './pending-request.ts'
import { PieceQueue } from './piece-queue.ts'
import { RequestSpan } from './request-span.ts'
import { RunTimes } from './run-times.ts'
import type { FailureReason, ServableStatistics } from './statistics.ts'
import { TurnCount } from './turn-count.ts'

/**
 * Puts requests of many callers into common runs: while the backend is busy, those that wait; else those of one turn of the event loop, where turns bring
 * more than one. A run takes as many as fit, and where the config says so waits for them.
 */
export class DynamicBatcher {
  readonly #backend: Backend
  readonly #statistics: ServableStatistics
  readonly #options: BatcherOptions
  readonly #clock: Clock
  readonly #telemetry: Telemetry | undefined
  readonly #runner: BatchRunner
  readonly #maxBatchRows: number
  /** Requests are put together up to so many. */
  readonly #runRows: number
  readonly #maxQueueRows: number
  readonly #maxQueueDelayMs: number
  /** Inputs whose rows may differ in shape. */
  readonly #ragged: readonly string[]
  readonly #queue: PieceQueue
  readonly #times = new RunTimes()
  readonly #turn: TurnCount
  #running = 0
  #delayed = false
  #draining = false
  #whenEmpty: (() => void) | undefined

  /** The backend is started, and outlives the batcher. */
  constructor(backend: Backend, statistics: ServableStatistics, options: BatcherOptions = {}) {
    const { signature } = backend
    this.#backend = backend
    this.#statistics = statistics
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#telemetry = options.telemetry
    this.#runner = new BatchRunner({ backend, statistics, times: this.#times, telemetry: options.telemetry })
    this.#maxBatchRows = signature.wholeShapes === undefined ? Math.min(options.maxBatchRows ?? 1024, backend.maxBatchRows) : 1
    this.#runRows = Math.min(this.#maxBatchRows, backend.enoughRows ?? Infinity)
    this.#maxQueueRows = options.maxQueueRows ?? 16_384
    this.#maxQueueDelayMs = options.maxQueueDelayMs ?? 0
    this.#ragged = [...signature.inputs].filter(([, { rowShape }]) => rowShape.includes(-1)).map(([name]) => name)
    this.#queue = new PieceQueue({
      runRows: this.#runRows,
      preferredBatchSizes: (options.preferredBatchSizes ?? []).filter((size) => size <= this.#maxBatchRows).toSorted((a, b) => a - b),
      delays: options.timeoutAction === 'delay',
    })
    this.#turn = new TurnCount(() => this.#pump())
  }

  /**
   * Runs the rows with whatever else waits; a model that is not batched runs the request alone, whatever `rowCount` says.
   * @throws MeshError INVALID_ARGUMENT naming the input that does not fit and what was expected, RESOURCE_EXHAUSTED where the queue is full,
   * DEADLINE_EXCEEDED where the deadline or the time to wait passes first, or the deadline would, CANCELLED when the signal fires; else what the backend
   * says of this request.
   */
  infer(inputs: Tensors, rowCount: number, options: InferOptions): Promise<Tensors> {
    return new Promise<Tensors>((resolve, reject) => {
      const rows = this.#backend.signature.wholeShapes === undefined ? rowCount : 1
      try {
        checkInputs(this.#statistics.model, this.#backend.signature, inputs, rowCount)
        this.#admit(rows, options)
      } catch (thrown) {
        const error = MeshError.from(thrown)
        this.#statistics.failed(error.code, reasonOf(error.code, false), 0)
        return reject(error)
      }
      this.#enqueue(inputs, rows, this.#pending(rows, options, resolve, reject))
    })
  }

  /** @throws MeshError why it cannot be taken now. */
  #admit(rows: number, { deadlineMs, signal }: InferOptions): void {
    if (this.#draining) throw new MeshError('UNAVAILABLE', 'the model is being unloaded')
    if (signal.aborted) throw cancelled(signal)
    const leftMs = deadlineMs === Infinity ? Infinity : deadlineMs - this.#clock.nowMs()
    if (leftMs <= 0) throw expired()
    const waiting = this.#queue.rows
    if (waiting > 0 && waiting + rows > this.#maxQueueRows)
      throw new MeshError(
        'RESOURCE_EXHAUSTED',
        `the model's queue is full: ${waiting} of ${this.#maxQueueRows} rows wait; send less or later`,
      )
    const waitMs = leftMs === Infinity ? 0 : this.#expectedMs(rows)
    if (waitMs > leftMs)
      throw new MeshError('DEADLINE_EXCEEDED', `${waiting} rows wait before it: the model would need about ${Math.ceil(waitMs)} ms`)
  }

  /** How long a request of so many rows would take now, by what runs took of late; 0 where none would stand before it. */
  #expectedMs(rows: number): number {
    const waiting = this.#queue.rows
    if (waiting === 0 && this.#running < this.#backend.concurrency) return 0
    const runs = Math.ceil((waiting + rows) / this.#runRows)
    return (runs / this.#backend.concurrency) * this.#times.estimateMs(Math.min(waiting + rows, this.#runRows))
  }

  #pending(rows: number, options: InferOptions, resolve: (outputs: Tensors) => void, reject: (error: MeshError) => void): Pending {
    const { deadlineMs, signal } = options
    const { model, version } = this.#statistics
    this.#statistics.pendingRequests++
    return pendingRequest({
      rows,
      pieceCount: Math.max(1, Math.ceil(rows / this.#maxBatchRows)),
      deadlineMs,
      leftMs: deadlineMs - this.#clock.nowMs(),
      waitMs: this.#waitMs(options),
      refusesThen: this.#options.timeoutAction !== 'delay',
      signal,
      span: RequestSpan.start(this.#telemetry, model, version, rows),
      onSettled: (request, error) => this.#settled(request, rows, error),
      resolve,
      reject,
    })
  }

  /** How long the request may wait in the queue; Infinity for ever. */
  #waitMs({ queueTimeoutMs = 0 }: InferOptions): number {
    const { defaultTimeoutMs = 0, allowTimeoutOverride = false } = this.#options
    const own = allowTimeoutOverride && queueTimeoutMs > 0 ? queueTimeoutMs : Infinity
    return Math.min(own, defaultTimeoutMs > 0 ? defaultTimeoutMs : Infinity)
  }

  #settled(request: Pending, rows: number, error: MeshError | undefined): void {
    const { arrivedMs, begunMs, inputMs, inferMs, outputMs, span } = request
    if (request.waitingPieces > 0) this.#forget(request)
    if (begunMs === undefined) this.#statistics.pendingRequests--
    const totalMs = performance.now() - arrivedMs
    const queueMs = begunMs === undefined ? totalMs : begunMs - arrivedMs
    if (error === undefined) this.#statistics.succeeded(rows, { totalMs, queueMs, inputMs, inferMs, outputMs })
    else this.#statistics.failed(error.code, reasonOf(error.code, begunMs !== undefined), totalMs)
    span?.end(queueMs, inferMs, error)
  }

  #enqueue(inputs: Tensors, rows: number, request: Pending): void {
    const shapeKey = this.#ragged.map((name) => inputs.get(name)!.shape.slice(1).join('x')).join(';')
    if (request.missing === 1) this.#queue.push({ request, index: 0, inputs, rowCount: rows, shapeKey })
    else
      for (let index = 0, start = 0; start < rows; index++, start += this.#maxBatchRows) {
        const end = Math.min(start + this.#maxBatchRows, rows)
        this.#queue.push({ request, index, inputs: sliceRows(inputs, start, end), rowCount: end - start, shapeKey })
      }
    if (this.#turn.arrived()) this.#pump()
    else this.#statistics.queuedRows = this.#queue.rows
  }

  /** What the settled request has in the queue no longer counts. */
  #forget(request: Pending): void {
    this.#queue.forget(request)
    this.#statistics.queuedRows = this.#queue.rows
    this.#checkEmpty()
  }

  /** Starts runs while the backend is free and something waits. */
  #pump(): void {
    while (this.#running < this.#backend.concurrency && !this.#queue.empty && !this.#waitsForMore()) {
      const batch = this.#take()
      if (batch.length > 0) this.#start(batch)
    }
    this.#statistics.queuedRows = this.#queue.rows
    this.#checkEmpty()
  }

  #waitsForMore(): boolean {
    if (this.#maxQueueDelayMs === 0 || this.#draining || this.#queue.full) return false
    const leftMs = this.#queue.oldestMs! + this.#maxQueueDelayMs - performance.now()
    if (leftMs <= 0) return false
    if (this.#delayed) return true
    this.#delayed = true
    const again = (): void => {
      this.#delayed = false
      this.#pump()
    }
    // A timer knows whole milliseconds only: what is less is waited for turn by turn.
    if (leftMs < 1) setImmediate(again)
    else setTimeout(again, Math.floor(leftMs))
    return true
  }

  /** The next batch, without requests that cannot be answered in time. One that is alone is tried, so that what runs take stays known. */
  #take(): Piece[] {
    const nowMs = this.#clock.nowMs()
    const late: Pending[] = []
    let taken = 0
    const fits = ({ deadlineMs }: Pending, rows: number): boolean => {
      const alone = taken === 0 && this.#running === 0 && this.#queue.rows === 0
      const inTime = deadlineMs > nowMs && (alone || deadlineMs >= nowMs + this.#times.estimateMs(rows))
      if (inTime) taken++
      return inTime
    }
    const monotonicMs = performance.now()
    const batch = this.#queue.take(monotonicMs, fits, late)
    const rows = rowsOf(batch)
    for (const { request } of batch) {
      request.span?.begun(rows, request.begunMs === undefined)
      if (request.begunMs !== undefined) continue
      request.begunMs = monotonicMs
      this.#statistics.pendingRequests--
    }
    for (const request of late) request.settle(expired())
    return batch
  }

  #start(batch: readonly Piece[]): void {
    this.#running++
    void this.#runner.run(batch).finally(() => {
      this.#running--
      this.#pump()
    })
  }

  #checkEmpty(): void {
    if (this.#queue.empty && this.#running === 0) this.#whenEmpty?.()
  }

  /** Takes no more, and resolves when everything taken is answered. */
  async drain(): Promise<void> {
    this.#draining = true
    if (this.#queue.empty && this.#running === 0) return
    const empty = new Promise<void>((resolve) => (this.#whenEmpty = resolve))
    this.#pump()
    await empty
  }
}

/** Who is to blame, in Triton's words. */
function reasonOf(code: Code, begun: boolean): FailureReason {
  if (code === 'CANCELLED') return 'CANCELED'
  if (begun && code !== 'DEADLINE_EXCEEDED') return 'BACKEND'
  return code === 'INVALID_ARGUMENT' ? 'OTHER' : 'REJECTED'
}
