import { availableParallelism } from 'node:os'
import { type Component, MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { ModelSignature } from './backend.ts'
import type { BatcherOptions } from './batching/dynamic-batcher.ts'
import { ModelMetrics } from './batching/model-metrics.ts'
import { latestVersion, modelNames } from './repository.ts'
import { type Handle, Servable } from './servable.ts'

export interface ModelManagerOptions {
  /** Folder with `<model>/<version>/model.onnx`. */
  readonly repository: string
  /** Which models to load; all in the repository where absent. */
  readonly models?: readonly string[]
  readonly telemetry: Telemetry
  /** Worker threads of each model that is not run inline; default: one for every two cores. */
  readonly workers?: number
  /** Threads within one run; default 1: rows of other callers use the other cores better. */
  readonly threadsPerRun?: number
  readonly batching?: BatcherOptions
}

/** Loads the latest version of each model, and hands out handles to them. */
export class ModelManager implements Component {
  readonly #options: ModelManagerOptions
  readonly #servables = new Map<string, Servable>()
  #ready = false

  constructor(options: ModelManagerOptions) {
    this.#options = options
  }

  /** Whether every model is loaded, and none is being unloaded. */
  get ready(): boolean {
    return this.#ready
  }

  /** Names of the loaded models. */
  get models(): readonly string[] {
    return [...this.#servables.keys()]
  }

  /** @throws MeshError naming the path, and what was expected there, of the first model that cannot be served. */
  async start(signal: AbortSignal): Promise<void> {
    const { repository, telemetry, batching = {} } = this.#options
    const metrics = new ModelMetrics(telemetry.registry)
    const backend = {
      workers: this.#options.workers ?? Math.max(1, availableParallelism() >> 1),
      threadsPerRun: this.#options.threadsPerRun ?? 1,
      maxBatchRows: batching.maxBatchRows ?? 1024,
      logger: telemetry.logger,
    }
    try {
      // One after the other: what is measured at load should not be disturbed by the next load.
      for (const model of this.#options.models ?? (await modelNames(repository))) {
        if (signal.aborted) throw new MeshError('CANCELLED', 'the start was cancelled', { cause: signal.reason })
        const file = await latestVersion(repository, model)
        this.#servables.set(model, await Servable.load(file, backend, batching, metrics.of(model, file.version)))
      }
    } catch (error) {
      await this.drain()
      throw error
    }
    this.#ready = true
  }

  /** Whether that model, and that version where one is given, can be called. */
  isReady(model: string, version = ''): boolean {
    const servable = this.#servables.get(model)
    return servable !== undefined && (version === '' || servable.version === version)
  }

  /** @throws MeshError NOT_FOUND */
  signature(model: string): ModelSignature {
    return this.#find(model, '').signature
  }

  /** The latest version where none is given; release it when done. @throws MeshError NOT_FOUND */
  acquire(model: string, version = ''): Handle {
    return this.#find(model, version).acquire()
  }

  #find(model: string, version: string): Servable {
    const servable = this.#servables.get(model)
    if (servable === undefined && !this.#ready)
      throw new MeshError('UNAVAILABLE', `model '${model}' is not loaded: the server is starting or stopping`)
    if (servable === undefined) throw new MeshError('NOT_FOUND', `Request for unknown model: '${model}' is not found`)
    if (version !== '' && servable.version !== version)
      throw new MeshError(
        'NOT_FOUND',
        `Request for unknown model: '${model}' version ${version} is not found (version ${servable.version} is)`,
      )
    return servable
  }

  /** Answers what was taken, then unloads every model. */
  async drain(): Promise<void> {
    this.#ready = false
    const servables = [...this.#servables.values()]
    this.#servables.clear()
    await Promise.all(servables.map((servable) => servable.unload()))
  }
}
