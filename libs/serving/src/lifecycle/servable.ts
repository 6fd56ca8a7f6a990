import type { Backend, ModelSignature, Tensors } from '../backend.ts'
import type { DynamicBatcher } from '../batching/dynamic-batcher.ts'
import type { ServableStatistics } from '../batching/statistics.ts'
import type { ModelConfig } from '../config/model-config.ts'
import type { InferOptions, ModelHandle } from '../models.ts'
import type { Shadow } from '../traffic/shadow.ts'
import type { LocalVersion } from './source.ts'

export interface ServableParts {
  readonly model: string
  readonly version: string
  /** Of the files that it was loaded from. */
  readonly fingerprint: string
  /** Complete. */
  readonly config: ModelConfig
  readonly classLabels: ReadonlyMap<string, readonly string[]>
  /** Started. */
  readonly backend: Backend
  readonly batcher: DynamicBatcher
  readonly statistics: ServableStatistics
  readonly files: LocalVersion
  /** What it is taken to hold of the process's memory. */
  readonly memoryBytes: number
}

/** One loaded version of one model: a backend and the batcher in front of it. It outlives every handle on it. */
export class Servable {
  readonly parts: ServableParts
  readonly signature: ModelSignature
  #handles = 0
  #closed = false
  #released: (() => void) | undefined
  #unloaded: Promise<void> | undefined

  constructor(parts: ServableParts) {
    this.parts = parts
    this.signature = parts.backend.signature
  }

  get version(): string {
    return this.parts.version
  }

  /** Handles that are not released. */
  get uses(): number {
    return this.#handles
  }

  /** A use of this version, which its unloading waits for. @param shadow is given copies of its calls */
  acquire(shadow?: Shadow): ModelHandle {
    this.#handles++
    return new ServableHandle(this, shadow, this.#release)
  }

  readonly #release = (): void => {
    this.#handles--
    if (this.#handles === 0) this.#released?.()
  }

  /** Waits until every handle is released, answers what was taken, and frees the model. Nobody acquires it any more. Idempotent. */
  unload(): Promise<void> {
    this.#unloaded ??= this.#idle().then(() => this.#free())
    return this.#unloaded
  }

  /** At the process's end: answers what was taken, and frees the model though handles may be out; their next calls are refused. */
  async close(): Promise<void> {
    await this.parts.batcher.drain()
    this.#closed = true
    this.#released?.()
    await this.unload()
  }

  async #idle(): Promise<void> {
    if (this.#handles > 0 && !this.#closed) await new Promise<void>((resolve) => (this.#released = resolve))
  }

  async #free(): Promise<void> {
    const { batcher, backend, files } = this.parts
    await batcher.drain()
    await backend.drain()
    await files.release()
  }
}

class ServableHandle implements ModelHandle {
  readonly #servable: Servable
  readonly #shadow: Shadow | undefined
  #release: (() => void) | undefined

  constructor(servable: Servable, shadow: Shadow | undefined, release: () => void) {
    this.#servable = servable
    this.#shadow = shadow
    this.#release = release
  }

  get model(): string {
    return this.#servable.parts.model
  }

  get version(): string {
    return this.#servable.parts.version
  }

  get signature(): ModelSignature {
    return this.#servable.signature
  }

  get config(): ModelConfig {
    return this.#servable.parts.config
  }

  get classLabels(): ReadonlyMap<string, readonly string[]> {
    return this.#servable.parts.classLabels
  }

  infer(inputs: Tensors, rowCount: number, options: InferOptions): Promise<Tensors> {
    const { batcher } = this.#servable.parts
    const shadow = this.#shadow
    if (shadow === undefined) return batcher.infer(inputs, rowCount, options)
    const copy = shadow.copy(inputs, rowCount)
    const answer = batcher.infer(inputs, rowCount, options)
    if (copy !== undefined) shadow.compare(copy, answer)
    return answer
  }

  release(): void {
    this.#release?.()
    this.#release = undefined
  }
}
