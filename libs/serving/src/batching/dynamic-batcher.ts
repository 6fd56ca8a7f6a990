import { type Clock, type Code, MeshError, sliceTensor, systemClock } from '@spillway/core'
import type { Backend, Tensors } from '../backend.ts'
import { joined, joinParts, mapTensors, type Pending, type Piece, rowsOf, split } from './batch-pieces.ts'
import type { InferOptions } from '../models.ts'
import { checkInputs } from './check-inputs.ts'
import type { FailureReason, ServableStatistics } from './statistics.ts'

export interface BatcherOptions {
  /** Most rows of one run; default 1,024, and never more than the backend takes. A larger request is run in pieces. */
  readonly maxBatchRows?: number
  /** Most rows that wait; default 16,384. A request that does not fit is refused, unless nothing else waits. */
  readonly maxQueueRows?: number
  /** How long a batch that is not full waits for more, though the backend is free; default 0. Worth setting where a run costs the same for any count of rows. */
  readonly maxQueueDelayMs?: number
  readonly clock?: Clock
}

/** Of the latest run in the mean of what runs take. */
const runWeight = 0.2

/** setTimeout's limit. */
const maxTimerMs = 0x7fffffff

/**
 * Puts requests of many callers into common runs: those of one turn of the event loop, and, while the backend is busy, those that wait; a run
 * takes as many as fit.
 * A batch that fails is halved until the request at fault stands alone, so that its neighbours are answered.
 */
export class DynamicBatcher {
  readonly #backend: Backend
  readonly #statistics: ServableStatistics
  readonly #clock: Clock
  readonly #maxBatchRows: number
  readonly #maxQueueRows: number
  readonly #maxQueueDelayMs: number
  readonly #never: AbortSignal = new AbortController().signal
  #queue: Piece[] = []
  #queuedRows = 0
  /** Pieces in the queue whose request is settled: skipped when taken, swept when they are the most. */
  #deadPieces = 0
  #running = 0
  /** What a run takes: of the last few, the later the more. */
  #runMs = 0
  #pumpScheduled = false
  #delay: NodeJS.Timeout | undefined
  #draining = false
  #whenEmpty: (() => void) | undefined

  /** The backend is started, and outlives the batcher. */
  constructor(backend: Backend, statistics: ServableStatistics, options: BatcherOptions = {}) {
    this.#backend = backend
    this.#statistics = statistics
    this.#clock = options.clock ?? systemClock
    this.#maxBatchRows = Math.min(options.maxBatchRows ?? 1024, backend.maxBatchRows)
    this.#maxQueueRows = options.maxQueueRows ?? 16_384
    this.#maxQueueDelayMs = options.maxQueueDelayMs ?? 0
  }

