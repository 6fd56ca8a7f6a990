import { type Clock, MeshError } from '@spillway/core'
import { toEvict } from './memory-budget.ts'
import { retryDelayMs } from './retry-delay.ts'
import type { ServedModel } from './served-model.ts'

export interface OnDemandOptions {
  readonly models: () => Iterable<ServedModel>
  readonly memoryBudgetBytes: number | undefined
  readonly idleUnloadMs: number | undefined
  /** How long a call waits for a model to be loaded, ms. */
  readonly loadWaitMs: number
  readonly clock: Clock
  readonly isStopped: () => boolean
}

/** Calls that wait for models at once; more are refused. */
const mostWaiting = 1_000

/** A model that could not be loaded when it was called: calls are told why at once until another attempt is due. */
interface Refusal {
  readonly error: MeshError
  readonly untilMs: number
  readonly count: number
}

/** Models that are loaded when they are called, and unloaded when they are idle or others need their memory. */
export class OnDemand {
  readonly #options: OnDemandOptions
  readonly #waking = new Map<ServedModel, Promise<void>>()
  readonly #refusals = new Map<ServedModel, Refusal>()
  #waiting = 0
  #sweeper: NodeJS.Timeout | undefined

  constructor(options: OnDemandOptions) {
    this.#options = options
  }

  start(): void {
    const { idleUnloadMs } = this.#options
    if (idleUnloadMs === undefined) return
    this.#sweeper = setInterval(() => this.sweep(), Math.min(Math.max(idleUnloadMs / 4, 10), 5_000))
    this.#sweeper.unref()
  }

  stop(): void {
    clearInterval(this.#sweeper)
  }

  /** Unloads what has not been called for too long. */
  sweep(): void {
    const { models, idleUnloadMs, clock } = this.#options
    if (idleUnloadMs === undefined) return
    for (const model of models()) {
      if (model.wanted && !model.asleep && model.loaded.size > 0 && !model.busy && model.lastUsedMs + idleUnloadMs <= clock.nowMs())
        void this.#sleep(model, 'idle')
    }
  }

  /** At once, and resolves when its memory is free. */
  #sleep(model: ServedModel, reason: 'idle' | 'memory'): Promise<void> {
    model.asleep = true
    return model.unloadAll(reason)
  }

  /** Resolves when so many bytes more fit into the budget. @throws MeshError RESOURCE_EXHAUSTED where what is in use leaves no room */
  async makeRoom(name: string, neededBytes: number, mayEvict: boolean): Promise<void> {
    const { models, memoryBudgetBytes: budget } = this.#options
    if (budget === undefined) return
    const all = [...models()]
    const usedBytes = all.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0)
    const residents = all
      .filter((model) => model.name !== name && model.loaded.size > 0)
      .map((model) => ({ model: model.name, bytes: model.memoryBytes, lastUsedMs: model.lastUsedMs, busy: model.busy }))
    const evicted = toEvict(mayEvict ? residents : [], usedBytes, neededBytes, budget)
    if (evicted === undefined)
      throw new MeshError(
        'RESOURCE_EXHAUSTED',
        `model "${name}" would need about ${neededBytes} bytes, and others hold ${usedBytes} of the ${budget} that models may have`,
      )
    const names = new Set(evicted)
    await Promise.all(all.filter((model) => names.has(model.name)).map((model) => this.#sleep(model, 'memory')))
  }

  /** Resolves when the model is loaded: all who wait share one load. @throws MeshError why it is not */
  async wake(model: ServedModel): Promise<void> {
    const refusal = this.#refusals.get(model)
    if (refusal !== undefined && this.#options.clock.nowMs() < refusal.untilMs) throw refusal.error
    if (this.#waiting >= mostWaiting)
      throw new MeshError('RESOURCE_EXHAUSTED', `${this.#waiting} calls wait for models to be loaded; try again later`)
    let waking = this.#waking.get(model)
    if (waking === undefined) {
      waking = model.turn(() => this.#load(model)).finally(() => this.#waking.delete(model))
      // Whoever waits is told; nobody may wait any more.
      waking.catch(() => undefined)
      this.#waking.set(model, waking)
    }
    this.#waiting++
    try {
      await this.#within(model.name, waking)
    } finally {
      this.#waiting--
    }
  }

  async #load(model: ServedModel): Promise<void> {
    const { clock, isStopped } = this.#options
    if (!model.asleep) return
    model.asleep = false
    model.forgive()
    await model.reconcile(true, isStopped)
    if (model.loaded.size > 0) {
      this.#refusals.delete(model)
      return
    }
    const error = model.error ?? new MeshError('UNAVAILABLE', `Request for unknown model: '${model.name}' has no available versions`)
    const count = (this.#refusals.get(model)?.count ?? 0) + 1
    this.#refusals.set(model, { error, count, untilMs: clock.nowMs() + retryDelayMs(count) })
    model.asleep = true
    throw error
  }

  #within(name: string, waking: Promise<void>): Promise<void> {
    const { loadWaitMs } = this.#options
    const late = new MeshError('UNAVAILABLE', `model '${name}' is still being loaded after ${loadWaitMs} ms; try again`)
    return new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(late), loadWaitMs)
      waking.then(resolve, reject).finally(() => clearTimeout(timer))
    })
  }

  /** Nothing of it is loaded, and a call will have it loaded, or waits for that. */
  isAsleep(model: ServedModel): boolean {
    return model.asleep || this.#waking.has(model)
  }

  /** Why the model could not be loaded when it was last called. */
  refusalOf(model: ServedModel): MeshError | undefined {
    return this.#refusals.get(model)?.error
  }

  forget(model: ServedModel): void {
    this.#refusals.delete(model)
  }
}
