import { Worker } from 'node:worker_threads'
import { allocate, bytesColumn, elementCount, MeshError, type Tensor } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { Backend, ModelSignature, Tensors } from '../backend.ts'
import { ModelWorker } from './model-worker.ts'
import { type OnnxDescription, OnnxSession } from './onnx-session.ts'
import { movable, type WorkerTask } from './worker-protocol.ts'

export interface OnnxBackendOptions {
  /** The `model.onnx` file. */
  readonly path: string
  /** Worker threads, each with a session of its own. */
  readonly workers: number
  /** Threads that ONNX Runtime uses within one run; default 1. */
  readonly threadsPerRun?: number
  /** The largest batch that it will be given: what inline running is decided on. */
  readonly maxBatchRows: number
  readonly logger: Telemetry['logger']
  /** Starts the worker thread; given by tests that must reach it. */
  readonly spawn?: (task: WorkerTask) => Worker
}

/** What was measured at load, µs, and what follows from it. */
export interface OnnxPlacement {
  readonly inline: boolean
  /** A run of the largest batch; Infinity where one row alone was too slow to go on. */
  readonly runUs: number
  readonly hopUs: number
}

/** A busy start makes a hop look dearer than it is: no run longer than this goes on the thread that serves everything else. */
const longestInlineUs = 250

/** Limit of each of the two measurements at load. */
const longestMeasureMs = 100

/** A run that costs less than handing it over and getting it back is run where it is asked for. */
export function runsInline(runUs: number, hopUs: number): boolean {
  return runUs <= Math.min(hopUs, longestInlineUs)
}

const workerEntry = new URL('./onnx-worker.ts', import.meta.url)

function spawnWorker(task: WorkerTask): Worker {
  return new Worker(workerEntry, { workerData: task })
}

/**
 * One ONNX model in worker threads, or inline. At load the largest batch is timed through a worker, the run apart from the hop there and back; where the
 * run costs less than the hop, a session is opened in this thread and the workers are closed. A model that cannot be run on made-up inputs
 * (zeros, empty strings) stays in its workers.
 */
export class OnnxBackend implements Backend {
  readonly #options: OnnxBackendOptions
  readonly #workers: readonly ModelWorker[]
  readonly #waiting: (() => void)[] = []
  #description: OnnxDescription | undefined
  #inline: OnnxSession | undefined
  #placement: OnnxPlacement | undefined
  #inFlight = 0
  #whenIdle: (() => void) | undefined

