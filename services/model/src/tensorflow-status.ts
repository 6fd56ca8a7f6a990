import { type ColumnType, type Datatype, MeshError, type Signature } from '@spillway/core'
import type { ModelHandle, Models, VersionChoice, VersionStatus } from '@spillway/serving'

/** TensorFlow's names (tensorflow/core/framework/types.proto). */
const dataTypes: Readonly<Record<Datatype, string>> = {
  BOOL: 'DT_BOOL',
  UINT8: 'DT_UINT8',
  UINT16: 'DT_UINT16',
  UINT32: 'DT_UINT32',
  UINT64: 'DT_UINT64',
  INT8: 'DT_INT8',
  INT16: 'DT_INT16',
  INT32: 'DT_INT32',
  INT64: 'DT_INT64',
  FP16: 'DT_HALF',
  BF16: 'DT_BFLOAT16',
  FP32: 'DT_FLOAT',
  FP64: 'DT_DOUBLE',
  BYTES: 'DT_STRING',
}

/**
 * GetModelStatusResponse as JSON. Of a whole model also `name` and `ready`, which is what KServe's V1 protocol asks this path for.
 * @throws MeshError NOT_FOUND for an unknown model or version, INVALID_ARGUMENT for an unknown label
 */
export function statusText(models: Models, model: string, choice: VersionChoice): string {
  const version = choice.label === undefined ? choice.version : versionOfLabel(models, model, choice.label)
  const all = statusesOf(models, model)
  const wanted = version === undefined ? all : all.filter((status) => status.version === version)
  if (wanted.length === 0) {
    const which = version === undefined ? 'any versions' : `version ${version}`
    throw new MeshError('NOT_FOUND', `Could not find ${which} of model ${model}`)
  }
  const model_version_status = wanted.map(({ version: number, state, error }) => ({
    version: number,
    state,
    status: { error_code: error?.code ?? 'OK', error_message: error?.message ?? '' },
  }))
  return pretty(version === undefined ? { model_version_status, name: model, ready: models.isReady(model) } : { model_version_status })
}

function statusesOf(models: Models, model: string): readonly VersionStatus[] {
  try {
    return models.statuses(model)
  } catch (error) {
    if (MeshError.from(error).code === 'NOT_FOUND') return []
    throw error
  }
}

function versionOfLabel(models: Models, model: string, label: string): string {
  const version = models.names().includes(model) ? models.labels(model).get(label) : undefined
  if (version === undefined) throw unknownLabel(label)
  return version
}

export function unknownLabel(label: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', `Unrecognized servable version label: ${label}`)
}

/** GetModelMetadataResponse as JSON. Tensors have no other name than that by which they are called. */
export function metadataText({ model, version, signature }: ModelHandle): string {
  const { inputs, outputs, wholeShapes } = signature
  const tensors = (named: Signature): object =>
    Object.fromEntries([...named].map(([name, type]) => [name, tensorInfo(name, type, wholeShapes?.get(name))]))
  const serving_default = { inputs: tensors(inputs), outputs: tensors(outputs), method_name: 'tensorflow/serving/predict' }
  return pretty({
    model_spec: { name: model, signature_name: '', version },
    metadata: { signature_def: { signature_def: { serving_default } } },
  })
}

function tensorInfo(name: string, { datatype, rowShape }: ColumnType, whole: readonly number[] = [-1, ...rowShape]): object {
  const dim = whole.map((size) => ({ size: String(size), name: '' }))
  return { dtype: dataTypes[datatype], tensor_shape: { dim, unknown_rank: false }, name: `${name}:0` }
}

export function pretty(value: object): string {
  return `${JSON.stringify(value, undefined, 1)}\n`
}
