import { Counter, type Registry } from 'prom-client'

/** A counter's series, with its running total for whoever reads it in the process. */
export interface CountedSeries<L extends string> {
  readonly labels: Readonly<Record<L, string>>
  readonly total: number
}

/** A Prometheus counter whose label children are looked up by plain strings, once a batch. */
export class Counted<L extends string> {
  readonly #counter: Counter<L>
  readonly #labelNames: readonly L[]
  readonly #series = new Map<string, { labels: Readonly<Record<L, string>>; child: Counter.Internal; total: number }>()

  constructor(registry: Registry, name: string, help: string, labelNames: readonly L[]) {
    this.#counter = new Counter({ name, help, labelNames, registers: [registry] })
    this.#labelNames = labelNames
  }

  /** @param labelValues in the order of the label names. */
  add(count: number, ...labelValues: readonly string[]): void {
    if (count === 0) return
    const key = labelValues.length === 1 ? labelValues[0]! : labelValues.join('\0')
    let series = this.#series.get(key)
    if (series === undefined) {
      const labels = Object.fromEntries(this.#labelNames.map((name, i) => [name, labelValues[i]!])) as Record<L, string>
      series = { labels, child: this.#counter.labels(...labelValues), total: 0 }
      this.#series.set(key, series)
    }
    series.child.inc(count)
    series.total += count
  }

  totals(): readonly CountedSeries<L>[] {
    return Array.from(this.#series.values(), ({ labels, total }) => ({ labels, total }))
  }
}
