import { type Clock, MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { VersionPolicy } from '../config/model-config.ts'
import type { ModelMetrics } from '../batching/model-metrics.ts'
import type { VersionStatus } from '../models.ts'
import type { TrafficStore } from '../traffic/kept-traffic.ts'
import { ModelTraffic } from '../traffic/model-traffic.ts'
import type { LifecycleMetrics } from './lifecycle-metrics.ts'
import { loadFingerprint, type LoadRequest } from './loader.ts'
import { Retirement } from './retirement.ts'
import type { Servable } from './servable.ts'
import type { SourceModel, SourceVersion } from './source.ts'
import { Turns } from './turns.ts'
import { VersionEntries } from './version-entries.ts'
import { aspiredVersions, newestFirst, nextAction, noneOfPolicy, type VersionView } from './version-policy.ts'

export interface ServedModelParts {
  readonly load: (request: LoadRequest) => Promise<Servable>
  readonly metrics: ModelMetrics
  readonly lifecycle: LifecycleMetrics
  readonly keptTraffic: TrafficStore | undefined
  readonly clock: Clock
  readonly logger: Telemetry['logger']
}

/** `isTold`: the caller says why nothing is loaded. `endsAtRefusal`: the first version that is refused ends it. */
type ReconcileOptions = { readonly isTold?: boolean; readonly endsAtRefusal?: boolean }

/** Why versions are unloaded. Those that are idle, or gave way to others, are loaded again when they are called. */
export type UnloadReason = 'replaced' | 'asked' | 'gone' | 'idle' | 'memory'

/**
 * One model: its versions as the source has them, as they are wanted, and as they are loaded. Changes are made one after the other (`turn`), but for what only
 * switches between loaded versions, which is done at once.
 */
export class ServedModel {
  readonly name: string
  readonly traffic: ModelTraffic
  /** Whether it should be served; else it is only known. */
  wanted = false
  /** Nothing of it is loaded until somebody calls it. */
  asleep = false
  /** Why the source could not say what it has of it, or has nothing. */
  problem: MeshError | undefined
  lastUsedMs = 0
  readonly #parts: ServedModelParts
  readonly #entries = new VersionEntries()
  readonly #loaded = new Map<string, Servable>()
  readonly #retirement: Retirement
  readonly #turns = new Turns()
  #source: SourceModel | undefined
  #seenLook = 0
  #toldUnmet: string | undefined

  constructor(name: string, parts: ServedModelParts) {
    this.name = name
    this.#parts = parts
    this.#retirement = new Retirement(parts.logger)
    this.traffic = new ModelTraffic(name, parts.lifecycle, parts.keptTraffic?.get(name), parts.logger)
  }

  get loaded(): ReadonlyMap<string, Servable> {
    return this.#loaded
  }

  get source(): SourceModel | undefined {
    return this.#source
  }

  /** Whether a change is under way, or somebody has a handle. */
  get busy(): boolean {
    return this.#turns.busy || [...this.#loaded.values()].some(({ uses }) => uses > 0)
  }

  /** Held, what is on its way out included. */
  get memoryBytes(): number {
    let bytes = 0
    for (const { parts } of [...this.#loaded.values(), ...this.#retirement.servables]) bytes += parts.memoryBytes
    return bytes
  }

  /** Why a version that should be served is not, or not as its files are now; the newest such version's, or why there is none that should be. */
  get error(): MeshError | undefined {
    const aspired = new Set(this.#aspired())
    return this.#entries.newest().find(({ version, error }) => error !== undefined && aspired.has(version))?.error ?? this.unmet
  }

  /** What the source has is nothing of what the version policy names. */
  get unmet(): MeshError | undefined {
    const versions = this.#source?.versions ?? []
    return this.wanted && versions.length > 0 && this.#desired().length === 0 ? noneOfPolicy(this.name, versions, this.#policy) : undefined
  }

  /** Of the newest version that was refused. */
  get lastError(): MeshError | undefined {
    return this.#entries.newest().find(({ error }) => error !== undefined)?.error
  }

  /** One change after the other. */
  turn<T>(change: () => Promise<T>): Promise<T> {
    return this.#turns.run(change)
  }

  /** What the source has, undefined for nothing; nothing is loaded or unloaded yet. `look` numbers the look that found it: one before the last seen is out of date. */
  see(source: SourceModel | undefined, look: number): void {
    if (look < this.#seenLook) return
    this.#seenLook = look
    this.#source = source
    if (source !== undefined) this.traffic.heed(source.labels, this.#loaded)
  }

  /** Labels or traffic, and at once the route that follows. */
  change(change: (traffic: ModelTraffic, loaded: ReadonlyMap<string, Servable>) => void): void {
    change(this.traffic, this.#loaded)
    this.traffic.compile(this.#loaded)
  }

  /** What was chosen outlasts the process from now on, where there is a place for it. @throws MeshError UNAVAILABLE where that cannot be; it is in effect all the same */
  keep(): void {
    this.#parts.keptTraffic?.set(this.name, this.traffic.kept)
  }

  /** Versions that failed are tried again, though nothing of them has changed. */
  forgive(): void {
    for (const entry of this.#entries.newest()) entry.forgive()
  }

  /** Loads, reloads and unloads until all is as it should be, or can be. Within a turn. Never rejects. */
  async reconcile(mayEvict: boolean, isStopped: () => boolean, { isTold, endsAtRefusal }: ReconcileOptions = {}): Promise<void> {
    const refused: string[] = []
    while (!isStopped()) {
      const action = nextAction(this.#views())
      if (action === undefined) break
      if (action.kind === 'unload') this.#unload(action.version, this.#inSource(action.version) === undefined ? 'gone' : 'replaced')
      else {
        const outcome = await this.#load(this.#inSource(action.version)!, mayEvict)
        if (outcome === 'no room' && this.#loaded.size === 0) {
          this.asleep = true
          break
        }
        if (outcome === 'refused') refused.push(action.version)
        if (outcome === 'refused' && endsAtRefusal === true) break
      }
    }
    const told = isTold === true && this.#loaded.size === 0 && !this.asleep ? this.error : undefined
    for (const version of refused) if (this.#entries.of(version).error !== told) this.#logRefused(version)
    this.#logUnmet(isTold === true)
    this.#entries.trim((version) => this.#inSource(version) !== undefined)
  }

  /** Loads the version where it is not, whatever the policy says. Within a turn. @throws MeshError why it is refused */
  async ensureLoaded(version: string, mayEvict: boolean): Promise<void> {
    if (this.#loaded.has(version)) return
    const found = this.#inSource(version)
    if (found === undefined) throw this.unknownVersion(version)
    await this.#load(found, mayEvict)
    const { error } = this.#entries.of(version)
    if (error === undefined) return
    this.#logRefused(version)
    throw error
  }

  unknownVersion(version: string): MeshError {
    const loaded = [...this.#loaded.keys()].toSorted(newestFirst)
    const those = loaded.length === 0 ? '' : ` (${loaded.length === 1 ? `version ${loaded[0]} is` : `versions ${loaded.join(', ')} are`})`
    return new MeshError('NOT_FOUND', `Request for unknown model: '${this.name}' version ${version} is not found${those}`)
  }

  /** @returns 'no room' where the memory budget has none for it, and nothing else is wrong */
  async #load(version: SourceVersion, mayEvict: boolean): Promise<'loaded' | 'refused' | 'no room'> {
    const { load, lifecycle, clock, logger } = this.#parts
    const model = this.#source!
    const entry = this.#entries.of(version.version)
    entry.loading(loadFingerprint(model, version))
    const served = this.#loaded.get(this.traffic.promoted ?? '') ?? this.traffic.route?.shares[0]!.servable
    try {
      const servable = await load({ model, version, served, mayEvict })
      lifecycle.load(this.name, 'loaded')
      entry.served()
      this.#publish(servable)
      return 'loaded'
    } catch (thrown) {
      const error = MeshError.from(thrown, 'INTERNAL')
      if (error.code === 'RESOURCE_EXHAUSTED' && !mayEvict && this.#loaded.size === 0) {
        entry.putOff(error)
        logger.info({ model: this.name, version: version.version, reason: error.message }, 'a model version is loaded when it is called')
        return 'no room'
      }
      entry.refused(error, clock.nowMs())
      lifecycle.load(this.name, 'refused')
      return 'refused'
    }
  }

  #logRefused(version: string): void {
    const served = [...this.#loaded.keys()].join(', ') || 'none'
    this.#parts.logger.error({ model: this.name, version, served, err: this.#entries.of(version).error }, 'a model version is refused')
  }

  /** Once for as long as it is so. */
  #logUnmet(isTold: boolean): void {
    const { unmet } = this
    if (unmet !== undefined && unmet.message !== this.#toldUnmet && !isTold)
      this.#parts.logger.error({ model: this.name, err: unmet }, 'a model is not served any more')
    this.#toldUnmet = unmet?.message
  }

  #publish(servable: Servable): void {
    const { metrics, lifecycle } = this.#parts
    const { version } = servable
    const before = this.#loaded.get(version)
    this.#loaded.set(version, servable)
    if (before !== undefined) void this.#retire(before, 'replaced')
    metrics.add(servable.parts.statistics)
    lifecycle.loaded(this.name, version, servable.parts.memoryBytes)
    this.lastUsedMs = this.#parts.clock.nowMs()
    if (this.#source !== undefined) this.traffic.heed(this.#source.labels, this.#loaded)
    this.traffic.compile(this.#loaded)
  }

  #unload(version: string, reason: UnloadReason): void {
    const servable = this.#loaded.get(version)
    if (servable === undefined) return
    this.#loaded.delete(version)
    if (reason === 'gone' || reason === 'asked') this.traffic.forget(version)
    this.traffic.compile(this.#loaded)
    const ended = this.#entries.of(version).unloading()
    void this.#retire(servable, reason).then(ended)
  }

  #retire(servable: Servable, reason: UnloadReason): Promise<void> {
    const { metrics, lifecycle } = this.#parts
    metrics.forget(servable.parts.statistics)
    lifecycle.unloaded(this.name, servable.version)
    lifecycle.unload(this.name, reason)
    return this.#retirement.add(servable, reason)
  }

  /** Unloads everything at once; what is called goes on to its answer. Resolves when its memory is free. */
  async unloadAll(reason: UnloadReason): Promise<void> {
    for (const version of this.#loaded.keys()) this.#unload(version, reason)
    await this.#retirement.done()
  }

  /** At the process's end. */
  async close(): Promise<void> {
    const servables = [...this.#loaded.values(), ...this.#retirement.servables]
    const unloaded = this.unloadAll('asked')
    await Promise.all(servables.map((servable) => servable.close()))
    await unloaded
  }

  /** Newest first. */
  statuses(): readonly VersionStatus[] {
    return this.#entries.statuses(this.name, this.#aspired(), this.traffic.labels)
  }

  /** Whether the version would be served if the model were awake. */
  isAspired(version: string): boolean {
    return this.#desired().includes(version)
  }

  /** What should be loaded now. */
  #aspired(): readonly string[] {
    return this.wanted && !this.asleep ? this.#desired() : []
  }

  #desired(): readonly string[] {
    const source = this.#source
    if (source === undefined) return []
    const { promoted, held } = this.traffic
    const rewritten = source.unsettled.filter((version) => this.#loaded.has(version))
    const available = [...source.versions.map(({ version }) => version), ...rewritten]
    return aspiredVersions({ policy: this.#policy, available, promoted, held })
  }

  get #policy(): VersionPolicy {
    return this.#source?.policy ?? this.#source?.config?.versionPolicy ?? { kind: 'latest', count: 1 }
  }

  #inSource(version: string): SourceVersion | undefined {
    return this.#source?.versions.find((candidate) => candidate.version === version)
  }

  #views(): VersionView[] {
    const aspired = new Set(this.#aspired())
    const nowMs = this.#parts.clock.nowMs()
    return [...new Set([...aspired, ...this.#loaded.keys()])].map((version): VersionView => {
      const source = this.#inSource(version)
      const fingerprint = source === undefined ? undefined : loadFingerprint(this.#source!, source)
      const mayTry = fingerprint !== undefined && (this.#entries.get(version)?.mayTry(fingerprint, nowMs) ?? true)
      const servable = this.#loaded.get(version)
      if (servable === undefined) return { version, aspired: aspired.has(version), state: mayTry ? 'absent' : 'refused', changed: false }
      const changed = mayTry && servable.parts.fingerprint !== fingerprint
      return { version, aspired: aspired.has(version), state: 'available', changed }
    })
  }
}
