import { MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { ModelConfigParsers } from '../config/parse-model-config.ts'
import type { LoadOverrides } from '../models.ts'
import type { ModelTraffic } from '../traffic/model-traffic.ts'
import { ensemblesOf, loadOrder, stepsOf } from './ensemble-order.ts'
import { type OverriddenModel, overriddenModel } from './load-overrides.ts'
import type { ControlMode, ModelManagerOptions } from './manager-options.ts'
import type { ModelSet, Seen } from './model-set.ts'
import type { OnDemand } from './on-demand.ts'
import type { Servable } from './servable.ts'
import type { ServedModel } from './served-model.ts'
import { layoutText, type ModelSource } from './source.ts'
import { takeUp } from './take-up.ts'
import { versionOf } from './version-policy.ts'

export interface ModelControlParts {
  readonly set: ModelSet
  readonly source: ModelSource
  readonly mode: ControlMode
  readonly options: ModelManagerOptions
  readonly parsers: ModelConfigParsers
  /** Aborts when the process ends. */
  readonly signal: AbortSignal
  readonly logger: Telemetry['logger']
  readonly onDemand: OnDemand
}

/** What makes models come, change and go: the start, the looks of `poll` mode, and callers' requests. */
export class ModelControl {
  readonly #parts: ModelControlParts
  /** Loaded by a request of their own, not for an ensemble. */
  readonly #asked = new Set<string>()
  /** Models that stand on the files or config of a load request: how to be rid of what is on disk. */
  readonly #overridden = new Map<string, () => Promise<void>>()
  readonly #following = new Map<ServedModel, Promise<void>>()

  constructor(parts: ModelControlParts) {
    this.#parts = parts
  }

  /** @throws MeshError why the first model cannot be served, unless that is not to end the start */
  async start(signal: AbortSignal): Promise<void> {
    const { set, mode, options, source } = this.#parts
    const all = await set.names(signal)
    const { loadModels = [], exitOnError = true } = options
    const names = mode !== 'explicit' || loadModels.includes('*') ? all : [...new Set(loadModels)]
    if (mode === 'none' && names.length === 0)
      throw new MeshError('NOT_FOUND', `${source.description} has no models: expected ${layoutText}`)
    const failed = (name: string, error: MeshError): void => {
      if (signal.aborted) throw new MeshError('CANCELLED', 'the start was cancelled', { cause: signal.reason })
      if (exitOnError) throw error
      const model = set.make(name)
      model.wanted = true
      model.problem = error
      this.#parts.logger.error({ model: name, err: error }, 'a model cannot be served')
    }
    const found: Seen[] = []
    const asked = new Set(names)
    // It grows while it is read: what an ensemble is made of is needed too.
    const needed = new Set(names)
    for (const name of needed) {
      try {
        const seen = await set.settled(name, signal)
        found.push(seen)
        for (const step of stepsOf(seen.model)) needed.add(step)
      } catch (thrown) {
        const error = MeshError.from(thrown)
        if (asked.has(name)) failed(name, error)
        // Its ensemble is refused for it, and says why.
        else set.make(name).problem = error
      }
    }
    for (const seen of loadOrder(found)) {
      const { name } = seen.model
      const model = set.make(name)
      model.wanted = true
      if (asked.has(name)) this.#asked.add(name)
      await this.#follow(model, seen, false, true)
      if (model.loaded.size === 0 && !model.asleep) failed(name, model.error ?? this.#stopped())
    }
    // What could be loaded is known too.
    for (const name of all) set.make(name)
  }

  #stopped(): MeshError {
    return new MeshError('CANCELLED', 'the start was cancelled', { cause: this.#parts.signal.reason })
  }

  #isStopped = (): boolean => this.#parts.signal.aborted

  #follow(
    model: ServedModel,
    seen: Seen | { readonly model: undefined; readonly look: number },
    mayEvict: boolean,
    isTold = false,
  ): Promise<void> {
    return model.turn(async () => {
      model.see(seen.model, seen.look)
      await model.reconcile(mayEvict, this.#isStopped, { isTold })
    })
  }

  /** `poll` mode: what has come, changed or gone since. @returns whether something is being written */
  async lookAgain(): Promise<boolean> {
    const { set, signal, logger } = this.#parts
    const began = set.nextLook()
    const names = new Set(await set.names(signal))
    let unsettled = false
    const gone = new Set<ServedModel>()
    const ensembles: Seen[] = []
    // It grows while it is read: what an ensemble is made of is needed too.
    for (const name of names) {
      try {
        const seen = await set.look(name, signal)
        unsettled ||= seen.model.unsettled.length > 0
        const steps = stepsOf(seen.model)
        for (const step of steps) names.add(step)
        if (seen.model.versions.length === 0 && set.get(name) === undefined) continue
        if (steps.length === 0) this.#followSoon(set.make(name), seen)
        else ensembles.push(seen)
      } catch (thrown) {
        const error = MeshError.from(thrown)
        const known = set.get(name)
        if (known === undefined && error.code === 'NOT_FOUND') continue
        const model = known ?? set.make(name)
        if (error.code === 'NOT_FOUND') gone.add(model)
        else if (model.problem?.message !== error.message)
          logger.error({ model: name, err: error }, 'a model cannot be looked at: what is served stays as it is')
        model.problem = error
      }
    }
    for (const seen of loadOrder(ensembles)) this.#followSoon(set.make(seen.model.name), seen)
    for (const model of set.all()) if (!names.has(model.name)) gone.add(model)
    for (const model of gone) this.#followGone(model, began)
    return unsettled
  }

  /** A model that is still changing is looked at again next time; an ensemble follows its models. */
  #followSoon(model: ServedModel, seen: Seen): void {
    if (this.#following.has(model)) return
    model.problem = undefined
    model.wanted = true
    const steps = stepsOf(seen.model).flatMap((name) => {
      const step = this.#parts.set.get(name)
      return (step && this.#following.get(step)) ?? []
    })
    const follow = (): Promise<void> => this.#follow(model, seen, model.loaded.size > 0)
    const following = (steps.length === 0 ? follow() : Promise.all(steps).then(follow)).finally(() => this.#following.delete(model))
    this.#following.set(model, following)
  }

  #followGone(model: ServedModel, look: number): void {
    if (this.#following.has(model)) return
    const left = async (): Promise<void> => {
      await this.#follow(model, { model: undefined, look }, false)
      await model.unloadAll('gone')
      if (model.loaded.size === 0 && !this.#parts.set.isNamed(model.name)) this.#parts.set.remove(model)
    }
    this.#following.set(
      model,
      left().finally(() => this.#following.delete(model)),
    )
  }

  async load(name: string, overrides: LoadOverrides | undefined): Promise<void> {
    this.#checkMode('load')
    await this.#load(name, overrides, true, new Set())
  }

  /** @param above ensembles that it is loaded for: one that needs itself is left for its own load to refuse */
  async #load(name: string, overrides: LoadOverrides | undefined, asked: boolean, above: ReadonlySet<string>): Promise<void> {
    const { set, signal, parsers } = this.#parts
    const found = (): Promise<Seen> => set.settled(name, signal)
    const overridden =
      overrides === undefined ? undefined : await overriddenModel(name, overrides, async () => (await found()).model, parsers)
    const seen = overridden === undefined ? await found() : { model: overridden.model, look: set.nextLook() }
    try {
      for (const step of stepsOf(seen.model))
        if (!above.has(step) && step !== name && !set.get(step)?.wanted) await this.#load(step, undefined, false, new Set([...above, name]))
    } catch (error) {
      await overridden?.dispose()
      throw error
    }
    const model = set.make(name)
    if (asked) this.#asked.add(name)
    const error = await model.turn(async () => {
      const wholly = overridden !== undefined
      const { refused, isAsBefore } = await takeUp({ model, seen, wholly, nextLook: () => set.nextLook(), isStopped: this.#isStopped })
      if (isAsBefore) await overridden?.dispose()
      else await this.#standOn(name, overridden)
      // A model that is not served by its load is none that should be.
      if (model.loaded.size === 0 && !model.asleep) {
        model.wanted = false
        await this.#standOn(name, undefined)
      }
      return refused
    })
    if (error !== undefined) throw error
  }

  /** Of what the model is loaded from now on: a request's files, or the source's where absent. Those of the request before are needed no longer. */
  async #standOn(name: string, overridden: OverriddenModel | undefined): Promise<void> {
    const before = this.#overridden.get(name)
    if (overridden === undefined) this.#overridden.delete(name)
    else this.#overridden.set(name, overridden.dispose)
    await before?.().catch((error: unknown) => {
      this.#parts.logger.warn({ model: name, err: error }, 'the files of a load request could not be removed')
    })
  }

  async unload(model: ServedModel, dependents: boolean): Promise<void> {
    this.#checkMode('unload')
    const steps = stepsOf(model.source)
    // As in Triton: what is made of it goes with it.
    for (const ensemble of ensemblesOf(model.name, this.#parts.set.all())) {
      this.#parts.logger.warn({ model: ensemble.name, step: model.name }, 'an ensemble is unloaded with one of its models')
      await this.#unload(ensemble)
    }
    await this.#unload(model)
    if (!dependents) return
    for (const name of steps) {
      const step = this.#parts.set.get(name)
      if (step?.wanted === true && !this.#asked.has(name) && !this.#isNeeded(name)) await this.unload(step, true)
    }
  }

  async #unload(model: ServedModel): Promise<void> {
    let unloaded: Promise<void> | undefined
    await model.turn(async () => {
      model.wanted = false
      model.asleep = false
      this.#asked.delete(model.name)
      unloaded = model.unloadAll('asked')
      await this.#standOn(model.name, undefined)
    })
    await unloaded
    this.#parts.onDemand.forget(model)
  }

  /** By an ensemble that is loaded. */
  #isNeeded(name: string): boolean {
    return [...this.#parts.set.all()].some(({ wanted, source }) => wanted && stepsOf(source).includes(name))
  }

  #checkMode(what: string): void {
    const { mode } = this.#parts
    if (mode !== 'explicit')
      throw new MeshError(
        'FAILED_PRECONDITION',
        `explicit model ${what} is not allowed ${mode === 'poll' ? 'if polling is enabled' : 'without explicit model control'}: start with --model-control-mode=explicit`,
      )
  }

  async promote(model: ServedModel, text: string): Promise<void> {
    const version = text === 'latest' ? undefined : versionOf(text)
    if (version === undefined && text !== 'latest') throw model.unknownVersion(text)
    await model.turn(async () => {
      if (!model.wanted) throw new MeshError('UNAVAILABLE', `Request for unknown model: '${model.name}' has no available versions`)
      const { set, signal, logger } = this.#parts
      // What a load request brought is all that there is of it.
      if (!this.#overridden.has(model.name)) await set.settled(model.name, signal).then((seen) => model.see(seen.model, seen.look))
      if (version !== undefined) await model.ensureLoaded(version, true)
      model.asleep = false
      model.change((traffic) => traffic.promote(version))
      logger.info({ model: model.name, version: text }, 'a model version is promoted')
      await model.reconcile(true, this.#isStopped)
      model.keep()
    })
  }

  /** @returns the version that calls go to from now on */
  async rollback(model: ServedModel): Promise<string> {
    const { earlier, defaultVersion } = model.traffic
    const version = earlier.at(-1)
    if (version === undefined) {
      const now = defaultVersion === undefined ? 'none was ever served' : `version ${defaultVersion} is the first`
      throw new MeshError(
        'FAILED_PRECONDITION',
        `model "${model.name}" has no earlier version to go back to: ${now} since the server started`,
      )
    }
    await this.promote(model, version)
    model.traffic.rolledBack(earlier.slice(0, -1))
    return version
  }

  /** Of labels or traffic, at once. Versions that nobody names any more may go then. */
  change(model: ServedModel, change: (traffic: ModelTraffic, loaded: ReadonlyMap<string, Servable>) => void): void {
    model.change(change)
    void model.turn(() => model.reconcile(false, this.#isStopped))
    model.keep()
  }

  /** At the process's end. */
  async dispose(): Promise<void> {
    for (const dispose of this.#overridden.values()) await dispose()
  }
}
