import { type Component, MeshError } from '@spillway/core'
import { createTelemetry, type OwnedTelemetry } from '@spillway/telemetry'
import { predictionV1 } from '@spillway/wire'
import { afterAll, afterEach, expect } from 'vitest'
import { type Admission, GrpcChannel, GrpcServer, type RpcCall, serverStreamHandler, unaryHandler } from '../src/mod.ts'

type PredictRequest = predictionV1.PredictRequest
type PredictResponse = predictionV1.PredictResponse
type SubscribeRequest = predictionV1.SubscribeRequest
type SubscribeResponse = predictionV1.SubscribeResponse

export const predict: typeof predictionV1.PredictionService.predict = predictionV1.PredictionService.predict
export const request: PredictRequest = { pipeline: 'fraud', events: [] }

export interface Handlers {
  readonly predict?: (request: PredictRequest, call: RpcCall) => Promise<PredictResponse>
  readonly subscribe?: (request: SubscribeRequest, call: RpcCall) => AsyncIterable<SubscribeResponse>
  readonly port?: number
  readonly admission?: Admission
}

/** Servers and channels of a test, which are drained after it. */
export class RpcRig {
  readonly telemetry: OwnedTelemetry = createTelemetry({ service: 'rpc-test', logLevel: 'silent', otlp: false })
  readonly #open: Component[] = []

  constructor() {
    afterEach(async () => {
      for (const component of this.#open.splice(0).toReversed()) await component.drain()
    })
    afterAll(() => this.telemetry.shutdown())
  }

  async startServer(handlers: Handlers): Promise<GrpcServer> {
    const server = new GrpcServer({
      port: handlers.port ?? 0,
      telemetry: this.telemetry,
      drainTimeoutMs: 2_000,
      services: [
        {
          definition: predictionV1.PredictionService,
          implementation: {
            predict: unaryHandler(handlers.predict ?? unused),
            subscribe: serverStreamHandler(handlers.subscribe ?? unused),
            publish: unaryHandler(unused),
          },
          ...(handlers.admission && { admissions: { predict: handlers.admission } }),
        },
      ],
    })
    this.#open.push(server)
    await server.start()
    return server
  }

  async connect(port: number, options: { readonly maxMessageBytes?: number } = {}): Promise<GrpcChannel> {
    const channel = new GrpcChannel({ address: `127.0.0.1:${port}`, telemetry: this.telemetry, ...options })
    this.#open.push(channel)
    await channel.start()
    return channel
  }

  async pair(handlers: Handlers): Promise<{ server: GrpcServer; channel: GrpcChannel }> {
    const server = await this.startServer(handlers)
    return { server, channel: await this.connect(server.port) }
  }
}

function unused(): never {
  throw new MeshError('UNIMPLEMENTED', 'not part of this test')
}

export const rejection = (promise: Promise<unknown>): Promise<MeshError> =>
  promise.then(
    () => expect.unreachable('it should have been refused'),
    (error: unknown) => error as MeshError,
  )
