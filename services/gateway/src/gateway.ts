import type { Bus } from '@spillway/bus'
import type { Component } from '@spillway/core'
import type { GatewayPipeline } from '@spillway/mesh'
import { GrpcServer } from '@spillway/rpc'
import { countRefusals, HttpListener, readGauge, type Readiness, type Telemetry } from '@spillway/telemetry'
import { type CallLimits, Calls } from './calls.ts'
import { Catalog } from './catalog.ts'
import { deadLetterRoutes } from './dead-letter-routes.ts'
import { eventStreamRoutes } from './event-stream.ts'
import { predictionService } from './grpc-service.ts'
import { createHttpApp } from './http-app.ts'
import { openApiDocument } from './openapi.ts'
import { predictRoutes } from './predict-routes.ts'
import { Subscriptions } from './subscriptions.ts'
import { topicRoutes } from './topic-routes.ts'

export interface GatewayOptions {
  readonly host: string
  /** 0 picks a free one. */
  readonly httpPort: number
  /** 0 picks a free one. */
  readonly grpcPort: number
  /** Started and drained by its owner, after the gateway. */
  readonly bus: Bus
  readonly pipelines: readonly GatewayPipeline[]
  readonly telemetry: Telemetry
  /** For `/readyz`; ready once started where absent. */
  readonly ready?: () => Readiness
  /** Largest request, HTTP and gRPC; default 4 MiB. */
  readonly maxBodyBytes?: number
  /** Predict and publish calls in flight, fewer while deadlines are missed; beyond it 429, RESOURCE_EXHAUSTED. Default 512. */
  readonly maxCallsInFlight?: number
  /** Events of those calls; beyond it 429, RESOURCE_EXHAUSTED. Default 20,000. */
  readonly maxRowsInFlight?: number
  /** Bytes of their requests; beyond it 429, RESOURCE_EXHAUSTED. Default 64 MiB. */
  readonly maxBytesInFlight?: number
  /** How long a request may take to arrive; default 30 s. */
  readonly requestTimeoutMs?: number
  /** Default 10,000. */
  readonly maxEventsPerCall?: number
  /** Default 256. */
  readonly maxSubscriptions?: number
  /** For a caller that sets no deadline; default 10 s. */
  readonly defaultTimeoutMs?: number
  /** How long `drain` lets calls finish before it cuts them; default 10 s. */
  readonly drainTimeoutMs?: number
}

const defaultDrainTimeoutMs = 10_000
const mib = 2 ** 20
const refusals = {
  name: 'spillway_gateway_refused_calls_total',
  help: 'Predict and publish calls that there was no room for, by what was full: calls, rows or bytes in flight.',
  reasons: ['calls', 'rows', 'bytes'] as const,
}

/** The mesh's front door: REST, server-sent events and gRPC, to predict, publish and subscribe. */
export class Gateway implements Component {
  readonly #options: GatewayOptions
  readonly #closing = new AbortController()
  readonly #http: HttpListener
  readonly #grpc: GrpcServer
  #started = false
  #drained: Promise<void> | undefined

  constructor(options: GatewayOptions) {
    this.#options = options
    const { bus, telemetry, maxBodyBytes = 4 * mib, requestTimeoutMs = 30_000 } = options
    const catalog = new Catalog(options.pipelines)
    const limits: CallLimits = {
      maxCallsInFlight: options.maxCallsInFlight ?? 512,
      maxRowsInFlight: options.maxRowsInFlight ?? 20_000,
      maxBytesInFlight: options.maxBytesInFlight ?? 64 * mib,
      maxEventsPerCall: options.maxEventsPerCall ?? 10_000,
      defaultTimeoutMs: options.defaultTimeoutMs ?? 10_000,
    }
    const calls = new Calls(catalog, bus, limits, countRefusals(telemetry, refusals))
    const { maxSubscriptions = 256 } = options
    const subscriptions = new Subscriptions(catalog, bus, maxSubscriptions)
    const closing = this.#closing.signal
    const app = createHttpApp({ telemetry, maxBodyBytes, closing, calls, requestTimeoutMs, ready: () => this.#readiness() })
    predictRoutes(app, calls, telemetry)
    topicRoutes(app, { catalog, bus, calls, telemetry })
    deadLetterRoutes(app, { catalog, telemetry })
    eventStreamRoutes(app, { subscriptions, closing, logger: telemetry.logger })
    app.get('/openapi.json', () => openApiDocument)
    this.#http = new HttpListener(app)
    this.#grpc = new GrpcServer({
      host: options.host,
      port: options.grpcPort,
      services: [predictionService({ calls, subscriptions })],
      telemetry,
      maxMessageBytes: maxBodyBytes,
      requestTimeoutMs,
      drainTimeoutMs: options.drainTimeoutMs ?? defaultDrainTimeoutMs,
    })
    registerGauges(telemetry, calls, subscriptions)
  }

  /** The ports listened on, from `start` on. */
  get httpPort(): number {
    return this.#http.port
  }

  get grpcPort(): number {
    return this.#grpc.port
  }

  /** @throws MeshError FAILED_PRECONDITION where a port cannot be had. */
  async start(signal?: AbortSignal): Promise<void> {
    await this.#http.start(this.#options.host, this.#options.httpPort)
    try {
      await this.#grpc.start(signal)
    } catch (error) {
      await this.#http.drain(0)
      throw error
    }
    this.#grpc.setServing(true)
    this.#started = true
  }

  #readiness(): Readiness {
    if (this.#closing.signal.aborted) return { ready: false, reason: 'draining' }
    if (!this.#started) return { ready: false, reason: 'starting' }
    return this.#options.ready?.() ?? true
  }

  /** Refuses new calls, ends event streams (their clients resume), lets calls in flight finish within the limit. */
  drain(): Promise<void> {
    this.#drained ??= this.#close()
    return this.#drained
  }

  async #close(): Promise<void> {
    this.#closing.abort()
    await Promise.all([this.#grpc.drain(), this.#http.drain(this.#options.drainTimeoutMs ?? defaultDrainTimeoutMs)])
  }
}

function registerGauges(telemetry: Telemetry, calls: Calls, subscriptions: Subscriptions): void {
  readGauge(telemetry, 'spillway_gateway_calls_in_flight', 'Predict and publish calls in flight, HTTP and gRPC.', () => calls.inFlight)
  readGauge(
    telemetry,
    'spillway_gateway_rows_in_flight',
    'Events of predict and publish calls in flight, HTTP and gRPC.',
    () => calls.rowsInFlight,
  )
  readGauge(telemetry, 'spillway_gateway_calls_limit', 'How many there may be: fewer while deadlines are missed.', () => calls.limit)
  readGauge(telemetry, 'spillway_gateway_bytes_in_flight', 'Bytes of their requests.', () => calls.bytesInFlight)
  readGauge(telemetry, 'spillway_gateway_subscriptions', 'Open subscriptions, HTTP and gRPC.', () => subscriptions.count)
}
