import {
  type Attributes,
  context,
  INVALID_SPAN_CONTEXT,
  type Link,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
  TraceFlags,
} from '@opentelemetry/api'
import { MeshError } from '@spillway/core'
import type { Telemetry } from './telemetry.ts'
import { parseTraceParent, withRemoteParent } from './trace-context.ts'

const maxLinks = 32
const noSpan: Span = trace.wrapSpanContext(INVALID_SPAN_CONTEXT)

/**
 * Runs `fn` in one span for a whole batch. Its parent is the rows' common context where they share one (a batch of one always does), else
 * the active span; a batch of several traces links to the first 32 distinct sampled ones. A throw ends the span as an error and goes on.
 * Where spans are not recorded the rows' common context is carried on, and nothing else is done.
 * @param rowTraceParents W3C `traceparent` a row, '' for none.
 */
export function batchSpan<T>(
  telemetry: Telemetry,
  name: string,
  attributes: Attributes,
  rowTraceParents: readonly string[],
  fn: (span: Span) => Promise<T>,
): Promise<T> {
  const shared = sharedTraceParent(rowTraceParents)
  if (!telemetry.recording) return withRemoteParent(shared ?? '', () => fn(noSpan))
  const local = trace.getSpanContext(context.active())
  const remote = parseTraceParent(shared ?? '')
  // Within a trace the closer span is the parent: the segment's span, or the caller's on the other side of a gRPC link.
  const adopt = remote !== undefined && remote.traceId !== local?.traceId
  const parent = adopt ? trace.setSpanContext(context.active(), remote) : context.active()
  const links = shared === undefined ? sampledLinks(rowTraceParents) : []
  return telemetry.tracer.startActiveSpan(name, { kind: SpanKind.INTERNAL, attributes, links }, parent, async (span) => {
    try {
      return await fn(span)
    } catch (thrown) {
      const error = MeshError.from(thrown)
      span.setAttribute('error.type', error.code)
      span.setStatus({ code: SpanStatusCode.ERROR, message: error.message })
      throw thrown
    } finally {
      span.end()
    }
  })
}

/** What all rows carry ('' where none carries any); undefined where they differ. */
function sharedTraceParent(traceParents: readonly string[]): string | undefined {
  const first = traceParents[0] ?? ''
  for (let row = 1; row < traceParents.length; row++) if (traceParents[row] !== first) return undefined
  return first
}

function sampledLinks(traceParents: readonly string[]): Link[] {
  const seen = new Set<string>()
  const links: Link[] = []
  for (const traceParent of traceParents) {
    if (traceParent === '' || seen.has(traceParent)) continue
    seen.add(traceParent)
    const remote = parseTraceParent(traceParent)
    if (remote === undefined || (remote.traceFlags & TraceFlags.SAMPLED) === 0) continue
    if (links.push({ context: remote }) === maxLinks) break
  }
  return links
}
