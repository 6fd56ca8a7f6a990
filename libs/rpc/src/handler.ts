import { once } from 'node:events'
import type {
  handleBidiStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  Metadata,
  ServerDuplexStream,
  ServerWritableStream,
  StatusObject,
} from '@grpc/grpc-js'
import { context, type Span, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import { type RpcCall, ServerCall } from './call.ts'
import { statusOf } from './status.ts'
import { headerText, remoteContext } from './trace-context.ts'

export interface UnaryRpc {
  readonly kind: 'unary'
  readonly handle: (request: never, call: RpcCall) => Promise<unknown>
}

export interface ServerStreamRpc {
  readonly kind: 'serverStream'
  readonly handle: (request: never, call: RpcCall) => AsyncIterable<unknown>
}

export interface BidiStreamRpc {
  readonly kind: 'bidiStream'
  readonly handle: (requests: AsyncIterable<never>, call: RpcCall) => AsyncIterable<unknown>
}

export type RpcHandler = UnaryRpc | ServerStreamRpc | BidiStreamRpc

/** One request, one response. A MeshError becomes its gRPC status; anything else is INTERNAL and logged. */
export function unaryHandler<Request, Response>(handle: (request: Request, call: RpcCall) => Promise<Response>): UnaryRpc {
  return { kind: 'unary', handle }
}

/**
 * One request, a stream of responses, ended by the iterable's end. The next response is asked for only when HTTP/2 flow control has room;
 * when `call.signal` fires the iterable is returned (its `finally` blocks run).
 */
export function serverStreamHandler<Request, Response>(
  handle: (request: Request, call: RpcCall) => AsyncIterable<Response>,
): ServerStreamRpc {
  return { kind: 'serverStream', handle }
}

/**
 * A stream of requests, read only as fast as the handler takes them, and a stream of responses as `serverStreamHandler` has it; a request that is not of the
 * method's type ends both.
 */
export function bidiStreamHandler<Request, Response>(
  handle: (requests: AsyncIterable<Request>, call: RpcCall) => AsyncIterable<Response>,
): BidiStreamRpc {
  return { kind: 'bidiStream', handle }
}

/** Runs `work` in the caller's trace, under a server span for `path` where spans are recorded. */
function inServerSpan(
  telemetry: Telemetry,
  path: string,
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

function failed(error: unknown, telemetry: Telemetry, path: string, call: ServerCall, span: Span | undefined): StatusObject {
  const known = error instanceof MeshError
  if (!known && call.aborted === undefined) telemetry.logger.error({ err: error, rpc: path }, 'a gRPC handler failed unexpectedly')
  const mesh = known ? error : new MeshError('INTERNAL', `${path} failed unexpectedly; the server's log says why`)
  const status = statusOf(mesh)
  span?.setAttribute('rpc.grpc.status_code', status.code).setStatus({ code: SpanStatusCode.ERROR, message: mesh.message })
  return status
}

/** How a method of a server is bound: `read` parses a request's bytes, which grpc-js hands on as they are. */
export interface Binding {
  readonly path: string
  readonly read: (bytes: Buffer) => unknown
  readonly telemetry: Telemetry
}

function request({ path, read }: Binding, bytes: Buffer): never {
  try {
    return read(bytes) as never
  } catch (error) {
    throw new MeshError('INVALID_ARGUMENT', `${path}: the request is not of the method's type: ${(error as Error).message}`, {
      cause: error,
    })
  }
}

/** Runs the handler on a request's bytes, and gives `respond` its response, or the status of its failure. */
export function answerUnary(
  rpc: UnaryRpc,
  binding: Binding,
  bytes: Buffer,
  call: ServerCall,
  respond: (status: StatusObject | null, response?: unknown) => void,
): void {
  const { path, telemetry } = binding
  // Outside of the span: refusing has to be cheap.
  if (call.deadlineMs <= Date.now()) {
    call.end()
    const late = new MeshError('DEADLINE_EXCEEDED', 'the deadline had passed before the call began')
    return respond(failed(late, telemetry, path, call, undefined))
  }
  void inServerSpan(telemetry, path, call, async (span) => {
    try {
      const response = await rpc.handle(request(binding, bytes), call)
      call.end()
      respond(null, response)
    } catch (error) {
      const status = failed(error, telemetry, path, call, span)
      call.end()
      respond(status)
    } finally {
      span?.end()
    }
  })
}

/** Of requests that only grpc-js reads: compressed ones. */
export function bindUnary(rpc: UnaryRpc, binding: Binding): handleUnaryCall<Buffer, unknown> {
  return (grpcCall, respond) => answerUnary(rpc, binding, grpcCall.request, serverCall(grpcCall), respond)
}

/** A call as grpc-js holds it. */
interface GrpcCall {
  readonly metadata: Metadata
  getDeadline(): Date | number
  once(event: 'cancelled', listener: () => void): unknown
}

function serverCall(grpcCall: GrpcCall): ServerCall {
  const { metadata } = grpcCall
  const deadline = grpcCall.getDeadline()
  const deadlineMs = typeof deadline === 'number' ? deadline : deadline.getTime()
  const call = new ServerCall({ metadata, deadlineMs, header: (name) => headerText(metadata, name) })
  // Emitted after a completed call too.
  grpcCall.once('cancelled', () => call.giveUp())
  return call
}

export function bindServerStream(
  rpc: ServerStreamRpc,
  binding: Binding,
  streams: Set<ServerCall>,
): handleServerStreamingCall<Buffer, unknown> {
  return bindStream((stream, call) => rpc.handle(request(binding, stream.request), call), binding, streams)
}

export function bindBidiStream(rpc: BidiStreamRpc, binding: Binding, streams: Set<ServerCall>): handleBidiStreamingCall<Buffer, unknown> {
  return bindStream((stream, call) => rpc.handle(requests(binding, stream), call), binding, streams)
}

/** What comes is left to the handler to read; that it reads no more does not end the call. */
async function* requests(binding: Binding, stream: ServerDuplexStream<Buffer, unknown>): AsyncGenerator<never> {
  for await (const bytes of stream.iterator({ destroyOnReturn: false })) yield request(binding, bytes as Buffer)
}

function bindStream<Stream extends ServerWritableStream<Buffer, unknown> | ServerDuplexStream<Buffer, unknown>>(
  respond: (stream: Stream, call: ServerCall) => AsyncIterable<unknown>,
  { path, telemetry }: Binding,
  streams: Set<ServerCall>,
): (stream: Stream) => void {
  return (stream) => {
    const call = serverCall(stream)
    streams.add(call)
    void inServerSpan(telemetry, path, call, async (span) => {
      try {
        await send(respond(stream, call), stream, call)
        if (call.aborted !== undefined) throw call.aborted
        call.end()
        stream.end()
      } catch (error) {
        const status = failed(call.aborted ?? error, telemetry, path, call, span)
        call.end()
        // The way grpc-js takes a stream's status other than OK.
        stream.emit('error', Object.assign(new Error(status.details), status))
      } finally {
        streams.delete(call)
        span?.end()
      }
    })
  }
}

async function send(
  responses: AsyncIterable<unknown>,
  stream: ServerWritableStream<Buffer, unknown> | ServerDuplexStream<Buffer, unknown>,
  call: ServerCall,
): Promise<void> {
  for await (const response of responses) {
    if (call.aborted !== undefined) return
    // After a cancellation grpc-js never drains: the signal ends the wait, by throwing.
    if (!stream.write(response)) await once(stream, 'drain', { signal: call.signal })
  }
}
