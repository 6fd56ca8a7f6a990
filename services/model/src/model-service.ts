import type { Component } from '@spillway/core'
import { GrpcServer } from '@spillway/rpc'
import { type BatcherOptions, inferenceService, ModelManager } from '@spillway/serving'
import { OperationsServer, type Telemetry } from '@spillway/telemetry'

export interface ModelServiceOptions {
  /** Folder with `<model>/<version>/model.onnx`. */
  readonly repository: string
  /** Which models to serve; all in the repository where absent. */
  readonly models?: readonly string[]
  readonly host: string
  /** Metrics and health; 0 picks a free one. */
  readonly httpPort: number
  /** Open Inference Protocol v2, health and reflection; 0 picks a free one. */
  readonly grpcPort: number
  readonly telemetry: Telemetry
  /** Worker threads of each model that is not run inline; default: one for every two cores. */
  readonly workers?: number
  readonly batching?: BatcherOptions
  /** Cancels the start. */
  readonly signal: AbortSignal
}

export interface ModelService extends Component {
  readonly httpPort: number
  readonly grpcPort: number
}

/**
 * Serves the repository's models. Listens at once, so that `/livez` and `/readyz` answer while models load; ready, and SERVING to the gRPC
 * health service, once every model is loaded.
 * @throws MeshError naming the address that is taken, or the model's path and what was expected; nothing is left running then.
 */
export async function startModelService(options: ModelServiceOptions): Promise<ModelService> {
  const { host, telemetry, signal, repository, models, workers, batching } = options
  const manager = new ModelManager({
    repository,
    telemetry,
    ...(models === undefined ? {} : { models }),
    ...(workers === undefined ? {} : { workers }),
    ...(batching === undefined ? {} : { batching }),
  })
  const http = new OperationsServer({ host, port: options.httpPort, telemetry, ready: () => manager.ready })
  const grpc = new GrpcServer({ host, port: options.grpcPort, telemetry, services: [inferenceService(manager)] })
  // Calls first, since they need the models; the health endpoint last, to say so meanwhile.
  const drain = async (): Promise<void> => {
    await grpc.drain()
    await manager.drain()
    await http.drain()
  }
  try {
    await http.start()
    await grpc.start(signal)
    await manager.start(signal)
  } catch (error) {
    await drain()
    throw error
  }
  grpc.setServing(true)
  telemetry.logger.info({ models: manager.models, httpPort: http.port, grpcPort: grpc.port }, 'the model service is ready')
  let drained: Promise<void> | undefined
  return {
    httpPort: http.port,
    grpcPort: grpc.port,
    start: () => Promise.resolve(),
    drain: () => (drained ??= drain()),
  }
}