  constructor(options: OnnxBackendOptions) {
    this.#options = options
    const task: WorkerTask = { path: options.path, threads: options.threadsPerRun ?? 1 }
    const spawn = (): Worker => (options.spawn ?? spawnWorker)(task)
    const wake = (): void => {
      for (const waiter of this.#waiting.splice(0)) waiter()
    }
    this.#workers = Array.from({ length: options.workers }, () => new ModelWorker(spawn, options.logger, wake))
  }

  get signature(): ModelSignature {
    return this.#known().signature
  }

  get maxBatchRows(): number {
    return this.#known().maxBatchRows
  }

  get concurrency(): number {
    return this.#inline === undefined ? this.#workers.length : 1
  }

  /** What was measured at load; undefined before. */
  get placement(): OnnxPlacement | undefined {
    return this.#placement
  }

  #known(): OnnxDescription {
    if (this.#description === undefined) throw new MeshError('UNAVAILABLE', `${this.#options.path} is not loaded yet`)
    return this.#description
  }

  /** @throws MeshError FAILED_PRECONDITION naming the file where it is no usable model. */
  async start(_signal?: AbortSignal): Promise<void> {
    const loads = await Promise.allSettled(this.#workers.map((worker) => worker.start()))
    const failure = loads.find((load) => load.status === 'rejected')
    if (failure !== undefined) {
      await this.#closeWorkers()
      throw MeshError.from(failure.reason)
    }
    this.#description = (loads[0] as PromiseFulfilledResult<OnnxDescription>).value
    this.#placement = await this.#measure()
    if (!this.#placement.inline) return
    this.#inline = await OnnxSession.open(this.#options.path, 1)
    await this.#closeWorkers()
  }

  /** Times the largest batch through a worker: the run alone, and what the hop adds to it. */
  async #measure(): Promise<OnnxPlacement> {
    const runsUs: number[] = []
    const hopsUs: number[] = []
    const time = async (inputs: Tensors, times: number): Promise<void> => {
      const endMs = performance.now() + longestMeasureMs
      for (let i = 0; i < times && performance.now() < endMs; i++) {
        const startedMs = performance.now()
        const { runUs } = await this.#call(inputs)
        runsUs.push(runUs)
        hopsUs.push((performance.now() - startedMs) * 1000 - runUs)
      }
    }
    try {
      // One row tells a heavy model without paying for a large batch.
      await time(madeUpInputs(this.signature, 1), 5)
      if (Math.min(...runsUs) > longestInlineUs) return { inline: false, runUs: Infinity, hopUs: Infinity }
      runsUs.length = 0
      hopsUs.length = 0
      await time(madeUpInputs(this.signature, Math.min(this.#options.maxBatchRows, this.maxBatchRows)), 100)
    } catch (error) {
      this.#options.logger.debug(
        { err: error, path: this.#options.path },
        'the model does not run on made-up inputs: it stays in its workers',
      )
      return { inline: false, runUs: Infinity, hopUs: Infinity }
    }
    const runUs = lowerQuartile(runsUs)
    const hopUs = lowerQuartile(hopsUs)
    return { inline: runsInline(runUs, hopUs), runUs, hopUs }
  }

  async #call(inputs: Tensors): ReturnType<ModelWorker['call']> {
    const worker = await this.#idleWorker()
    const { tensors, buffers } = movable(inputs)
    return worker.call({ inputs: tensors }, buffers)
  }

  /** An idle worker; waits for one where all are busy, and fails where none is alive. */
  async #idleWorker(): Promise<ModelWorker> {
    for (;;) {
      const idle = this.#workers.find((worker) => worker.state === 'idle')
      if (idle !== undefined) return idle
      if (!this.#workers.some((worker) => worker.state === 'busy'))
        throw new MeshError('UNAVAILABLE', `no worker of ${this.#options.path} is up; one is being restarted`)
      if (this.#waiting.length >= 1_000) throw new MeshError('RESOURCE_EXHAUSTED', 'too many runs wait for a model worker')
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
  }

  async run(inputs: Tensors, signal: AbortSignal): Promise<Tensors> {
    if (signal.aborted) throw new MeshError('CANCELLED', 'the run was cancelled before it began', { cause: signal.reason })
    this.#inFlight++
    try {
      return this.#inline === undefined ? (await this.#call(inputs)).outputs : await this.#inline.run(inputs)
    } finally {
      this.#inFlight--
      if (this.#inFlight === 0) this.#whenIdle?.()
    }
  }

  /** Waits for the runs in flight, which ONNX Runtime cannot interrupt. */
  async drain(): Promise<void> {
    if (this.#inFlight > 0) await new Promise<void>((resolve) => (this.#whenIdle = resolve))
    await this.#closeWorkers()
    const session = this.#inline
    this.#inline = undefined
    await session?.release()
  }

  async #closeWorkers(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.close()))
  }
}

/** What an undisturbed, warmed-up try takes, though others use the machine meanwhile. */
function lowerQuartile(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 2]!
}

/** Zeros and empty strings; a dimension of any size is 1. */
function madeUpInputs({ inputs }: ModelSignature, rows: number): Tensors {
  const made = new Map<string, Tensor>()
  for (const [name, { datatype, rowShape }] of inputs) {
    const shape = [rows, ...rowShape.map((size) => (size === -1 ? 1 : size))]
    const count = elementCount(shape)
    if (datatype === 'BYTES') made.set(name, { datatype, shape, data: bytesColumn(new Array<Uint8Array>(count).fill(new Uint8Array(0))) })
    else made.set(name, { datatype, shape, data: allocate(datatype, count) })
  }
  return made
}
