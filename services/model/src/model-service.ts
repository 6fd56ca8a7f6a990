import { availableParallelism } from 'node:os'
import type { Component } from '@spillway/core'
import { ModelManager, type ModelManagerOptions, type Models } from '@spillway/serving'
import { ModelServer, type ModelServerOptions } from './model-server.ts'

/**
 * Worker threads of an ONNX model: one for every two cores, since what serves and calls models takes the others; of two cores both, since serving takes a fifth of what
 * runs take.
 */
function onnxWorkers(): number {
  const cores = availableParallelism()
  return Math.max(cores >> 1, Math.min(cores, 2))
}

export interface ModelServiceOptions extends ModelManagerOptions, Omit<ModelServerOptions, 'models'> {
  /** Cancels the start. */
  readonly signal: AbortSignal
}

export interface ModelService extends Component {
  readonly httpPort: number
  readonly grpcPort: number
  readonly models: Models
}

/**
 * Serves the repository's models. Listens at once, so that `/livez` and `/readyz` answer while models load; ready, and SERVING to the gRPC
 * health service, once every model is loaded.
 * @throws MeshError naming the address that is taken, or the model's path and what was expected; nothing is left running then.
 */
export async function startModelService(options: ModelServiceOptions): Promise<ModelService> {
  const { telemetry, signal } = options
  const manager = new ModelManager({ onnxWorkers: onnxWorkers(), ...options })
  const server = new ModelServer({ ...options, models: manager })
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
    models: manager,
    start: () => Promise.resolve(),
    drain: () => (drained ??= drain()),
  }
}
