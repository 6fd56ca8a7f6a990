import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { Backend } from '../backend.ts'
import type { ModelConfig } from '../config/model-config.ts'
import type { Models } from '../models.ts'
import { OnnxBackend } from './onnx-backend.ts'

/** What a version's backend is made from. */
export interface BackendLoad {
  readonly model: string
  readonly version: string
  /** The version's, on this machine. */
  readonly folder: string
  readonly modelFolder: string
  readonly config: ModelConfig
  /** The process's models, for what is made of others; asked for when a run needs them. */
  readonly models: () => Models
  readonly logger: Telemetry['logger']
  readonly telemetry: Telemetry
}

/** What a run is given where the model sets no limit of its own. */
export const defaultMaxBatchRows = 1024

/** The backend that the config names, not yet started. @throws MeshError FAILED_PRECONDITION naming model and backend where there is none. */
export function backendFor(load: BackendLoad): Backend {
  const { config, folder, logger, model } = load
  if (config.backend !== 'onnxruntime')
    throw new MeshError('FAILED_PRECONDITION', `model "${model}" asks for backend "${config.backend}", which is not there`)
  return new OnnxBackend({
    path: join(folder, config.file ?? 'model.onnx'),
    workers: config.instanceCount ?? Math.max(1, availableParallelism() >> 1),
    threadsPerRun: config.threadsPerRun ?? 1,
    providers: config.executionProviders ?? ['cpu'],
    ...(config.maxBatchSize === undefined ? {} : { maxBatchSize: config.maxBatchSize }),
    maxBatchRows: config.maxBatchSize || defaultMaxBatchRows,
    logger,
  })
}
