import { MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { LifecycleMetrics } from '../lifecycle/lifecycle-metrics.ts'
import type { Servable } from '../lifecycle/servable.ts'
import { newestFirst, versionOf } from '../lifecycle/version-policy.ts'
import type { Traffic } from '../models.ts'
import type { KeptTraffic } from './kept-traffic.ts'
import { Route, type RouteShadow, type RouteShare } from './route.ts'
import { Shadow } from './shadow.ts'
import { checkTraffic } from './split.ts'

type Loaded = ReadonlyMap<string, Servable>

/** What a target of traffic begins with that is a label's. */
const labelPrefix = 'label:'

/** How far back one can roll. */
const mostEarlier = 16

/** Which of a model's versions is called: the promoted one, its labels, its traffic; and the route that follows from them. */
export class ModelTraffic {
  readonly #model: string
  readonly #metrics: LifecycleMetrics
  readonly #labels = new Map<string, string>()
  /** Labels of an earlier process, for as long as their versions are not loaded. */
  readonly #coming: Map<string, string>
  /** Labels as the source wished them when they were last heeded: a label that was moved since is not moved back. */
  readonly #heeded: Map<string, string>
  #traffic: Traffic
  #promoted: string | undefined
  #route: Route | undefined
  /** The version that calls go to where there is no split; the last one while nothing is loaded. */
  #default: string | undefined
  /** Those that were it before, the latest last. */
  #earlier: readonly string[] = []

  /** @param kept what was chosen in an earlier process */
  constructor(model: string, metrics: LifecycleMetrics, kept: KeptTraffic | undefined, logger: Telemetry['logger']) {
    if (kept !== undefined) logger.info({ model, ...kept }, 'calls of a model go on as they were directed before the start')
    this.#model = model
    this.#metrics = metrics
    this.#coming = new Map(Object.entries(kept?.labels ?? {}))
    this.#heeded = new Map(Object.entries(kept?.heeded ?? {}))
    this.#traffic = kept?.traffic ?? { split: [] }
    this.#promoted = kept?.promoted
  }

  /** What a later process is to go on with. */
  get kept(): KeptTraffic {
    return {
      ...(this.#promoted !== undefined && { promoted: this.#promoted }),
      labels: Object.fromEntries([...this.#coming, ...this.#labels]),
      heeded: Object.fromEntries(this.#heeded),
      traffic: this.#traffic,
    }
  }

  get labels(): ReadonlyMap<string, string> {
    return this.#labels
  }

  get traffic(): Traffic {
    return this.#traffic
  }

  get promoted(): string | undefined {
    return this.#promoted
  }

  get defaultVersion(): string | undefined {
    return this.#default
  }

  /** Versions that were the default one before this, the latest last. */
  get earlier(): readonly string[] {
    return this.#earlier
  }

  /** The version that was the default one last is it again: what came after it is none to go back to. */
  rolledBack(earlier: readonly string[]): void {
    this.#earlier = earlier
  }

  /** Undefined while nothing is loaded. */
  get route(): Route | undefined {
    return this.#route
  }

  /** Versions that stay loaded though the policy would let them go. */
  get held(): ReadonlySet<string> {
    const targets = [...this.#traffic.split, ...(this.#traffic.shadow === undefined ? [] : [this.#traffic.shadow])]
    return new Set([...this.#labels.values(), ...this.#coming.values(), ...targets.flatMap(({ to }) => this.#resolve(to) ?? [])])
  }

  /** All calls that name no version go to this one; undefined: to the newest. A split ends by it, as one that would send calls past the promoted version. */
  promote(version: string | undefined): void {
    this.#promoted = version
    this.#traffic = { ...this.#traffic, split: [] }
  }

  /** @throws MeshError FAILED_PRECONDITION where a version is not loaded, INVALID_ARGUMENT naming the weight */
  setTraffic(traffic: Traffic, loaded: Loaded): void {
    checkTraffic(traffic)
    for (const [index, { to }] of traffic.split.entries()) this.#mustBeLoaded(to, `split[${index}].to`, loaded)
    if (traffic.shadow !== undefined) this.#mustBeLoaded(traffic.shadow.to, 'shadow.to', loaded)
    this.#traffic = traffic
  }

  /** @throws MeshError FAILED_PRECONDITION where the version is not loaded */
  setLabel(label: string, version: string | undefined, loaded: Loaded): void {
    if (label === '') throw new MeshError('INVALID_ARGUMENT', 'a label needs a name', { field: 'label' })
    if (version === undefined) this.#labels.delete(label)
    else this.#labels.set(label, this.#mustBeLoaded(version, 'version', loaded))
    this.#coming.delete(label)
  }

  /** Sets the source's labels that stand for loaded versions, each once for as long as the source says the same; one that it has no longer goes, unless it was moved. */
  heed(wishes: ReadonlyMap<string, string>, loaded: Loaded): void {
    for (const [label, version] of this.#coming)
      if (loaded.has(version)) {
        this.#labels.set(label, version)
        this.#coming.delete(label)
      }
    for (const [label, version] of this.#heeded) {
      if (wishes.has(label)) continue
      this.#heeded.delete(label)
      for (const labels of [this.#labels, this.#coming]) if (labels.get(label) === version) labels.delete(label)
    }
    for (const [label, text] of wishes) {
      const version = versionOf(text)
      if (version === undefined || this.#heeded.get(label) === version || !loaded.has(version)) continue
      this.#labels.set(label, version)
      this.#coming.delete(label)
      this.#heeded.set(label, version)
    }
  }

  /** The version is gone for good: so are its labels. */
  forget(version: string): void {
    for (const [label, of] of this.#labels) if (of === version) this.#labels.delete(label)
    for (const [label, of] of this.#heeded) if (of === version) this.#heeded.delete(label)
  }

  /** Follows what is loaded now: calls that come after go by it. */
  compile(loaded: Loaded): void {
    const newest = [...loaded.keys()].toSorted(newestFirst)[0]
    const main = loaded.get(this.#promoted ?? '') ?? (newest === undefined ? undefined : loaded.get(newest))
    if (main !== undefined) this.#isDefault(main.version)
    const shares = this.#traffic.split.flatMap(({ to, weight }): RouteShare[] => {
      const servable = loaded.get(this.#resolve(to) ?? '')
      return servable === undefined || weight === 0 ? [] : [{ servable, weight }]
    })
    if (shares.length === 0 && main !== undefined) shares.push({ servable: main, weight: 1 })
    this.#route = shares.length === 0 ? undefined : new Route(this.#model, shares, this.#shadow(loaded))
    this.#report(loaded, shares)
  }

  #isDefault(version: string): void {
    if (version === this.#default) return
    if (this.#default !== undefined) this.#earlier = [...this.#earlier, this.#default].slice(-mostEarlier)
    this.#default = version
  }

  #shadow(loaded: Loaded): RouteShadow | undefined {
    const { shadow } = this.#traffic
    const servable = shadow === undefined ? undefined : loaded.get(this.#resolve(shadow.to) ?? '')
    if (shadow === undefined || servable === undefined || shadow.fraction === 0) return undefined
    const to = new Shadow(() => servable.acquire(), this.#metrics.shadow(this.#model, servable.version))
    return { to, servable, fraction: shadow.fraction }
  }

  #report(loaded: Loaded, shares: readonly RouteShare[]): void {
    const total = shares.reduce((sum, { weight }) => sum + weight, 0)
    const parts = new Map(Array.from(loaded.keys(), (version) => [version, 0]))
    for (const { servable, weight } of shares) parts.set(servable.version, parts.get(servable.version)! + weight / total)
    this.#metrics.shares(this.#model, parts)
  }

  /** The version that a target stands for. */
  #resolve(to: string): string | undefined {
    return to.startsWith(labelPrefix) ? this.#labels.get(to.slice(labelPrefix.length)) : versionOf(to)
  }

  #mustBeLoaded(to: string, field: string, loaded: Loaded): string {
    const version = this.#resolve(to)
    if (version !== undefined && loaded.has(version)) return version
    const those = [...loaded.keys()].toSorted(newestFirst).join(', ') || 'none'
    throw new MeshError('FAILED_PRECONDITION', `model "${this.#model}": ${to} is not loaded: its loaded versions are ${those}`, { field })
  }
}
