import type { StatusObject } from '@grpc/grpc-js'
import { context, type Span, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { MeshError } from '@spillway/core'
import { remoteContext } from '@spillway/telemetry'
import type { ServerCall } from './call.ts'
import type { UnaryRpc } from './handler.ts'
import { readRequest, type ServedMethod } from './method.ts'
import { statusOf } from './status.ts'

/** Runs `work` in the caller's trace, under a server span where spans are recorded. */
export function inServerSpan(
  { path, telemetry }: ServedMethod,
  call: ServerCall,
  work: (span: Span | undefined) => Promise<void>,
): Promise<void> {
  const remote = remoteContext((name) => call.header(name))
  if (!telemetry.recording) return remote === undefined ? work(undefined) : context.with(remote, work, undefined, undefined)
  const parent = remote ?? context.active()
  const span = telemetry.tracer.startSpan(path.slice(1), { kind: SpanKind.SERVER, attributes: rpcAttributes(path) }, parent)
  return context.with(trace.setSpan(parent, span), work, undefined, span)
}

/** Span attributes of OpenTelemetry's semantic conventions for RPC. */
export function rpcAttributes(path: string): Record<string, string> {
  const [, service, method] = path.split('/')
  return { 'rpc.system': 'grpc', 'rpc.service': service ?? '', 'rpc.method': method ?? '' }
}

/** What the caller is told of a failure, which the span and, where nobody expected it, the log hear of too. */
export function failed(error: unknown, { path, telemetry }: ServedMethod, call: ServerCall, span: Span | undefined): StatusObject {
  const known = error instanceof MeshError
  if (!known && call.aborted === undefined) telemetry.logger.error({ err: error, rpc: path }, 'a gRPC handler failed unexpectedly')
  const mesh = known ? error : new MeshError('INTERNAL', `${path} failed unexpectedly; the server's log says why`)
  const status = statusOf(mesh)
  span?.setAttribute('rpc.grpc.status_code', status.code).setStatus({ code: SpanStatusCode.ERROR, message: mesh.message })
  return status
}

/** Runs the handler on a request's bytes, and gives `respond` its response, or the status of its failure. */
export function answerUnary(
  method: ServedMethod<UnaryRpc>,
  bytes: Buffer,
  call: ServerCall,
  respond: (status: StatusObject | null, response?: unknown) => void,
): void {
  const { rpc } = method
  // Outside of the span: refusing has to be cheap.
  if (call.deadlineMs <= Date.now()) {
    call.end()
    const late = new MeshError('DEADLINE_EXCEEDED', 'the deadline had passed before the call began')
    return respond(failed(late, method, call, undefined))
  }
  void inServerSpan(method, call, async (span) => {
    try {
      const response = await rpc.handle(readRequest(method, bytes), call)
      call.end()
      respond(null, response)
    } catch (error) {
      const status = failed(error, method, call, span)
      call.end()
      respond(status)
    } finally {
      span?.end()
    }
  })
}
