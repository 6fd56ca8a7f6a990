import { availableParallelism } from 'node:os'
import { type Clock, type Component, MeshError, systemClock } from '@spillway/core'
import { ModelMetrics } from '../batching/model-metrics.ts'
import { EnsembleBackend } from '../backends/ensemble/ensemble-backend.ts'
import { modelConfigParsers } from '../config/parse-model-config.ts'
import type { LoadOverrides, ModelHandle, Models, ModelStatistics, Traffic, VersionChoice, VersionStatus } from '../models.ts'
import { DirectorySource } from './directory-source.ts'
import { outermostFirst, stepsOf } from './ensemble-order.ts'
import { LifecycleMetrics } from './lifecycle-metrics.ts'
import { Loader } from './loader.ts'
import type { ModelManagerOptions } from './manager-options.ts'
import { MemoryEstimate } from './memory-budget.ts'
import { ModelControl } from './model-control.ts'
import { ModelSet } from './model-set.ts'
import { OnDemand } from './on-demand.ts'
import { Poller } from './poller.ts'
import { Readiness } from './readiness.ts'
import type { ServedModel } from './served-model.ts'
import { Turns } from './turns.ts'
import { versionOf } from './version-policy.ts'

const defaultPollMs = 15_000
const defaultLoadWaitMs = 30_000
const noChoice: VersionChoice = {}

/** Loads versions of models as their source and its mode say, and hands out handles to them. */
export class ModelManager implements Component, Models {
  readonly #options: ModelManagerOptions
  readonly #clock: Clock
  readonly #set: ModelSet
  readonly #control: ModelControl
  readonly #onDemand: OnDemand
  readonly #readiness: Readiness
  readonly #poller: Poller | undefined
  readonly #stop = new AbortController()
  #started = false
  #drained: Promise<void> | undefined