  /**
   * Runs the rows with whatever else waits.
   * @throws MeshError INVALID_ARGUMENT naming the input that does not fit and what was expected, RESOURCE_EXHAUSTED where the queue is full,
   * DEADLINE_EXCEEDED where the deadline passes first or would, CANCELLED when the signal fires; else what the backend says of this request.
   */
  infer(inputs: Tensors, rowCount: number, { deadlineMs, signal }: InferOptions): Promise<Tensors> {
    return new Promise<Tensors>((resolve, reject) => {
      try {
        checkInputs(this.#statistics.model, this.#backend.signature, inputs, rowCount)
        this.#admit(rowCount, deadlineMs, signal)
      } catch (thrown) {
        const error = MeshError.from(thrown)
        this.#statistics.failed(error.code, reasonOf(error.code, false), 0)
        return reject(error)
      }
      this.#enqueue(inputs, rowCount, this.#pending(rowCount, deadlineMs, signal, resolve, reject))
    })
  }

  /** @throws MeshError why it cannot be taken now. */
  #admit(rowCount: number, deadlineMs: number, signal: AbortSignal): void {
    if (this.#draining) throw new MeshError('UNAVAILABLE', 'the model is being unloaded')
    if (signal.aborted) throw cancelled(signal)
    if (deadlineMs !== Infinity && deadlineMs <= this.#clock.nowMs()) throw expired()
    if (this.#queuedRows > 0 && this.#queuedRows + rowCount > this.#maxQueueRows)
      throw new MeshError(
        'RESOURCE_EXHAUSTED',
        `the model's queue is full: ${this.#queuedRows} of ${this.#maxQueueRows} rows wait; send less or later`,
      )
    const waitMs = this.#expectedMs(rowCount)
    if (waitMs > deadlineMs - this.#clock.nowMs())
      throw new MeshError(
        'DEADLINE_EXCEEDED',
        `${this.#queuedRows} rows wait before it: the model would need about ${Math.ceil(waitMs)} ms`,
      )
  }

  /** How long a request of so many rows would take now, by what runs took of late; 0 where none would stand before it. */
  #expectedMs(rowCount: number): number {
    if (this.#queuedRows === 0 && this.#running < this.#backend.concurrency) return 0
    const runs = Math.ceil((this.#queuedRows + rowCount) / this.#maxBatchRows)
    return (runs / this.#backend.concurrency) * this.#runMs
  }

  #pending(
    rowCount: number,
    deadlineMs: number,
    signal: AbortSignal,
    resolve: (outputs: Tensors) => void,
    reject: (error: MeshError) => void,
  ): Pending {
    const count = Math.max(1, Math.ceil(rowCount / this.#maxBatchRows))
    const cancel = (): void => request.settle(cancelled(signal))
    const expire = (): void => request.settle(expired())
    const arrivedMs = performance.now()
    const leftMs = deadlineMs - this.#clock.nowMs()
    const timer = leftMs <= maxTimerMs ? setTimeout(expire, leftMs) : undefined
    const request: Pending = {
      pieces: new Array<Tensors | undefined>(count),
      missing: count,
      waitingRows: rowCount,
      waitingPieces: count,
      settled: false,
      deadlineMs,
      arrivedMs,
      begunMs: undefined,
      inputMs: 0,
      inferMs: 0,
      outputMs: 0,
      settle: (error) => {
        if (request.settled) return
        request.settled = true
        clearTimeout(timer)
        signal.removeEventListener('abort', cancel)
        if (request.waitingPieces > 0) this.#forget(request)
        if (request.begunMs === undefined) this.#statistics.pendingRequests--
        this.#count(request, rowCount, error)
        if (error === undefined) resolve(joined(request.pieces as Tensors[]))
        else reject(error)
      },
    }
    signal.addEventListener('abort', cancel, { once: true })
    this.#statistics.pendingRequests++
    return request
  }

  #count({ arrivedMs, begunMs, inputMs, inferMs, outputMs }: Pending, rowCount: number, error: MeshError | undefined): void {
    const totalMs = performance.now() - arrivedMs
    if (error === undefined) this.#statistics.succeeded(rowCount, { totalMs, queueMs: begunMs! - arrivedMs, inputMs, inferMs, outputMs })
    else this.#statistics.failed(error.code, reasonOf(error.code, begunMs !== undefined), totalMs)
  }

  #enqueue(inputs: Tensors, rowCount: number, request: Pending): void {
    const shapeKey = this.#shapeKey(inputs)
    for (let index = 0, start = 0; index < request.missing; index++, start += this.#maxBatchRows) {
      const end = Math.min(start + this.#maxBatchRows, rowCount)
      const piece = request.missing === 1 ? inputs : mapTensors(inputs, (tensor) => sliceTensor(tensor, start, end))
      this.#queue.push({ request, index, inputs: piece, rowCount: end - start, shapeKey, arrivedMs: request.arrivedMs })
    }
    this.#queuedRows += rowCount
    this.#pumpSoon()
  }

  #shapeKey(inputs: Tensors): string {
    let key = ''
    for (const [name, { rowShape }] of this.#backend.signature.inputs)
      if (rowShape.includes(-1)) key += `${inputs.get(name)!.shape.slice(1).join('x')};`
    return key
  }

  /** What the settled request has in the queue no longer counts. */
  #forget(request: Pending): void {
    this.#queuedRows -= request.waitingRows
    this.#deadPieces += request.waitingPieces
    request.waitingRows = 0
    request.waitingPieces = 0
    if (this.#deadPieces * 2 <= this.#queue.length) return
    this.#queue = this.#queue.filter((piece) => !piece.request.settled)
    this.#deadPieces = 0
    this.#statistics.queuedRows = this.#queuedRows
    this.#checkEmpty()
  }

  /** Pumps when what this turn of the event loop brings is in: the calls that one read of a socket held share a run. */
  #pumpSoon(): void {
    if (this.#pumpScheduled) return
    this.#pumpScheduled = true
    setImmediate(() => {
      this.#pumpScheduled = false
      this.#pump()
    })
  }

  /** Starts runs while the backend is free and something waits. */
  #pump(): void {
    while (this.#running < this.#backend.concurrency && this.#queue.length > 0 && !this.#waitsForMore()) {
      const batch = this.#take()
      if (batch.length > 0) this.#start(batch)
    }
    this.#statistics.queuedRows = this.#queuedRows
    this.#checkEmpty()
  }

  #waitsForMore(): boolean {
    if (this.#maxQueueDelayMs === 0 || this.#draining || this.#queuedRows >= this.#maxBatchRows) return false
    const leftMs = this.#queue[0]!.arrivedMs + this.#maxQueueDelayMs - performance.now()
    if (leftMs <= 0) return false
    this.#delay ??= setTimeout(() => {
      this.#delay = undefined
      this.#pump()
    }, Math.ceil(leftMs))
    return true
  }

  /** The next batch, in order of arrival, without requests that are out of time. */
  #take(): Piece[] {
    const batch: Piece[] = []
    const nowMs = this.#clock.nowMs()
    const late: Pending[] = []
    let rows = 0
    let taken = 0
    for (; taken < this.#queue.length; taken++) {
      const piece = this.#queue[taken]!
      const { request, rowCount } = piece
      if (request.settled) {
        this.#deadPieces--
        continue
      }
      if (batch.length > 0 && (rows + rowCount > this.#maxBatchRows || piece.shapeKey !== batch[0]!.shapeKey)) break
      this.#queuedRows -= rowCount
      request.waitingRows -= rowCount
      request.waitingPieces--
      if (request.deadlineMs <= nowMs) {
        late.push(request)
        continue
      }
      batch.push(piece)
      rows += rowCount
      if (request.begunMs === undefined) {
        request.begunMs = performance.now()
        this.#statistics.pendingRequests--
      }
    }
    this.#queue.splice(0, taken)
    for (const request of late) request.settle(expired())
    return batch
  }

  #start(batch: readonly Piece[]): void {
    this.#running++
    void this.#run(batch).finally(() => {
      this.#running--
      this.#pump()
    })
  }

  /** Never rejects: each piece's request is told. */
  async #run(batch: readonly Piece[]): Promise<void> {
    try {
      const takenMs = performance.now()
      const inputs = joinParts(
        batch.map((piece) => piece.inputs),
        this.#backend.signature.inputs.keys(),
      )
      const startedMs = performance.now()
      const outputs = await this.#backend.run(inputs, this.#never)
      const endedMs = performance.now()
      this.#runMs += (endedMs - startedMs - this.#runMs) * runWeight
      const parts = split(batch, outputs)
      const outputMs = performance.now() - endedMs
      this.#statistics.executed(rowsOf(batch), startedMs - takenMs, endedMs - startedMs, outputMs)
      for (const { request } of batch) {
        request.inputMs += startedMs - takenMs
        request.inferMs += endedMs - startedMs
        request.outputMs += outputMs
      }
      this.#deliver(batch, parts)
    } catch (thrown) {
      const error = MeshError.from(thrown, 'INTERNAL')
      if (batch.length === 1 || error.retryable) {
        for (const piece of batch) piece.request.settle(error)
        return
      }
      const half = batch.length >> 1
      await this.#run(batch.slice(0, half))
      await this.#run(batch.slice(half))
    }
  }

  #deliver(batch: readonly Piece[], parts: readonly Tensors[]): void {
    for (const [i, { request, index }] of batch.entries()) {
      request.pieces[index] = parts[i]!
      if (--request.missing === 0) request.settle(undefined)
    }
  }

  #checkEmpty(): void {
    if (this.#queue.length === 0 && this.#running === 0) this.#whenEmpty?.()
  }

  /** Takes no more, and resolves when everything taken is answered. */
  async drain(): Promise<void> {
    this.#draining = true
    clearTimeout(this.#delay)
    if (this.#queue.length === 0 && this.#running === 0) return
    const empty = new Promise<void>((resolve) => (this.#whenEmpty = resolve))
    this.#pump()
    await empty
  }
}

function cancelled(signal: AbortSignal): MeshError {
  return signal.reason instanceof MeshError
    ? signal.reason
    : new MeshError('CANCELLED', 'the caller no longer wants the answer', { cause: signal.reason })
}

function expired(): MeshError {
  return new MeshError('DEADLINE_EXCEEDED', 'the deadline passed before the model had an answer')
}

/** Who is to blame, in Triton's words. */
function reasonOf(code: Code, begun: boolean): FailureReason {
  if (code === 'CANCELLED') return 'CANCELED'
  if (begun && code !== 'DEADLINE_EXCEEDED') return 'BACKEND'
  return code === 'INVALID_ARGUMENT' ? 'OTHER' : 'REJECTED'
}
