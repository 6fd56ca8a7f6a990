import { Client, connectivityState, credentials, Metadata, type MethodDefinition, type ServiceError } from '@grpc/grpc-js'
import { context, type Span, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { type Component, MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import { rpcAttributes } from './answer.ts'
import { errorOf } from './status.ts'
import { injectTrace } from './trace-context.ts'

export interface GrpcChannelOptions {
  /** `host:port` */
  readonly address: string
  readonly telemetry: Telemetry
  /** Limit of a message in and out; default 16 MiB. */
  readonly maxMessageBytes?: number
}

export interface CallOptions {
  /** Cancels the call when it fires. */
  readonly signal?: AbortSignal
  /** ms since the epoch; Infinity, the default, for none. */
  readonly deadlineMs?: number
  /** Extra headers; trace headers are added. */
  readonly metadata?: Metadata
}

/** setTimeout's limit, at which grpc-js's own arithmetic wraps too: a later deadline is none. */
const maxTimeoutMs = 0x7fffffff

/** One connection to one server, made on demand and made again with back-off. Retrying a call is its caller's business. */
export class GrpcChannel implements Component {
  readonly address: string
  readonly #telemetry: Telemetry
  readonly #client: Client

  /** @throws MeshError INVALID_ARGUMENT where the address is not `host:port`. */
  constructor(options: GrpcChannelOptions) {
    if (!/^[^\s/]+:\d{1,5}$/.test(options.address))
      throw new MeshError('INVALID_ARGUMENT', `"${options.address}" is no gRPC address: write host:port, as in 127.0.0.1:8001`)
    this.address = options.address
    this.#telemetry = options.telemetry
    const maxBytes = options.maxMessageBytes ?? 16 * 1024 * 1024
    this.#client = new Client(options.address, credentials.createInsecure(), {
      'grpc.max_receive_message_length': maxBytes,
      'grpc.max_send_message_length': maxBytes,
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.max_reconnect_backoff_ms': 2_000,
      'grpc.keepalive_time_ms': 20_000,
      'grpc.keepalive_timeout_ms': 5_000,
      'grpc.enable_channelz': 0,
      'grpc.enable_retries': 0,
      'grpc.use_local_subchannel_pool': 1,
      'grpc.service_config_disable_resolution': 1,
    })
  }

  /** Begins to connect, and does not wait for it: the server may come later. */
  start(_signal?: AbortSignal): Promise<void> {
    this.#client.getChannel().getConnectivityState(true)
    return Promise.resolve()
  }

  /** Resolves once connected, however long that takes. @throws MeshError CANCELLED when the signal fires first, UNAVAILABLE after `drain`. */
  async waitForReady(signal: AbortSignal): Promise<void> {
    const channel = this.#client.getChannel()
    for (;;) {
      if (signal.aborted) throw new MeshError('CANCELLED', `gave up waiting for ${this.address}`, { cause: signal.reason })
      const state = channel.getConnectivityState(true)
      if (state === connectivityState.READY) return
      if (state === connectivityState.SHUTDOWN) throw new MeshError('UNAVAILABLE', `the channel to ${this.address} is closed`)
      await stateChange(this.#client, state, signal)
    }
  }

  /** @throws MeshError with the server's code and field; UNAVAILABLE where it cannot be reached. */
  unary<Request, Response>(method: MethodDefinition<Request, Response>, request: Request, options: CallOptions = {}): Promise<Response> {
    const { signal } = options
    return new Promise<Response>((resolve, reject) => {
      if (signal?.aborted === true) return reject(cancelled(signal))
      if (options.deadlineMs !== undefined && options.deadlineMs <= Date.now()) return reject(tooLate(this.address))
      const { span, metadata } = this.#begin(method.path, options)
      let cancel: (() => void) | undefined
      const done = (error: ServiceError | null, response?: Response): void => {
        if (cancel !== undefined) signal!.removeEventListener('abort', cancel)
        if (error === null) resolve(response!)
        else reject(this.#failed(error, span))
        span?.end()
      }
      const { requestSerialize, responseDeserialize } = method
      const call = this.#client.makeUnaryRequest(
        method.path,
        requestSerialize,
        responseDeserialize,
        request,
        metadata,
        deadlineOf(options),
        done,
      )
      if (signal === undefined) return
      cancel = () => call.cancel()
      signal.addEventListener('abort', cancel, { once: true })
    })
  }

  /** The responses as they come; leaving the loop cancels the call. @throws as `unary`. */
  async *serverStream<Request, Response>(
    method: MethodDefinition<Request, Response>,
    request: Request,
    options: CallOptions = {},
  ): AsyncGenerator<Response> {
    const { signal } = options
    if (signal?.aborted === true) throw cancelled(signal)
    const { span, metadata } = this.#begin(method.path, options)
    const { requestSerialize, responseDeserialize } = method
    const call = this.#client.makeServerStreamRequest(
      method.path,
      requestSerialize,
      responseDeserialize,
      request,
      metadata,
      deadlineOf(options),
    )
    const cancel = (): void => call.cancel()
    signal?.addEventListener('abort', cancel, { once: true })
    try {
      for await (const response of call) yield response as Response
    } catch (error) {
      throw this.#failed(error as ServiceError, span)
    } finally {
      signal?.removeEventListener('abort', cancel)
      call.cancel()
      span?.end()
    }
  }

  #begin(path: string, options: CallOptions): { span: Span | undefined; metadata: Metadata } {
    const { tracer, recording } = this.#telemetry
    const metadata = options.metadata?.clone() ?? new Metadata()
    const span = recording ? tracer.startSpan(path.slice(1), { kind: SpanKind.CLIENT, attributes: rpcAttributes(path) }) : undefined
    span?.setAttribute('server.address', this.address)
    injectTrace(span?.spanContext() ?? trace.getSpanContext(context.active()), metadata)
    return { span, metadata }
  }

  #failed(error: ServiceError, span: Span | undefined): MeshError {
    const mesh = errorOf(error, this.address)
    span?.setAttribute('rpc.grpc.status_code', error.code).setStatus({ code: SpanStatusCode.ERROR, message: mesh.message })
    return mesh
  }

  /** Closes the connection once the calls in flight have ended. */
  drain(): Promise<void> {
    this.#client.close()
    return Promise.resolve()
  }
}

function cancelled(signal: AbortSignal): MeshError {
  return signal.reason instanceof MeshError
    ? signal.reason
    : new MeshError('CANCELLED', 'the call was cancelled before it began', { cause: signal.reason })
}

function tooLate(address: string): MeshError {
  return new MeshError('DEADLINE_EXCEEDED', `the deadline had passed before ${address} was called`)
}

function deadlineOf(options: CallOptions): { deadline?: number } {
  const { deadlineMs } = options
  if (deadlineMs === undefined || deadlineMs - Date.now() > maxTimeoutMs) return {}
  return { deadline: deadlineMs }
}

function stateChange(client: Client, state: connectivityState, signal: AbortSignal): Promise<void> {
  return new Promise<void>((resolve) => {
    const done = (): void => {
      signal.removeEventListener('abort', done)
      resolve()
    }
    signal.addEventListener('abort', done, { once: true })
    // A change of state or the end of this second wakes it: watching has no cancellation.
    client.getChannel().watchConnectivityState(state, Date.now() + 1_000, done)
  })
}
