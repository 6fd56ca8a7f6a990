import { join } from 'node:path'
import { MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { Backend } from '../backend.ts'
import type { ModelConfig } from '../config/model-config.ts'
import type { Models } from '../models.ts'
import { EnsembleBackend } from './ensemble/ensemble-backend.ts'
import { ModuleInlineBackend, ModuleWorkerBackend } from './module-backend.ts'
import { OnnxBackend } from './onnx-backend.ts'
import { RemoteBackend } from './remote-backend.ts'

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

/** Of a `remote` model's and a module's config, where it says nothing. */
const defaults = { concurrency: 16, connectTimeoutMs: 5_000, runTimeoutMs: 30_000 } as const

/**
 * The backend that the config names, not yet started.
 * @throws MeshError FAILED_PRECONDITION naming model and backend where there is none, or the parameter that is missing or wrong
 */
export function backendFor(load: BackendLoad): Backend {
  switch (load.config.backend) {
    case 'onnxruntime':
      return onnxBackend(load)
    case 'remote':
      return remoteBackend(load)
    case 'module':
      return moduleBackend(load)
    case 'ensemble':
      return new EnsembleBackend(load)
    default:
      throw unknownBackend(load.model, load.config.backend)
  }
}

/** A config may come from a reader that does not know what there is. */
function unknownBackend(model: string, backend: never): MeshError {
  return new MeshError(
    'FAILED_PRECONDITION',
    `model "${model}" asks for backend "${String(backend)}": expected onnxruntime, remote, module or ensemble`,
    { field: 'backend' },
  )
}

function onnxBackend({ config, folder, logger }: BackendLoad): Backend {
  return new OnnxBackend({
    path: join(folder, config.file ?? 'model.onnx'),
    workers: config.instanceCount ?? 1,
    threadsPerRun: config.threadsPerRun ?? 1,
    providers: config.executionProviders ?? ['cpu'],
    ...(config.maxBatchSize === undefined ? {} : { maxBatchSize: config.maxBatchSize }),
    maxBatchRows: config.maxBatchSize || defaultMaxBatchRows,
    logger,
  })
}

/** Parameters: `address` (`host:port`), `model` and `version` there, `concurrency`, `connect_timeout_ms`, `max_message_bytes`. */
function remoteBackend(load: BackendLoad): Backend {
  const { model, config, telemetry } = load
  const address = config.parameters.get('address')
  if (address === undefined)
    throw new MeshError('FAILED_PRECONDITION', `model "${model}": the remote backend needs parameter "address" (host:port)`, {
      field: 'parameters.address',
    })
  const maxMessageBytes = config.parameters.has('max_message_bytes')
    ? { maxMessageBytes: wholeParameter(load, 'max_message_bytes', 0) }
    : {}
  return new RemoteBackend({
    name: model,
    address,
    model: config.parameters.get('model') ?? model,
    version: config.parameters.get('version') ?? '',
    concurrency: wholeParameter(load, 'concurrency', defaults.concurrency),
    connectTimeoutMs: wholeParameter(load, 'connect_timeout_ms', defaults.connectTimeoutMs),
    ...maxMessageBytes,
    telemetry,
  })
}

/** Parameters: `thread` (`worker` or `main`), `timeout_ms`. */
function moduleBackend(load: BackendLoad): Backend {
  const { model, version, folder, modelFolder, config, logger } = load
  const thread = config.parameters.get('thread') ?? 'worker'
  if (thread !== 'worker' && thread !== 'main')
    throw new MeshError('FAILED_PRECONDITION', `model "${model}": parameter "thread" is "${thread}": expected worker or main`, {
      field: 'parameters.thread',
    })
  const { maxBatchSize, parameters } = config
  const options = {
    load: { model, version, folder, modelFolder, parameters, path: join(folder, config.file ?? 'model.ts'), maxBatchSize },
    timeoutMs: wholeParameter(load, 'timeout_ms', defaults.runTimeoutMs),
  }
  if (thread === 'main') return new ModuleInlineBackend(options)
  return new ModuleWorkerBackend({ ...options, workers: config.instanceCount ?? 1, logger })
}

function wholeParameter({ model, config }: BackendLoad, name: string, absent: number): number {
  const text = config.parameters.get(name)
  if (text === undefined) return absent
  const value = Number(text)
  if (Number.isSafeInteger(value) && value > 0) return value
  throw new MeshError('FAILED_PRECONDITION', `model "${model}": parameter "${name}" is "${text}": expected a whole number above 0`, {
    field: `parameters.${name}`,
  })
}
