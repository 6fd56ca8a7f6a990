import { Worker } from 'node:worker_threads'
import { MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { Backend, ModelSignature, PartsRun, Tensors } from '../backend.ts'
import { joinParts } from '../batching/batch-pieces.ts'
import { OnnxSession, type OnnxSessionOptions } from './onnx-session.ts'
import { elementsOf, measurePlacement, type Placement, rowElements } from './placement.ts'
import { WorkerPool } from './worker-pool.ts'
import type { WorkerDescription } from './worker-protocol.ts'

export interface OnnxBackendOptions {
  /** The `model.onnx` file. */
  readonly path: string
  /** Worker threads, each with a session of its own. */
  readonly workers: number
  /** Threads that ONNX Runtime uses within one run; default 1. */
  readonly threadsPerRun?: number
  /** Execution providers, the first choice first; default the CPU's. */
  readonly providers?: readonly string[]
  /** The config's: 0 for a model whose first dimension is not the row; absent where the file decides. */
  readonly maxBatchSize?: number
  /** The largest batch that it will be given: what inline running is decided on. */
  readonly maxBatchRows: number
  readonly logger: Telemetry['logger']
  /** Starts the worker thread; given by tests that must reach it. */
  readonly spawn?: (task: OnnxTask) => Worker
}

/** What an ONNX worker is started with (`workerData`). */
export interface OnnxTask {
  readonly control: SharedArrayBuffer
  readonly session: OnnxSessionOptions
}

const workerEntry = new URL('./onnx-worker.ts', import.meta.url)
const allInWorkers: Placement = { inlineRows: 0, enoughRows: Infinity, runUs: Infinity, hopUs: Infinity }

/**
 * ONNX Runtime reports the models that it loads and the machine to its maker over the network, and keeps an identifier on disk, unless the environment of the
 * process says otherwise before it starts (its docs/Privacy.md). Worker threads cannot change that environment. Who has set it has decided.
 */
function keepToItself(): void {
  process.env['ORT_DISABLE_TELEMETRY'] ??= '1'
}

function spawnWorker(task: OnnxTask): Worker {
  return new Worker(workerEntry, { workerData: task })
}

/**
 * One ONNX model in worker threads, and, for runs that cost less than the hop to a worker and back, in the calling thread. Up to how many rows that
 * is so is measured at load; where it is so for the largest batch too, the workers are closed. A model that cannot be run on made-up inputs (zeros,
 * empty strings), or that runs elsewhere than on the CPU, stays in its workers.
 */
export class OnnxBackend implements Backend {
  readonly #options: OnnxBackendOptions
  readonly #session: OnnxSessionOptions
  readonly #pool: WorkerPool
  #description: WorkerDescription | undefined
  #placement: Placement | undefined
  #inline: OnnxSession | undefined
  /** A run of no more elements than these goes inline. */
  #inlineElements = 0
  #inFlight = 0
  #whenIdle: (() => void) | undefined

  constructor(options: OnnxBackendOptions) {
    this.#options = options
    const { path, workers, threadsPerRun = 1, providers = ['cpu'], maxBatchSize, logger, spawn = spawnWorker } = options
    this.#session = { path, threads: threadsPerRun, providers, maxBatchSize }
    this.#pool = new WorkerPool(path, workers, (control) => spawn({ control, session: this.#session }), logger)
  }

  get signature(): ModelSignature {
    return this.#known().signature
  }

  get maxBatchRows(): number {
    return this.#known().maxBatchRows
  }

  get concurrency(): number {
    return this.#placement?.inlineRows === Infinity ? 1 : this.#pool.size
  }

  get enoughRows(): number {
    return this.#placement?.enoughRows ?? Infinity
  }

  /** What was measured at load; undefined before. */
  get placement(): Placement | undefined {
    return this.#placement
  }

  #known(): WorkerDescription {
    if (this.#description === undefined) throw new MeshError('UNAVAILABLE', `${this.#options.path} is not loaded yet`)
    return this.#description
  }

  /** @throws MeshError FAILED_PRECONDITION naming the file where it is no usable model. */
  async start(_signal?: AbortSignal): Promise<void> {
    keepToItself()
    this.#description = await this.#pool.start()
    this.#placement = await this.#measure()
    const { inlineRows } = this.#placement
    if (inlineRows === 0) return
    this.#inline = OnnxSession.open({ ...this.#session, threads: 1 })
    this.#inlineElements = inlineRows * rowElements(this.signature)
    if (inlineRows === Infinity) await this.#pool.close()
  }

  async #measure(): Promise<Placement> {
    if (this.#session.providers.some((provider) => provider !== 'cpu')) return allInWorkers
    try {
      const placement = await measurePlacement(this.signature, Math.min(this.#options.maxBatchRows, this.maxBatchRows), (parts) =>
        this.#pool.call(parts),
      )
      // What a row of any size costs is not known from one of the least: there must be workers for the others.
      const sized = [...this.signature.inputs.values()].every(({ rowShape }) => !rowShape.includes(-1))
      const inlineRows = Math.min(placement.inlineRows, this.#options.maxBatchRows)
      return sized ? placement : { ...placement, inlineRows, enoughRows: Infinity }
    } catch (error) {
      this.#options.logger.debug(
        { err: error, path: this.#options.path },
        'the model does not run on made-up inputs: it stays in its workers',
      )
      return allInWorkers
    }
  }

  async run(inputs: Tensors, signal: AbortSignal): Promise<Tensors> {
    return (await this.runParts([inputs], signal)).outputs
  }

  async runParts(parts: readonly Tensors[], signal: AbortSignal): Promise<PartsRun> {
    if (signal.aborted) throw new MeshError('CANCELLED', 'the run was cancelled before it began', { cause: signal.reason })
    if (this.#inline !== undefined && elementsOf(parts) <= this.#inlineElements) return this.#runInline(this.#inline, parts)
    this.#inFlight++
    try {
      return await this.#pool.call(parts)
    } finally {
      this.#inFlight--
      if (this.#inFlight === 0) this.#whenIdle?.()
    }
  }

  #runInline(session: OnnxSession, parts: readonly Tensors[]): PartsRun {
    const startedMs = performance.now()
    const inputs = joinParts(parts, this.signature.inputs.keys())
    const inputMs = performance.now() - startedMs
    return { outputs: session.run(inputs), inputMs, outputMs: 0 }
  }

  /** Waits for the runs in flight, which ONNX Runtime cannot interrupt. */
  async drain(): Promise<void> {
    if (this.#inFlight > 0) await new Promise<void>((resolve) => (this.#whenIdle = resolve))
    await this.#pool.close()
    const session = this.#inline
    this.#inline = undefined
    session?.release()
  }
}
