import { setTimeout as wait } from 'node:timers/promises'
import { MeshError } from '@spillway/core'
import { ServedModel, type ServedModelParts } from './served-model.ts'
import type { ModelSource, SourceModel } from './source.ts'

/** How long a load waits for the only versions of a model to be written to their end. */
const longestSettleMs = 30_000

/** What a look found of a model. */
export interface Seen {
  readonly model: SourceModel
  readonly look: number
}

/** The models of a source that are to be known: all, or those named. */
export class ModelSet {
  readonly #source: ModelSource
  readonly #only: ReadonlySet<string> | undefined
  readonly #parts: ServedModelParts
  readonly #models = new Map<string, ServedModel>()
  #looks = 0

  constructor(source: ModelSource, only: readonly string[] | undefined, parts: ServedModelParts) {
    this.#source = source
    this.#only = only === undefined ? undefined : new Set(only)
    this.#parts = parts
  }

  get(name: string): ServedModel | undefined {
    return this.#models.get(name)
  }

  all(): Iterable<ServedModel> {
    return this.#models.values()
  }

  /** The model, known from now on. */
  make(name: string): ServedModel {
    let model = this.#models.get(name)
    if (model === undefined) this.#models.set(name, (model = new ServedModel(name, this.#parts)))
    return model
  }

  /** The source has it no more, and nothing of it is loaded. */
  remove(model: ServedModel): void {
    if (this.#models.get(model.name) === model) this.#models.delete(model.name)
  }

  /** What the source has, of those that are to be known; the named ones whether it has them or not. @throws MeshError where it cannot be asked */
  async names(signal: AbortSignal): Promise<readonly string[]> {
    return this.#only === undefined ? this.#source.names(signal) : [...this.#only].toSorted()
  }

  /** Whether it should be served though the source may have nothing of it. */
  isNamed(name: string): boolean {
    return this.#only?.has(name) === true
  }

  async look(name: string, signal: AbortSignal): Promise<Seen> {
    const look = this.nextLook()
    return { model: await this.#source.model(name, signal), look }
  }

  /** Looks are numbered as they begin. */
  nextLook(): number {
    return ++this.#looks
  }

  /**
   * As the source has it once its versions are complete: what is being written is waited for, as long as it takes to see that it is complete, and longer where
   * nothing else is there. @throws MeshError FAILED_PRECONDITION where nothing becomes complete
   */
  async settled(name: string, signal: AbortSignal): Promise<Seen> {
    const { settleMs } = this.#source
    const startedMs = performance.now()
    for (;;) {
      const seen = await this.look(name, signal)
      const { model } = seen
      const waitedMs = performance.now() - startedMs
      if (model.unsettled.length === 0 || (model.versions.length > 0 && waitedMs > 2 * settleMs)) return seen
      if (waitedMs > longestSettleMs)
        throw new MeshError('FAILED_PRECONDITION', `model "${name}": version ${model.unsettled.join(', ')} is still being written`)
      await wait(Math.max(5, settleMs / 4), undefined, { signal })
    }
  }
}
