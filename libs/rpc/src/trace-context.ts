import type { Metadata } from '@grpc/grpc-js'
import { type Context, context, createTraceState, isSpanContextValid, type SpanContext, trace } from '@opentelemetry/api'
import { formatTraceParent, parseTraceParent } from '@spillway/telemetry'

/** First value of a text header; '' where there is none. */
export function headerText(metadata: Metadata, name: string): string {
  const [value] = metadata.get(name)
  return typeof value === 'string' ? value : ''
}

/** The active context with the remote span that the headers name; undefined where they name none. @param header '' where there is none of the name */
export function remoteContext(header: (name: string) => string): Context | undefined {
  const traceParent = header('traceparent')
  const remote = traceParent === '' ? undefined : parseTraceParent(traceParent)
  if (remote === undefined) return undefined
  const traceState = header('tracestate')
  return trace.setSpanContext(context.active(), traceState === '' ? remote : { ...remote, traceState: createTraceState(traceState) })
}

/** Writes `traceparent` and `tracestate` of the span; nothing where there is none. */
export function injectTrace(span: SpanContext | undefined, metadata: Metadata): void {
  if (span === undefined || !isSpanContextValid(span)) return
  metadata.set('traceparent', formatTraceParent(span))
  const traceState = span.traceState?.serialize() ?? ''
  if (traceState !== '') metadata.set('tracestate', traceState)
}
