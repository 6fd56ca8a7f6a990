import { MeshError } from '@spillway/core'
import type { ModelSignature, Tensors } from './backend.ts'
import { type BatcherOptions, DynamicBatcher } from './batcher.ts'
import type { ServableMetrics } from './model-metrics.ts'
import { OnnxBackend, type OnnxBackendOptions } from './onnx-backend.ts'
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
    metrics: ServableMetrics,
  ): Promise<Servable> {
    const backend = new OnnxBackend({ ...options, path: file.path })
    await backend.start()
    const { inline, runUs, hopUs } = backend.placement!
    const { model, version } = file
    options.logger.info({ model, version, inline, runUs: Math.round(runUs), hopUs: Math.round(hopUs) }, 'a model version is loaded')
    return new Servable(file, backend, new DynamicBatcher(backend, metrics, batching))
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
    checkInputs(this.servable, inputs, rowCount)
    return this.#batcher.infer(inputs, rowCount, deadlineMs, signal)
  }

  release(): void {
    this.#release?.()
    this.#release = undefined
  }
}

/** A tensor that does not fit would fail the whole batch it is put into: so each is looked at before. */
function checkInputs({ model, signature }: Servable, inputs: Tensors, rowCount: number): void {
  if (!(rowCount > 0)) throw new MeshError('INVALID_ARGUMENT', `model "${model}": a request needs at least one row`)
  for (const [name, { datatype, rowShape }] of signature.inputs) {
    const input = inputs.get(name)
    const expected = (): string => `${datatype} of shape [${[rowCount, ...rowShape].join(', ')}]`
    if (input === undefined)
      throw new MeshError('INVALID_ARGUMENT', `model "${model}": input "${name}" is missing: expected ${expected()}`, { field: name })
    const { shape } = input
    const fits =
      input.datatype === datatype &&
      shape.length === rowShape.length + 1 &&
      shape[0] === rowCount &&
      rowShape.every((size, i) => size === shape[i + 1] || (size === -1 && shape[i + 1]! > 0))
    if (fits) continue
    const message = `model "${model}": input "${name}" is ${input.datatype} of shape [${shape.join(', ')}]: expected ${expected()}`
    throw new MeshError('INVALID_ARGUMENT', message, { field: name })
  }
}
