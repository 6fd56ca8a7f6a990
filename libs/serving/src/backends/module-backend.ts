import { Worker } from 'node:worker_threads'
import { MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { Backend, ModelSignature, PartsRun, Tensors } from '../backend.ts'
import { ModuleHost, type ModuleLoad } from './module-host.ts'
import { WorkerPool } from './worker-pool.ts'
import type { WorkerDescription } from './worker-protocol.ts'

export interface ModuleBackendOptions {
  readonly load: ModuleLoad
  /** Worker threads, each with an instance of its own. */
  readonly workers: number
  /** A run that takes longer fails, and its thread is ended. */
  readonly timeoutMs: number
  readonly logger: Telemetry['logger']
}

/** What a module worker is started with (`workerData`). */
export interface ModuleTask {
  readonly control: SharedArrayBuffer
  readonly load: ModuleLoad
}

const workerEntry = new URL('./module-worker.ts', import.meta.url)

/** A TypeScript or JavaScript module as a model, in worker threads: what it computes holds nobody up, and what it never ends is ended. */
export class ModuleWorkerBackend implements Backend {
  readonly #pool: WorkerPool
  readonly #who: string
  readonly #timeoutMs: number
  #description: WorkerDescription | undefined
  #inFlight = 0
  #whenIdle: (() => void) | undefined

  constructor({ load, workers, timeoutMs, logger }: ModuleBackendOptions) {
    this.#who = `model "${load.model}" (${load.path})`
    this.#timeoutMs = timeoutMs
    this.#pool = new WorkerPool(
      this.#who,
      workers,
      (control) => new Worker(workerEntry, { workerData: { control, load } satisfies ModuleTask }),
      logger,
    )
  }

  get signature(): ModelSignature {
    return known(this.#description, this.#who).signature
  }

  get maxBatchRows(): number {
    return known(this.#description, this.#who).maxBatchRows
  }

  get concurrency(): number {
    return this.#pool.size
  }

  /** @throws MeshError FAILED_PRECONDITION naming model, file and what is wrong in it */
  async start(_signal?: AbortSignal): Promise<void> {
    this.#description = await this.#pool.start()
  }

  async run(inputs: Tensors, signal: AbortSignal, deadlineMs?: number): Promise<Tensors> {
    return (await this.runParts([inputs], signal, deadlineMs)).outputs
  }

  async runParts(parts: readonly Tensors[], signal: AbortSignal, deadlineMs: number = Infinity): Promise<PartsRun> {
    if (signal.aborted) throw new MeshError('CANCELLED', 'the run was cancelled before it began', { cause: signal.reason })
    this.#inFlight++
    try {
      return await this.#pool.call(parts, { deadlineMs, timeoutMs: this.#timeoutMs })
    } finally {
      this.#inFlight--
      if (this.#inFlight === 0) this.#whenIdle?.()
    }
  }

  async drain(): Promise<void> {
    if (this.#inFlight > 0) await new Promise<void>((resolve) => (this.#whenIdle = resolve))
    await this.#pool.close()
  }
}

/** A module as a model in this thread: no copy and no hop, for what only waits (look-ups, calls to other services) or computes little. */
export class ModuleInlineBackend implements Backend {
  readonly stoppable = true
  readonly #load: ModuleLoad
  readonly #who: string
  readonly #timeoutMs: number
  #host: ModuleHost | undefined
  #inFlight = 0
  #whenIdle: (() => void) | undefined

  constructor({ load, timeoutMs }: Omit<ModuleBackendOptions, 'workers' | 'logger'>) {
    this.#load = load
    this.#who = `model "${load.model}" (${load.path})`
    this.#timeoutMs = timeoutMs
  }

  get signature(): ModelSignature {
    return known(this.#host?.description, this.#who).signature
  }

  get maxBatchRows(): number {
    return known(this.#host?.description, this.#who).maxBatchRows
  }

  get concurrency(): number {
    return this.#host?.concurrency ?? 1
  }

  /** @throws MeshError FAILED_PRECONDITION naming model, file and what is wrong in it */
  async start(_signal?: AbortSignal): Promise<void> {
    this.#host = await ModuleHost.open(this.#load)
  }

  /** What takes too long fails, though it goes on: nothing here can end it. */
  async run(inputs: Tensors, signal: AbortSignal, deadlineMs: number = Infinity): Promise<Tensors> {
    if (this.#host === undefined) throw new MeshError('UNAVAILABLE', `${this.#who} is not loaded`)
    const limit = AbortSignal.any([signal, AbortSignal.timeout(this.#timeoutMs)])
    const abandoned = Promise.withResolvers<never>()
    const give = (): void =>
      abandoned.reject(signal.aborted ? MeshError.from(signal.reason, 'CANCELLED') : timedOut(this.#who, this.#timeoutMs))
    limit.addEventListener('abort', give, { once: true })
    this.#inFlight++
    try {
      return await Promise.race([this.#host.run(inputs, limit, deadlineMs), abandoned.promise])
    } finally {
      limit.removeEventListener('abort', give)
      this.#inFlight--
      if (this.#inFlight === 0) this.#whenIdle?.()
    }
  }

  async drain(): Promise<void> {
    if (this.#inFlight > 0) await new Promise<void>((resolve) => (this.#whenIdle = resolve))
    const host = this.#host
    this.#host = undefined
    await host?.stop()
  }
}

function known(description: WorkerDescription | undefined, who: string): WorkerDescription {
  if (description === undefined) throw new MeshError('UNAVAILABLE', `${who} is not loaded`)
  return description
}

function timedOut(who: string, timeoutMs: number): MeshError {
  return new MeshError('DEADLINE_EXCEEDED', `${who} took longer than the ${timeoutMs} ms that its config allows`)
}
