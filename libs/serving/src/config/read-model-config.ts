import type { MessageReader } from './message-reader.ts'
import type { BackendKind, ModelConfig } from './model-config.ts'
import { readBatching } from './read-batching.ts'
import { readEnsemble } from './read-ensemble.ts'
import { readInstances } from './read-instances.ts'
import { readInputs, readOutputs } from './read-tensors.ts'
import { readVersionPolicy } from './read-version-policy.ts'
import { readWarmup } from './read-warmup.ts'

/** `parameters` of Triton's ONNX Runtime backend: threads within one run. */
const threadsParameter = 'intra_op_thread_count'

/**
 * Triton's ModelConfig (triton-inference-server/common, protobuf/model_config.proto). Every field of it is known: it is read, or has no effect here and is
 * warned of, or would change answers and is refused.
 * @param model the name of the model's folder
 */
export function readModelConfig(reader: MessageReader, model: string): ModelConfig {
  const name = reader.text('name') || model
  if (name !== model) throw reader.error('name', `is "${name}", and the model's folder is "${model}": expected the same, or no name`)
  const { backend, platform } = readBackend(reader)
  const maxBatchSize = reader.int('max_batch_size', { least: 0, most: 2 ** 31 - 1 })
  const inputs = readInputs(reader)
  const outputs = readOutputs(reader)
  const parameters = readParameters(reader)
  const threadsPerRun = readThreads(reader, parameters)
  const { instanceCount, executionProviders } = readInstances(reader)
  const scheduling = reader.oneOf(['dynamic_batching', 'sequence_batching', 'ensemble_scheduling'])
  if (scheduling === 'sequence_batching') throw reader.error(scheduling, 'is not supported: requests of a sequence share no state here')
  const batching = readBatching(reader, maxBatchSize)
  const ensemble = readEnsemble(reader)
  if ((backend === 'ensemble') !== (scheduling === 'ensemble_scheduling'))
    throw reader.error(
      ensemble === undefined ? 'platform' : 'ensemble_scheduling',
      'platform "ensemble" and ensemble_scheduling go together',
    )
  const file = reader.text('default_model_filename') || undefined
  const config: ModelConfig = {
    name,
    backend,
    platform,
    versionPolicy: readVersionPolicy(reader, 'version_policy') ?? { kind: 'latest', count: 1 },
    warmup: readWarmup(reader),
    parameters,
    ...(maxBatchSize !== undefined && { maxBatchSize }),
    ...(inputs.length > 0 && { inputs }),
    ...(outputs.length > 0 && { outputs }),
    ...(instanceCount !== undefined && { instanceCount }),
    ...(threadsPerRun !== undefined && { threadsPerRun }),
    ...(executionProviders !== undefined && { executionProviders }),
    ...(batching !== undefined && { batching }),
    ...(ensemble !== undefined && { ensemble }),
    ...(file !== undefined && { file: checkFile(reader, file) }),
  }
  readTheRest(reader)
  reader.end()
  return config
}

const backends: readonly BackendKind[] = ['onnxruntime', 'remote', 'module', 'ensemble']

/** Triton's `platform`, its older name for a backend and a format, by backend. */
const platforms: Readonly<Record<BackendKind, string>> = { onnxruntime: 'onnxruntime_onnx', remote: '', module: '', ensemble: 'ensemble' }

function readBackend(reader: MessageReader): { backend: BackendKind; platform: string } {
  const named = reader.text('backend') || undefined
  const platform = reader.text('platform') || undefined
  const kind = reader.oneOf(['ensemble_scheduling']) === undefined ? 'onnxruntime' : 'ensemble'
  const byName = named === undefined ? undefined : backends.find((known) => known === named)
  const byPlatform = platform === undefined ? undefined : backends.find((known) => platforms[known] === platform)
  if (named !== undefined && byName === undefined)
    throw reader.error('backend', `there is no backend "${named}": expected ${backends.map((known) => `"${known}"`).join(', ')}`)
  if (platform !== undefined && byPlatform === undefined)
    throw reader.error(
      'platform',
      `there is no platform "${platform}": expected "onnxruntime_onnx" or "ensemble", or a backend in place of it`,
    )
  if (byName !== undefined && byPlatform !== undefined && byName !== byPlatform)
    throw reader.error('platform', `is "${platform}", and backend is "${named}"`)
  const backend = byName ?? byPlatform ?? kind
  return { backend, platform: platform ?? platforms[backend] }
}

function readParameters(reader: MessageReader): ReadonlyMap<string, string> {
  return reader.map('parameters', (value) => {
    const text = value.text('string_value') ?? ''
    value.end()
    return text
  })
}

function readThreads(reader: MessageReader, parameters: ReadonlyMap<string, string>): number | undefined {
  const text = parameters.get(threadsParameter)
  if (text === undefined || text === '0') return undefined
  if (!/^[1-9]\d{0,3}$/.test(text)) throw reader.error('parameters', `"${threadsParameter}" is "${text}": expected a count of threads`)
  return Number(text)
}

/** In the version's folder. */
function checkFile(reader: MessageReader, file: string): string {
  if (/[/\\\0]/.test(file) || file === '..' || file === '.')
    throw reader.error('default_model_filename', `"${file}" is no name of a file in the version's folder`)
  return file
}

function readTheRest(reader: MessageReader): void {
  reader.refused('inputs are not made from the shapes of a batch', 'batch_input', 'batch_output')
  reader.refused('ONNX Runtime brings its own operators only', 'model_operations')
  reader.refused('versions are checked by golden requests instead', 'model_repository_agents')
  const transactions = reader.message('model_transaction_policy')
  transactions?.refused('a request has exactly one answer', 'decoupled')
  transactions?.end()
  reader.unused('the backend has one library', 'runtime')
  reader.unused('files do not depend on a device', 'cc_model_filenames')
  reader.unused('answers are not cached', 'response_cache')
  reader.unused('series have the labels model and version', 'metric_tags', 'model_metrics')
}
