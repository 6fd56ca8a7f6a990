import type { ModelSignature, Tensors } from './backend.ts'
import { type BatcherOptions, DynamicBatcher } from './batching/dynamic-batcher.ts'
import type { ServableStatistics } from './batching/statistics.ts'
import { OnnxBackend, type OnnxBackendOptions } from './backends/onnx-backend.ts'
import type { ModelFile } from './repository.ts'

/** One loaded version of one model: a backend and the batcher in front of it. */
export class Servable {
  readonly model: string
  readonly version: string
  readonly signature: ModelSignature
  /** Most rows of one run; Infinity where the model sets no limit. */
  readonly maxBatchRows: number
  readonly #backend: OnnxBackend
  readonly #batcher: DynamicBatcher
  #handles = 0
  #released: (() => void) | undefined

  private constructor({ model, version }: ModelFile, backend: OnnxBackend, batcher: DynamicBatcher) {
    this.model = model
    this.version = version
    this.#backend = backend
    this.signature = backend.signature
    this.maxBatchRows = backend.maxBatchRows
    this.#batcher = batcher
  }

  /** @throws MeshError naming the file where it cannot be served. */
  static async load(
    file: ModelFile,
    options: Omit<OnnxBackendOptions, 'path'>,
    batching: BatcherOptions,
    statistics: ServableStatistics,
  ): Promise<Servable> {
    const backend = new OnnxBackend({ ...options, path: file.path })
    await backend.start()
    const { inline, runUs, hopUs } = backend.placement!
    const { model, version } = file
    options.logger.info({ model, version, inline, runUs: Math.round(runUs), hopUs: Math.round(hopUs) }, 'a model version is loaded')
    return new Servable(file, backend, new DynamicBatcher(backend, statistics, batching))
  }

  /** A use of this version that its unloading waits for. */
  acquire(): Handle {
    this.#handles++
    return new Handle(this, this.#batcher, () => {
      this.#handles--
      if (this.#handles === 0) this.#released?.()
    })
  }

  /** Answers what was taken, waits until every handle is released, and frees the model. */
  async unload(): Promise<void> {
    await this.#batcher.drain()
    if (this.#handles > 0) await new Promise<void>((resolve) => (this.#released = resolve))
    await this.#backend.drain()
  }
}

/** A version of a model while somebody uses it. Release it exactly once. */
export class Handle {
  readonly servable: Servable
  readonly #batcher: DynamicBatcher
  #release: (() => void) | undefined

  constructor(servable: Servable, batcher: DynamicBatcher, release: () => void) {
    this.servable = servable
    this.#batcher = batcher
    this.#release = release
  }

  /** Runs rows, checked against the signature. @throws as DynamicBatcher's `infer`, and INVALID_ARGUMENT naming the input that does not fit. */
  async infer(inputs: Tensors, rowCount: number, deadlineMs: number, signal: AbortSignal): Promise<Tensors> {
    return this.#batcher.infer(inputs, rowCount, { deadlineMs, signal })
  }

  release(): void {
    this.#release?.()
    this.#release = undefined
  }
}
