import type { Metadata } from '@grpc/grpc-js'
import { isSpanContextValid, type SpanContext } from '@opentelemetry/api'
import { formatTraceParent } from '@spillway/telemetry'

/** First value of a text header; '' where there is none. */
export function headerText(metadata: Metadata, name: string): string {
  const [value] = metadata.get(name)
  return typeof value === 'string' ? value : ''
}

/** Writes `traceparent` and `tracestate` of the span; nothing where there is none. */
export function injectTrace(span: SpanContext | undefined, metadata: Metadata): void {
  if (span === undefined || !isSpanContextValid(span)) return
  metadata.set('traceparent', formatTraceParent(span))
  const traceState = span.traceState?.serialize() ?? ''
  if (traceState !== '') metadata.set('tracestate', traceState)
}
