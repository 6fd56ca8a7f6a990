import type { Metric, Registry } from 'prom-client'
import type { Buckets } from './buckets.ts'
import { ServableStatistics } from './statistics.ts'

type Labels = Readonly<Record<string, string>>

/** One line of the text format. */
interface Sample {
  readonly metricName?: string
  readonly labels: Labels
  readonly value: number
}

/** What the registry asks of a metric; the values are read from the statistics when it is scraped. */
interface Collected {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly read: (statistics: ServableStatistics, labels: Labels) => Iterable<Sample>
}

const us = (ms: number): number => Math.round(ms * 1000)

function one(type: 'counter' | 'gauge', name: string, help: string, value: (statistics: ServableStatistics) => number): Collected {
  return { name, help, type, read: (statistics, labels) => [{ labels, value: value(statistics) }] }
}

function histogram(name: string, help: string, buckets: (statistics: ServableStatistics) => Buckets): Collected {
  return { name, help, type: 'histogram', read: (statistics, labels) => bucketSamples(name, labels, buckets(statistics)) }
}

function* bucketSamples(name: string, labels: Labels, { bounds, counts, sum }: Buckets): Iterable<Sample> {
  let cumulative = 0
  for (let i = 0; i < counts.length; i++) {
    cumulative += counts[i]!
    yield { metricName: `${name}_bucket`, labels: { ...labels, le: String(bounds[i] ?? '+Inf') }, value: cumulative }
  }
  yield { metricName: `${name}_sum`, labels, value: sum }
  yield { metricName: `${name}_count`, labels, value: cumulative }
}

/** Named and counted as Triton's (its metrics document): durations are sums in µs over requests, `nv_inference_count` counts rows. */
const tritonMetrics: readonly Collected[] = [
  one('counter', 'nv_inference_request_success', 'Inference requests answered', ({ success }) => success.count),
  {
    name: 'nv_inference_request_failure',
    help: 'Inference requests refused or failed, by reason',
    type: 'counter',
    read: ({ failuresByReason }, labels) => Array.from(failuresByReason, ([reason, value]) => ({ labels: { ...labels, reason }, value })),
  },
  one('counter', 'nv_inference_count', 'Rows of answered inference requests', (statistics) => statistics.inferenceCount),
  one('counter', 'nv_inference_exec_count', 'Runs of the model', (statistics) => statistics.executionCount),
  one('counter', 'nv_inference_request_duration_us', 'From a request’s arrival to its answer, summed', ({ success }) => us(success.ms)),
  one('counter', 'nv_inference_queue_duration_us', 'From a request’s arrival to the start of its run, summed', ({ queue }) => us(queue.ms)),
  one('counter', 'nv_inference_compute_input_duration_us', 'Inputs of a run put together, summed over requests', ({ computeInput }) =>
    us(computeInput.ms),
  ),
  one('counter', 'nv_inference_compute_infer_duration_us', 'Runs, summed over requests', ({ computeInfer }) => us(computeInfer.ms)),
  one('counter', 'nv_inference_compute_output_duration_us', 'Outputs of a run taken apart, summed over requests', ({ computeOutput }) =>
    us(computeOutput.ms),
  ),
  one('gauge', 'nv_inference_pending_request_count', 'Requests that wait for a run', ({ pendingRequests }) => pendingRequests),
]

const ownMetrics: readonly Collected[] = [
  {
    name: 'spillway_model_requests_total',
    help: 'Inference requests by gRPC code',
    type: 'counter',
    *read({ success, failuresByCode }, labels) {
      yield { labels: { ...labels, code: 'OK' }, value: success.count }
      for (const [code, value] of failuresByCode) yield { labels: { ...labels, code }, value }
    },
  },
  one('counter', 'spillway_model_rows_total', 'Rows of answered inference requests', (statistics) => statistics.inferenceCount),
  one('gauge', 'spillway_model_queue_rows', 'Rows that wait for a run', ({ queuedRows }) => queuedRows),
  histogram('spillway_model_batch_rows', 'Rows of a run', ({ batchRows }) => batchRows),
  histogram('spillway_model_queue_seconds', 'From a request’s arrival to the start of its run', ({ queueSeconds }) => queueSeconds),
  histogram('spillway_model_compute_seconds', 'Duration of a run, the hop to its worker included', ({ computeSeconds }) => computeSeconds),
]

/** Statistics of the versions whose metrics a registry gives: what this class keeps on the registry. */
class CollectedMetric {
  readonly name: string
  readonly help: string
  readonly type: string
  readonly aggregator = 'sum'
  readonly #collected: Collected
  readonly served = new Set<ServableStatistics>()

  constructor(collected: Collected, registry: Registry) {
    this.name = collected.name
    this.help = collected.help
    this.type = collected.type
    this.#collected = collected
    registry.registerMetric(this as unknown as Metric)
  }

  get(): Promise<object> {
    const values: Sample[] = []
    for (const statistics of this.served)
      values.push(...this.#collected.read(statistics, { model: statistics.model, version: statistics.version }))
    return Promise.resolve({ name: this.name, help: this.help, type: this.type, aggregator: this.aggregator, values })
  }

  reset(): void {
    this.served.clear()
  }
}

/** The registry's metrics of all models: made where they are new, since several managers may share a registry. */
export class ModelMetrics {
  readonly #metrics: readonly CollectedMetric[]

  constructor(registry: Registry) {
    this.#metrics = [...tritonMetrics, ...ownMetrics].map(
      (collected) =>
        (registry.getSingleMetric(collected.name) as unknown as CollectedMetric | undefined) ?? new CollectedMetric(collected, registry),
    )
  }

  /** Counters of a version, from 0, and seen by every scrape from now on. */
  of(model: string, version: string): ServableStatistics {
    const statistics = new ServableStatistics(model, version)
    this.add(statistics)
    return statistics
  }

  /** Every scrape sees them until they are forgotten: of one version once. */
  add(statistics: ServableStatistics): void {
    for (const { served } of this.#metrics) served.add(statistics)
  }

  /** The version is unloaded: its series end. */
  forget(statistics: ServableStatistics): void {
    for (const { served } of this.#metrics) served.delete(statistics)
  }
}
