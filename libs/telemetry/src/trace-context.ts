import { type Context, context, createTraceState, isSpanContextValid, type SpanContext, trace } from '@opentelemetry/api'

// version "-" trace-id "-" parent-id "-" trace-flags, lower-case hex (W3C Trace Context, 3.2.2); later versions may append fields.
const traceParentPattern = /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/

/** The remote context that a W3C `traceparent` names; undefined where it is none, which the standard asks to be ignored, not refused. */
export function parseTraceParent(traceParent: string): SpanContext | undefined {
  const [, version, traceId, spanId, flags, more] = traceParentPattern.exec(traceParent) ?? []
  if (version === undefined || version === 'ff' || (version === '00' && more !== undefined)) return undefined
  const parsed: SpanContext = { traceId: traceId!, spanId: spanId!, traceFlags: Number.parseInt(flags!, 16), isRemote: true }
  return isSpanContextValid(parsed) ? parsed : undefined
}

/** A span's context as a W3C `traceparent` of version 00. */
export function formatTraceParent(spanContext: SpanContext): string {
  return `00-${spanContext.traceId}-${spanContext.spanId}-${spanContext.traceFlags.toString(16).padStart(2, '0')}`
}

/** `traceparent` of the active span, or of the remote parent where spans are not recorded; '' where there is none. */
export function currentTraceParent(): string {
  const active = trace.getSpanContext(context.active())
  return active !== undefined && isSpanContextValid(active) ? formatTraceParent(active) : ''
}

/** Runs `fn` as a child of the remote span; as it is where `traceParent` is '' or malformed. */
export function withRemoteParent<T>(traceParent: string, fn: () => T): T {
  if (traceParent === '') return fn()
  const remote = parseTraceParent(traceParent)
  return remote === undefined ? fn() : context.with(trace.setSpanContext(context.active(), remote), fn)
}

/** The active context with the remote span that the headers name; undefined where they name none. @param header '' where there is none of the name */
export function remoteContext(header: (name: string) => string): Context | undefined {
  const traceParent = header('traceparent')
  const remote = traceParent === '' ? undefined : parseTraceParent(traceParent)
  if (remote === undefined) return undefined
  const traceState = header('tracestate')
  return trace.setSpanContext(context.active(), traceState === '' ? remote : { ...remote, traceState: createTraceState(traceState) })
}

/** Runs `fn` in the trace that the headers name; as it is where they name none. @param headers by lower-case name */
export function inCallersTrace<T>(headers: Readonly<Record<string, string | readonly string[] | undefined>>, fn: () => T): T {
  const remote = remoteContext((name) => {
    const value = headers[name]
    return typeof value === 'string' ? value : ''
  })
  return remote === undefined ? fn() : context.with(remote, fn)
}
