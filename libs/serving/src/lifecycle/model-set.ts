import { setTimeout as wait } from 'node:timers/promises'
import { MeshError } from '@spillway/core'
import { ServedModel, type ServedModelParts } from './served-model.ts'
import type { ModelSource, SourceModel } from './source.ts'

/** How long a load waits for the only versions of a model to be written to their end. */
const longestSettleMs = 30_000

/** The models of a source that are to be known: all, or those named. */
export class ModelSet {
  readonly #source: ModelSource
  readonly #only: ReadonlySet<string> | undefined
  readonly #parts: ServedModelParts
  readonly #models = new Map<string, ServedModel>()

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

  look(name: string, signal: AbortSignal): Promise<SourceModel> {
    return this.#source.model(name, signal)
  }

  /**
   * As the source has it once its versions are complete: what is being written is waited for, as long as it takes to see that it is complete, and longer where
   * nothing else is there. @throws MeshError FAILED_PRECONDITION where nothing becomes complete
   */
  async settled(name: string, signal: AbortSignal): Promise<SourceModel> {
    const { settleMs } = this.#source
    const startedMs = performance.now()
    for (;;) {
      const model = await this.#source.model(name, signal)
      const waitedMs = performance.now() - startedMs
      if (model.unsettled.length === 0 || (model.versions.length > 0 && waitedMs > 2 * settleMs)) return model
      if (waitedMs > longestSettleMs)
        throw new MeshError('FAILED_PRECONDITION', `model "${name}": version ${model.unsettled.join(', ')} is still being written`)
      await wait(Math.max(5, settleMs / 4), undefined, { signal })
    }
  }
}

/** Those that others are made of come before those others (ensembles may be steps of ensembles). */
export function loadOrder(models: readonly SourceModel[]): readonly SourceModel[] {
  const byName = new Map(models.map((model) => [model.name, model]))
  const ordered = new Set<SourceModel>()
  const visiting = new Set<SourceModel>()
  const visit = (model: SourceModel): void => {
    // One that needs itself is left for its load to refuse.
    if (ordered.has(model) || visiting.has(model)) return
    visiting.add(model)
    for (const { model: step } of model.config?.ensemble ?? []) {
      const needed = byName.get(step)
      if (needed !== undefined) visit(needed)
    }
    ordered.add(model)
  }
  for (const model of models) visit(model)
  return [...ordered]
}
