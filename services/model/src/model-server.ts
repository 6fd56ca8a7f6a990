import type { Component } from '@spillway/core'
import { CallRoom, GrpcServer } from '@spillway/rpc'
import { defaultIdentity, inferenceService, type Models, type ServerIdentity } from '@spillway/serving'
import { countRefusals, HttpListener, readGauge, type Readiness, type Telemetry } from '@spillway/telemetry'
import { adminRoutes } from './admin-routes.ts'
import { placeInApp } from './call-place.ts'
import { callConnections } from './call-connection.ts'
import { createHttpApp, refuseConnection, requestTimeoutMs } from './http-app.ts'
import { oipCalls, oipRoutes } from './oip-routes.ts'
import { tensorflowCalls, tensorflowRoutes } from './tensorflow-routes.ts'

/** As Triton's default for HTTP. */
const defaultMaxRequestBytes = 64 * 1024 * 1024

/** Of those that wait as long as it takes: what collects while the event loop stands still for half a second, or in the queue of a large model. */
const defaultMaxCallsInFlight = 4_096

/** How long answers under way may take while the server drains. */
const defaultDrainTimeoutMs = 10_000

const refusals = {
  name: 'spillway_model_refused_calls_total',
  help: 'Calls of models that there was no room for, by what was full: calls or bytes in flight.',
  reasons: ['calls', 'bytes'] as const,
}

export interface ModelServerOptions {
  readonly models: Models
  readonly host: string
  /** Where gRPC listens, if elsewhere. */
  readonly grpcHost?: string
  /** REST, metrics and health; 0 picks a free one. */
  readonly httpPort: number
  /** gRPC, its health and reflection; 0 picks a free one. */
  readonly grpcPort: number
  readonly telemetry: Telemetry
  /** Default `spillway`. */
  readonly identity?: ServerIdentity
  /** Most bytes of a request, over either protocol; default 64 MiB. */
  readonly maxRequestBytes?: number
  /** Calls of models in flight, over both protocols; with a deadline as many as are answered in time. Beyond it RESOURCE_EXHAUSTED. Default 4,096. */
  readonly maxCallsInFlight?: number
  /** Bytes of their requests; beyond it RESOURCE_EXHAUSTED, unless no other is. Default four times `maxRequestBytes`. */
  readonly maxBytesInFlight?: number
  /** How long answers under way may take while it drains; default 10,000. */
  readonly drainTimeoutMs?: number
}

/**
 * Models behind every protocol: Open Inference Protocol v2 and TensorFlow Serving's on one HTTP port, gRPC on another, with `/metrics`, `/livez` and
 * `/readyz`. It does not own the models: they are drained after it.
 */
export class ModelServer implements Component {
  readonly #options: ModelServerOptions
  readonly #http: HttpListener
  readonly #grpc: GrpcServer
  #drained: Promise<void> | undefined

  constructor(options: ModelServerOptions) {
    const { models, host, grpcHost = host, grpcPort, telemetry } = options
    const { identity = defaultIdentity, maxRequestBytes = defaultMaxRequestBytes, drainTimeoutMs = defaultDrainTimeoutMs } = options
    this.#options = options
    const { maxCallsInFlight = defaultMaxCallsInFlight, maxBytesInFlight = 4 * maxRequestBytes } = options
    const room = new CallRoom({ maxCalls: maxCallsInFlight, maxBytes: maxBytesInFlight, refused: countRefusals(telemetry, refusals) })
    registerGauges(telemetry, room)
    const calls = [oipCalls(models), tensorflowCalls(models)]
    const app = createHttpApp({ telemetry, ready: () => readinessOf(models), maxBodyBytes: maxRequestBytes, calls, room })
    const place = placeInApp(room, maxRequestBytes)
    oipRoutes(app, models, { identity, logger: telemetry.logger, place })
    adminRoutes(app, models, telemetry.logger)
    tensorflowRoutes(app, models, place)
    const answered = { calls, room, logger: telemetry.logger, maxBodyBytes: maxRequestBytes }
    const timeouts = { keepAliveMs: app.server.keepAliveTimeout, requestTimeoutMs }
    this.#http = new HttpListener(app, callConnections({ ...answered, ...timeouts, refuse: refuseConnection }))
    this.#grpc = new GrpcServer({
      host: grpcHost,
      port: grpcPort,
      telemetry,
      services: [inferenceService(models, identity, room)],
      maxMessageBytes: maxRequestBytes,
      drainTimeoutMs,
    })
  }

  /** The ports listened on, from `start` on. */
  get httpPort(): number {
    return this.#http.port
  }

  get grpcPort(): number {
    return this.#grpc.port
  }

  /** Listens: `/livez` and `/readyz` answer while models load. @throws MeshError FAILED_PRECONDITION naming the address that is taken. */
  async start(signal: AbortSignal): Promise<void> {
    try {
      await this.#http.start(this.#options.host, this.#options.httpPort)
      await this.#grpc.start(signal)
    } catch (error) {
      await this.drain()
      throw error
    }
  }

  /** What gRPC's health service says. */
  setServing(serving: boolean): void {
    this.#grpc.setServing(serving)
  }

  /** Takes no more, and resolves when what was taken is answered. */
  drain(): Promise<void> {
    this.#drained ??= Promise.all([this.#grpc.drain(), this.#http.drain(this.#options.drainTimeoutMs ?? defaultDrainTimeoutMs)]).then(
      () => undefined,
    )
    return this.#drained
  }
}

function readinessOf(models: Models): Readiness {
  const { ready } = models
  const reason = ready ? undefined : models.unready()
  return { ready, ...(reason !== undefined && { reason }) }
}

function registerGauges(telemetry: Telemetry, room: CallRoom): void {
  readGauge(telemetry, 'spillway_model_calls_in_flight', 'Calls of models in flight, HTTP and gRPC.', () => room.inFlight)
  readGauge(
    telemetry,
    'spillway_model_calls_limit',
    'With how many in flight a call with a deadline is taken: as many as are answered in time.',
    () => room.limit,
  )
  readGauge(telemetry, 'spillway_model_bytes_in_flight', 'Bytes of their requests.', () => room.bytesInFlight)
}
