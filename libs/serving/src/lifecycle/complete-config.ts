import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type ColumnType, MeshError, type Signature } from '@spillway/core'
import type { ModelSignature } from '../backend.ts'
import type { ModelConfig, TensorConfig } from '../config/model-config.ts'

/** What the service's flags say of every model that does not say otherwise. */
export interface ModelDefaults {
  readonly instanceCount?: number
  /** Of ONNX models, where that is absent. */
  readonly onnxInstanceCount: number
  readonly threadsPerRun?: number
}

/** The config that a version is loaded with: the model's own, or what holds without one. */
export function loadConfig(name: string, config: ModelConfig | undefined, defaults: ModelDefaults): ModelConfig {
  const own: ModelConfig = config ?? {
    name,
    backend: 'onnxruntime',
    platform: 'onnxruntime_onnx',
    versionPolicy: { kind: 'latest', count: 1 },
    warmup: [],
    parameters: new Map(),
  }
  const { instanceCount = own.backend === 'onnxruntime' ? defaults.onnxInstanceCount : undefined, threadsPerRun } = defaults
  return {
    ...(instanceCount === undefined ? {} : { instanceCount }),
    ...(threadsPerRun === undefined ? {} : { threadsPerRun }),
    ...own,
  }
}

/**
 * The config with what the file says where it is silent: tensors, and the most rows of a run.
 * @throws MeshError FAILED_PRECONDITION whose field is the setting, where config and file do not agree
 */
export function completeConfig(config: ModelConfig, signature: ModelSignature, fileMaxRows: number, defaultMaxRows: number): ModelConfig {
  const fits = signature.wholeShapes === undefined
  const maxBatchSize = fits ? Math.min(config.maxBatchSize || defaultMaxRows, fileMaxRows) : 0
  if (config.maxBatchSize !== undefined && config.maxBatchSize > maxBatchSize)
    throw new MeshError(
      'FAILED_PRECONDITION',
      `model "${config.name}": max_batch_size is ${config.maxBatchSize}, and its file takes ${fits ? `${fileMaxRows} rows at most` : 'whole tensors, not rows'}`,
      { field: 'max_batch_size' },
    )
  return {
    ...config,
    maxBatchSize: config.maxBatchSize ?? maxBatchSize,
    inputs: completeTensors(config, 'input', config.inputs, signature.inputs, signature.wholeShapes),
    outputs: completeTensors(config, 'output', config.outputs, signature.outputs, signature.wholeShapes),
  }
}

function completeTensors(
  { name: model }: ModelConfig,
  kind: 'input' | 'output',
  given: readonly TensorConfig[] | undefined,
  file: Signature,
  wholeShapes: ModelSignature['wholeShapes'],
): readonly TensorConfig[] {
  const configs = new Map((given ?? []).map((tensor) => [tensor.name, tensor]))
  for (const [index, { name, datatype, dims }] of (given ?? []).entries()) {
    const field = `${kind}[${index}]`
    const type = file.get(name)
    if (type === undefined)
      throw new MeshError('FAILED_PRECONDITION', `model "${model}" has no ${kind} "${name}": its file has ${[...file.keys()].join(', ')}`, {
        field: `${field}.name`,
      })
    const own = wholeShapes?.get(name) ?? type.rowShape
    if (type.datatype === datatype && sameDims(dims, own)) continue
    throw new MeshError(
      'FAILED_PRECONDITION',
      `model "${model}": ${kind} "${name}" is ${datatype} [${dims.join(', ')}] in its config, and ${type.datatype} [${own.join(', ')}] in its file`,
      { field: type.datatype === datatype ? `${field}.dims` : `${field}.data_type` },
    )
  }
  return Array.from(file, ([name, type]) => configs.get(name) ?? tensorConfig(name, type, wholeShapes))
}

function tensorConfig(name: string, { datatype, rowShape }: ColumnType, wholeShapes: ModelSignature['wholeShapes']): TensorConfig {
  return { name, datatype, dims: wholeShapes?.get(name) ?? rowShape }
}

/** A value a row is written as [1] or left empty (config.pbtxt has no empty `dims`). */
function sameDims(config: readonly number[], file: readonly number[]): boolean {
  if (file.length === 0 && config.length === 1 && config[0] === 1) return true
  return config.length === file.length && config.every((size, i) => size === file[i] || size === -1 || file[i] === -1)
}

/** Most names of classes of one output: ImageNet-21k has 21,843. */
const mostClasses = 1_000_000

/** Names of classes by output, from the files beside the config, one name a line. @throws MeshError FAILED_PRECONDITION naming the file. */
export async function readClassLabels(config: ModelConfig, modelFolder: string): Promise<ReadonlyMap<string, readonly string[]>> {
  const labels = new Map<string, readonly string[]>()
  for (const { name, labelFile } of config.outputs ?? []) {
    if (labelFile === undefined || labelFile === '') continue
    const path = join(modelFolder, labelFile)
    const text = await readFile(path, 'utf8').catch((error: unknown) => {
      throw new MeshError('FAILED_PRECONDITION', `${path}, with the classes of output "${name}", cannot be read`, { cause: error })
    })
    const lines = text.replace(/\r?\n$/, '').split(/\r?\n/)
    if (lines.length > mostClasses)
      throw new MeshError('FAILED_PRECONDITION', `${path} has ${lines.length} lines: at most ${mostClasses} classes`)
    labels.set(name, lines)
  }
  return labels
}
