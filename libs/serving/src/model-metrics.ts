import { Counter, Gauge, Histogram, type Registry } from 'prom-client'

/** What one version of one model reports. */
export interface ServableMetrics {
  request(outcome: string, rowCount: number): void
  batch(rowCount: number, computeMs: number): void
  queued(waitedMs: number): void
  queuedRows(rows: number): void
}

const names = ['model', 'version'] as const
type Label = (typeof names)[number]

const secondsBuckets = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
const rowBuckets = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]

/** The registry's metrics of all models: made where they are new, since two managers may share a registry. */
export class ModelMetrics {
  readonly #requests: Counter<Label | 'code'>
  readonly #rows: Counter<Label>
  readonly #batchRows: Histogram<Label>
  readonly #queueSeconds: Histogram<Label>
  readonly #computeSeconds: Histogram<Label>
  readonly #queuedRows: Gauge<Label>

  constructor(registry: Registry) {
    const registers = [registry]
    const known = <Metric>(name: string, make: () => Metric): Metric => (registry.getSingleMetric(name) as Metric | undefined) ?? make()
    const histogram = (name: string, help: string, buckets: number[]): Histogram<Label> =>
      known(name, () => new Histogram({ name, help, buckets, labelNames: names, registers }))
    this.#requests = known(
      'spillway_model_requests_total',
      () =>
        new Counter({
          name: 'spillway_model_requests_total',
          help: 'Inference requests by gRPC code',
          labelNames: [...names, 'code'] as const,
          registers,
        }),
    )
    this.#rows = known(
      'spillway_model_rows_total',
      () => new Counter({ name: 'spillway_model_rows_total', help: 'Rows of answered inference requests', labelNames: names, registers }),
    )
    this.#batchRows = histogram('spillway_model_batch_rows', 'Rows of a run', rowBuckets)
    this.#queueSeconds = histogram('spillway_model_queue_seconds', 'From a request’s arrival to the start of its run', secondsBuckets)
    this.#computeSeconds = histogram('spillway_model_compute_seconds', 'Duration of a run, the hop to its worker included', secondsBuckets)
    this.#queuedRows = known(
      'spillway_model_queue_rows',
      () => new Gauge({ name: 'spillway_model_queue_rows', help: 'Rows that wait for a run', labelNames: names, registers }),
    )
  }

  of(model: string, version: string): ServableMetrics {
    const answered = this.#requests.labels(model, version, 'OK')
    const rows = this.#rows.labels(model, version)
    const batchRows = this.#batchRows.labels(model, version)
    const queueSeconds = this.#queueSeconds.labels(model, version)
    const computeSeconds = this.#computeSeconds.labels(model, version)
    const queuedRows = this.#queuedRows.labels(model, version)
    return {
      request: (code, rowCount) => {
        if (code !== 'OK') return this.#requests.labels(model, version, code).inc()
        answered.inc()
        rows.inc(rowCount)
      },
      batch: (rowCount, computeMs) => {
        batchRows.observe(rowCount)
        computeSeconds.observe(computeMs / 1000)
      },
      queued: (waitedMs) => queueSeconds.observe(waitedMs / 1000),
      queuedRows: (count) => queuedRows.set(count),
    }
  }
}
