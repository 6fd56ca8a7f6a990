import { stepsOf } from './ensemble-order.ts'
import type { ModelSet } from './model-set.ts'
import type { OnDemand } from './on-demand.ts'
import type { ServedModel } from './served-model.ts'

/** Which models can be called, and why others cannot. */
export class Readiness {
  readonly #set: ModelSet
  readonly #onDemand: OnDemand

  constructor(set: ModelSet, onDemand: OnDemand) {
    this.#set = set
    this.#onDemand = onDemand
  }

  /** Of those that should be served, the first that cannot be called. */
  firstMissing(): ServedModel | undefined {
    for (const model of this.#set.all()) if (model.wanted && !this.isServed(model)) return model
    return undefined
  }

  /** Loaded, or ready to be when it is called; and all that it is made of. */
  isServed(model: ServedModel): boolean {
    return this.#isThere(model) && this.#missingStep(model, []) === undefined
  }

  #isThere(model: ServedModel): boolean {
    return model.loaded.size > 0 || (this.#onDemand.isAsleep(model) && this.#onDemand.refusalOf(model) === undefined)
  }

  /** Of an ensemble's models, by themselves or through others, one that is not there. @param above ensembles that ask */
  #missingStep(model: ServedModel, above: readonly ServedModel[]): string | undefined {
    for (const name of stepsOf(model.source)) {
      const step = this.#set.get(name)
      if (step === undefined || step === model || above.includes(step) || !this.#isThere(step)) return name
      const below = this.#missingStep(step, [...above, model])
      if (below !== undefined) return below
    }
    return undefined
  }

  /** Why the model is not served, as far as that is known; undefined where it is. What an ensemble misses is named. */
  whyNot(model: ServedModel): string | undefined {
    if (!this.#isThere(model)) return `model "${model.name}" is not served${this.#because(model)}`
    const missing = this.#missingStep(model, [])
    if (missing === undefined) return undefined
    return `model "${model.name}" is not served: it is made of model "${missing}", which is not${this.#because(this.#set.get(missing))}`
  }

  #because(model: ServedModel | undefined): string {
    const error = model && (this.#onDemand.refusalOf(model) ?? model.lastError ?? model.problem ?? model.unmet)
    return error === undefined ? '' : `: ${error.message}`
  }
}