  constructor(options: ModelManagerOptions) {
    const { telemetry, mode = 'none', pollMs = defaultPollMs, clock = systemClock } = options
    const { logger } = telemetry
    this.#options = options
    this.#clock = clock
    const parsers = modelConfigParsers(logger)
    const source = options.source ?? new DirectorySource({ ...options, ...parsers })
    const isStopped = (): boolean => this.#stop.signal.aborted
    this.#onDemand = new OnDemand({
      models: () => this.#set.all(),
      memoryBudgetBytes: options.memoryBudgetBytes,
      idleUnloadMs: options.idleUnloadMs,
      loadWaitMs: options.loadWaitMs ?? defaultLoadWaitMs,
      clock,
      isStopped,
    })
    const loader = this.#loader()
    // What is measured at a load (its place, its memory) should not be disturbed by the next.
    const loads = new Turns()
    this.#set = new ModelSet(source, options.models, {
      // An ensemble holds nothing itself, and may ask for its steps to be loaded: it must not stand before them.
      load: (request) =>
        request.model.config?.backend === 'ensemble'
          ? loader.load(request, this.#stop.signal)
          : loads.run(() => loader.load(request, this.#stop.signal)),
      metrics: new ModelMetrics(telemetry.registry),
      lifecycle: new LifecycleMetrics(telemetry.registry),
      keptTraffic: options.keptTraffic,
      clock,
      logger,
    })
    this.#readiness = new Readiness(this.#set, this.#onDemand)
    const { signal } = this.#stop
    this.#control = new ModelControl({ set: this.#set, source, mode, options, parsers, signal, logger, onDemand: this.#onDemand })
    if (mode === 'poll')
      this.#poller = new Poller({
        look: () => this.#control.lookAgain(),
        pollMs,
        settleMs: source.settleMs,
        watch: (changed) => source.watch?.(changed) ?? (() => undefined),
        logger,
      })
  }

  #loader(): Loader {
    const {
      workers,
      onnxWorkers = Math.max(1, availableParallelism() >> 1),
      threadsPerRun,
      batching = {},
      expects = new Map(),
      residentBytes = processBytes,
      telemetry,
    } = this.#options
    return new Loader({
      defaults: {
        ...(workers === undefined ? {} : { instanceCount: workers }),
        onnxInstanceCount: onnxWorkers,
        ...(threadsPerRun === undefined ? {} : { threadsPerRun }),
      },
      batching,
      expects,
      telemetry,
      memory: new MemoryEstimate(),
      residentBytes,
      models: () => this,
      ensembles: () => this.#ensembles(),
      makeRoom: (model, neededBytes, mayEvict) => this.#onDemand.makeRoom(model, neededBytes, mayEvict),
    })
  }

  *#ensembles(): Iterable<EnsembleBackend> {
    for (const { loaded } of this.#set.all())
      for (const { parts } of loaded.values()) if (parts.backend instanceof EnsembleBackend) yield parts.backend
  }

  get ready(): boolean {
    if (!this.#started || this.#stop.signal.aborted) return false
    return this.#options.strictReadiness === false || this.#readiness.firstMissing() === undefined
  }

  unready(name?: string): string | undefined {
    if (!this.#started || this.#stop.signal.aborted) return undefined
    const model = name === undefined ? this.#readiness.firstMissing() : this.#known(name)
    return model && this.#readiness.whyNot(model)
  }

  /** @throws MeshError naming the path, and what was expected there, of the first model that cannot be served. */
  async start(signal: AbortSignal): Promise<void> {
    try {
      await this.#control.start(signal)
    } catch (error) {
      await this.drain()
      throw error
    }
    this.#started = true
    this.#onDemand.start()
    this.#poller?.start()
  }

  /** Answers what was taken, then unloads every model. */
  drain(): Promise<void> {
    this.#drained ??= this.#drain()
    return this.#drained
  }

  async #drain(): Promise<void> {
    this.#stop.abort(new MeshError('UNAVAILABLE', 'the server is stopping'))
    this.#onDemand.stop()
    await this.#poller?.stop()
    const close = (model: ServedModel): Promise<void> => model.turn(() => model.close())
    const models = outermostFirst([...this.#set.all()])
    const isEnsemble = ({ source }: ServedModel): boolean => stepsOf(source).length > 0
    // What an ensemble has taken is answered while its models still can.
    for (const model of models.filter(isEnsemble)) await close(model)
    await Promise.all(models.map(close))
    await this.#control.dispose()
  }

  names(): readonly string[] {
    return Array.from(this.#set.all(), ({ name }) => name).toSorted()
  }

  statuses(name: string): readonly VersionStatus[] {
    return this.#known(name).statuses()
  }

  problem(name: string): MeshError | undefined {
    const model = this.#known(name)
    return model.problem ?? model.unmet
  }

  isReady(name: string, choice: VersionChoice = noChoice): boolean {
    const model = this.#set.get(name)
    if (model === undefined || this.#stop.signal.aborted) return false
    const version = chosenVersion(model, choice)
    if (version === null) return this.#readiness.isServed(model)
    return (
      version !== undefined &&
      this.#readiness.isServed(model) &&
      (model.loaded.has(version) || (this.#onDemand.isAsleep(model) && model.isAspired(version)))
    )
  }

  acquire(name: string, choice: VersionChoice = noChoice): ModelHandle | Promise<ModelHandle> {
    const model = this.#set.get(name)
    if (model === undefined) throw this.#unknown(name)
    const handle = this.#pick(model, choice)
    if (handle !== undefined) return handle
    if (this.#onDemand.isAsleep(model) && !this.#stop.signal.aborted) return this.#acquireAsleep(model, choice)
    throw this.#unavailable(model)
  }

  /** @throws MeshError NOT_FOUND, FAILED_PRECONDITION where the choice is one that a loaded model cannot meet */
  #pick(model: ServedModel, choice: VersionChoice): ModelHandle | undefined {
    const version = chosenVersion(model, choice)
    if (version === undefined) {
      if (choice.version) throw model.unknownVersion(choice.version)
      throw new MeshError('FAILED_PRECONDITION', `model '${model.name}' has no version with label '${choice.label}'`, { field: 'label' })
    }
    const handle = version === null ? model.traffic.route?.acquire(choice.key) : model.loaded.get(version)?.acquire()
    if (handle !== undefined) model.lastUsedMs = this.#clock.nowMs()
    else if (version !== null && (model.loaded.size > 0 || (this.#onDemand.isAsleep(model) && !model.isAspired(version))))
      throw model.unknownVersion(version)
    return handle
  }

  async #acquireAsleep(model: ServedModel, choice: VersionChoice): Promise<ModelHandle> {
    // Others may need its memory again before this call goes on: then once more.
    for (let attempt = 0; attempt < 3; attempt++) {
      try {
        await this.#onDemand.wake(model)
      } catch (thrown) {
        const error = MeshError.from(thrown)
        throw error.retryable ? error : this.#unavailable(model, error)
      }
      const handle = this.#pick(model, choice)
      if (handle !== undefined) return handle
    }
    throw this.#unavailable(model)
  }

  #known(name: string): ServedModel {
    const model = this.#set.get(name)
    if (model === undefined) throw this.#unknown(name)
    return model
  }

  #unknown(name: string): MeshError {
    if (!this.#started || this.#stop.signal.aborted)
      return new MeshError('UNAVAILABLE', `model '${name}' is not loaded: the server is starting or stopping`)
    return new MeshError('NOT_FOUND', `Request for unknown model: '${name}' is not found`)
  }

  /** Known, and nothing of it is loaded. */
  #unavailable(model: ServedModel, cause: MeshError | undefined = model.lastError ?? model.problem ?? model.unmet): MeshError {
    if (this.#stop.signal.aborted || (!this.#started && cause === undefined)) return this.#unknown(model.name)
    const why = cause === undefined ? '' : `: ${cause.message}`
    return new MeshError('UNAVAILABLE', `Request for unknown model: '${model.name}' has no available versions${why}`, { cause })
  }

  statistics(name?: string, version?: string): readonly ModelStatistics[] {
    const models = name === undefined || name === '' ? [...this.#set.all()] : [this.#known(name)]
    const servables = models.flatMap(({ loaded }) => [...loaded.values()])
    if (!version) return servables.map(({ parts }) => parts.statistics.snapshot())
    const found = servables.find((servable) => servable.version === versionOf(version))
    if (found === undefined) throw models[0]!.unknownVersion(version)
    return [found.parts.statistics.snapshot()]
  }

  load(name: string, overrides?: LoadOverrides): Promise<void> {
    return this.#control.load(name, overrides)
  }

  unload(name: string, options?: { readonly dependents?: boolean }): Promise<void> {
    return this.#control.unload(this.#known(name), options?.dependents === true)
  }

  /** `latest` for the version: from now on the newest is the default one again. */
  promote(name: string, version: string): Promise<void> {
    return this.#control.promote(this.#known(name), version)
  }

  rollback(name: string): Promise<string> {
    return this.#control.rollback(this.#known(name))
  }

  defaultVersion(name: string): string | undefined {
    const model = this.#known(name)
    return this.#readiness.isServed(model) ? model.traffic.defaultVersion : undefined
  }

  labels(name: string): ReadonlyMap<string, string> {
    return new Map(this.#known(name).traffic.labels)
  }

  setLabel(name: string, label: string, version: string | undefined): void {
    this.#control.change(this.#known(name), (traffic, loaded) => traffic.setLabel(label, version, loaded))
  }

  traffic(name: string): Traffic {
    return this.#known(name).traffic.traffic
  }

  setTraffic(name: string, traffic: Traffic): void {
    this.#control.change(this.#known(name), (current, loaded) => current.setTraffic(traffic, loaded))
  }
}

function processBytes(): number {
  return process.memoryUsage.rss()
}

/** The version that a caller names, by itself or by a label; null where it names none, undefined where there is none of that name. */
function chosenVersion({ traffic }: ServedModel, { version, label }: VersionChoice): string | null | undefined {
  if (version) return versionOf(version)
  return label ? traffic.labels.get(label) : null
}
