import type { Component } from '@spillway/core'
import { ModelManager, type ModelManagerOptions, type ServerIdentity } from '@spillway/serving'
import { ModelServer } from './model-server.ts'

export interface ModelServiceOptions extends ModelManagerOptions {
  readonly host: string
  /** REST, metrics and health; 0 picks a free one. */
  readonly httpPort: number
  /** Open Inference Protocol v2, health and reflection; 0 picks a free one. */
  readonly grpcPort: number
  /** What the metadata calls the server; default `spillway`. */
  readonly identity?: ServerIdentity
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
  const { host, httpPort, grpcPort, telemetry, signal, identity } = options
  const manager = new ModelManager(options)
  const server = new ModelServer({ models: manager, host, httpPort, grpcPort, telemetry, ...(identity && { identity }) })
  // Calls first, since they need the models.
  const drain = async (): Promise<void> => {
    await server.drain()
    await manager.drain()
  }
  try {
    await server.start(signal)
    await manager.start(signal)
  } catch (error) {
    await drain()
    throw error
  }
  server.setServing(true)
  telemetry.logger.info({ models: manager.names(), httpPort: server.httpPort, grpcPort: server.grpcPort }, 'the model service is ready')
  let drained: Promise<void> | undefined
  return {
    httpPort: server.httpPort,
    grpcPort: server.grpcPort,
    start: () => Promise.resolve(),
    drain: () => (drained ??= drain()),
  }
}
