import { Counter, Gauge, type Registry } from 'prom-client'

/** Of copies that one version is given of a model's calls. */
export interface ShadowMetrics {
  call(outcome: 'same' | 'different' | 'failed' | 'dropped'): void
  rows(compared: number, differing: number): void
}

/** What the manager reports of models and their versions, in the registry that several managers may share. */
export class LifecycleMetrics {
  readonly #loads: Counter<'model' | 'outcome'>
  readonly #unloads: Counter<'model' | 'reason'>
  readonly #memory: Gauge<'model' | 'version'>
  readonly #share: Gauge<'model' | 'version'>
  readonly #shadowCalls: Counter<'model' | 'version' | 'outcome'>
  readonly #shadowRows: Counter<'model' | 'version'>
  readonly #shadowDifferent: Counter<'model' | 'version'>

  constructor(registry: Registry) {
    const registers = [registry]
    const known = <Metric>(name: string, make: (name: string) => Metric): Metric =>
      (registry.getSingleMetric(name) as Metric | undefined) ?? make(name)
    const counter = <Label extends string>(name: string, help: string, ...labelNames: Label[]): Counter<Label> =>
      known(name, () => new Counter({ name, help, labelNames, registers }))
    const gauge = (name: string, help: string): Gauge<'model' | 'version'> =>
      known(name, () => new Gauge({ name, help, labelNames: ['model', 'version'] as const, registers }))
    this.#loads = counter('spillway_model_loads_total', 'Loads of versions by outcome: loaded or refused', 'model', 'outcome')
    this.#unloads = counter(
      'spillway_model_unloads_total',
      'Unloads of versions by reason: replaced, asked, idle or memory',
      'model',
      'reason',
    )
    this.#memory = gauge('spillway_model_memory_bytes', 'What a loaded version is taken to hold of the memory')
    this.#share = gauge('spillway_model_traffic_share', 'Part of the calls without a version that a version is given')
    this.#shadowCalls = counter(
      'spillway_model_shadow_calls_total',
      'Copies of calls by outcome of the comparison',
      'model',
      'version',
      'outcome',
    )
    this.#shadowRows = counter('spillway_model_shadow_rows_total', 'Rows of copies whose answers were compared', 'model', 'version')
    this.#shadowDifferent = counter(
      'spillway_model_shadow_different_rows_total',
      'Rows that a shadow answered differently',
      'model',
      'version',
    )
  }

  load(model: string, outcome: 'loaded' | 'refused'): void {
    this.#loads.inc({ model, outcome })
  }

  unload(model: string, reason: string): void {
    this.#unloads.inc({ model, reason })
  }

  loaded(model: string, version: string, memoryBytes: number): void {
    this.#memory.set({ model, version }, memoryBytes)
  }

  unloaded(model: string, version: string): void {
    this.#memory.remove({ model, version })
    this.#share.remove({ model, version })
  }

  /** Of the model's loaded versions. */
  shares(model: string, shares: ReadonlyMap<string, number>): void {
    for (const [version, share] of shares) this.#share.set({ model, version }, share)
  }

  /** @param version of the shadow */
  shadow(model: string, version: string): ShadowMetrics {
    return {
      call: (outcome) => this.#shadowCalls.inc({ model, version, outcome }),
      rows: (compared, differing) => {
        this.#shadowRows.inc({ model, version }, compared)
        this.#shadowDifferent.inc({ model, version }, differing)
      },
    }
  }
}
