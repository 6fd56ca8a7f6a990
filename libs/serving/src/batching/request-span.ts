import type { MeshError } from '@spillway/core'
import { batchSpan, formatTraceParent, type Telemetry } from '@spillway/telemetry'

type Span = ReturnType<Telemetry['tracer']['startSpan']>

/** A request's span while it is in a model's queue and runs: how long it waited, with how many rows it was run, what the run took. */
export class RequestSpan {
  readonly #span: Span
  #batchRows = 0

  private constructor(span: Span) {
    this.#span = span
  }

  /** Undefined where spans are not recorded. Its parent is the caller's span. */
  static start(telemetry: Telemetry | undefined, model: string, version: string, rows: number): RequestSpan | undefined {
    if (telemetry?.recording !== true) return undefined
    const attributes = { 'spillway.model': model, 'spillway.model.version': version, 'spillway.rows': rows }
    return new RequestSpan(telemetry.tracer.startSpan('model infer', { attributes }))
  }

  /** W3C trace context, for the link of its run. */
  get traceParent(): string {
    return formatTraceParent(this.#span.spanContext())
  }

  /** Its rows, or some of them, go into a run of so many. */
  begun(batchRows: number, first: boolean): void {
    this.#batchRows = Math.max(this.#batchRows, batchRows)
    if (first) this.#span.addEvent('left the queue', { 'spillway.batch.rows': batchRows })
  }

  end(queueMs: number, computeMs: number, error: MeshError | undefined): void {
    this.#span.setAttributes({
      'spillway.queue.ms': queueMs,
      'spillway.compute.ms': computeMs,
      'spillway.batch.rows': this.#batchRows,
    })
    // OpenTelemetry's SpanStatusCode.ERROR
    if (error !== undefined) this.#span.setAttribute('error.type', error.code).setStatus({ code: 2, message: error.message })
    this.#span.end()
  }
}

/** Runs `fn` in a span for the run, linked to those of its requests. */
export function inRunSpan<T>(
  telemetry: Telemetry | undefined,
  model: string,
  version: string,
  rows: number,
  requests: readonly (RequestSpan | undefined)[],
  fn: () => Promise<T>,
): Promise<T> {
  if (telemetry?.recording !== true) return fn()
  const attributes = { 'spillway.model': model, 'spillway.model.version': version, 'spillway.batch.rows': rows }
  return batchSpan(
    telemetry,
    'model run',
    attributes,
    requests.map((request) => request?.traceParent ?? ''),
    fn,
  )
}
