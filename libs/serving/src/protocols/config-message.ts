import type { Datatype } from '@spillway/core'
import { modelConfig as proto } from '@spillway/wire'
import type { ModelSignature } from '../backend.ts'
import type { BackendKind, BatchingConfig, EnsembleStep, ModelConfig, VersionPolicy, WarmupRequest } from '../config/model-config.ts'
import type { ModelHandle } from '../models.ts'

/** A model's settings as Triton's ModelConfig, complete: tensors as they are served. */
export function configMessage({ config, signature }: Pick<ModelHandle, 'config' | 'signature'>): proto.ModelConfig {
  const { name, platform, backend, versionPolicy, file, batching, ensemble, warmup, parameters } = config
  const maxBatchSize = signature.wholeShapes === undefined ? (config.maxBatchSize ?? 0) : 0
  return {
    name,
    platform,
    backend,
    versionPolicy: policyMessage(versionPolicy),
    maxBatchSize,
    input: tensors(signature, 'inputs'),
    output: tensors(signature, 'outputs').map((output) => ({ ...output, labelFilename: labelFile(config, output.name) })),
    instanceGroup: ensemble === undefined ? [instances(config)] : [],
    defaultModelFilename: file ?? defaultFiles[backend],
    parameters: Object.fromEntries(Array.from(parameters, ([key, value]) => [key, { stringValue: value }])),
    modelWarmup: warmup.map(warmupMessage),
    modelTransactionPolicy: { decoupled: false },
    responseCache: { enable: false },
    schedulingChoice: scheduling(batching, ensemble, maxBatchSize),
  }
}

const defaultFiles: Readonly<Record<BackendKind, string>> = { onnxruntime: 'model.onnx', remote: '', module: 'model.ts', ensemble: '' }

/** config.pbtxt's name of a datatype: TYPE_FP32, …; BYTES is TYPE_STRING. */
function dataType(datatype: Datatype): proto.DataType {
  return proto.DataType[`TYPE_${datatype === 'BYTES' ? 'STRING' : datatype}`]
}

function tensors(signature: ModelSignature, side: 'inputs' | 'outputs'): proto.ModelInput[] {
  return Array.from(signature[side], ([name, { datatype, rowShape }]) => ({
    name,
    dataType: dataType(datatype),
    dims: (signature.wholeShapes?.get(name) ?? rowShape).map(BigInt),
  }))
}

function labelFile({ outputs }: ModelConfig, name: string): string {
  return outputs?.find((output) => output.name === name)?.labelFile ?? ''
}

function instances({ name, instanceCount, executionProviders = ['cpu'] }: ModelConfig): proto.ModelInstanceGroup {
  const { KIND_CPU, KIND_GPU } = proto.ModelInstanceGroup_Kind
  return { name, count: instanceCount ?? 1, gpus: [], kind: executionProviders[0] === 'cpu' ? KIND_CPU : KIND_GPU }
}

function policyMessage(policy: VersionPolicy): proto.ModelVersionPolicy {
  if (policy.kind === 'all') return { policyChoice: { $case: 'all', value: {} } }
  if (policy.kind === 'latest') return { policyChoice: { $case: 'latest', value: { numVersions: policy.count } } }
  return { policyChoice: { $case: 'specific', value: { versions: policy.versions.map(BigInt) } } }
}

function scheduling(
  batching: BatchingConfig | undefined,
  ensemble: readonly EnsembleStep[] | undefined,
  maxBatchSize: number,
): proto.ModelConfig['schedulingChoice'] {
  if (ensemble !== undefined) return { $case: 'ensembleScheduling', value: { step: ensemble.map(stepMessage) } }
  return maxBatchSize === 0 ? undefined : { $case: 'dynamicBatching', value: batchingMessage(batching) }
}

/** Rows of many callers share runs though the configuration does not say so. */
function batchingMessage(batching: BatchingConfig | undefined): proto.ModelDynamicBatching {
  const { REJECT, DELAY } = proto.ModelQueuePolicy_TimeoutAction
  return {
    preferredBatchSize: [...(batching?.preferredBatchSizes ?? [])],
    maxQueueDelayMicroseconds: microseconds(batching?.maxQueueDelayMs ?? 0),
    preserveOrdering: false,
    priorityLevels: 0n,
    defaultPriorityLevel: 0n,
    defaultQueuePolicy: {
      timeoutAction: batching?.timeoutAction === 'delay' ? DELAY : REJECT,
      defaultTimeoutMicroseconds: microseconds(batching?.defaultTimeoutMs ?? 0),
      allowTimeoutOverride: batching?.allowTimeoutOverride ?? false,
      maxQueueSize: batching?.maxQueueRows ?? 0,
    },
  }
}

function microseconds(ms: number): bigint {
  return BigInt(Math.round(ms * 1000))
}

function stepMessage({ model, version, inputs, outputs }: EnsembleStep): proto.ModelEnsembling_Step {
  return {
    modelName: model,
    modelVersion: version === undefined ? -1n : BigInt(version),
    inputMap: Object.fromEntries(inputs),
    outputMap: Object.fromEntries(outputs),
  }
}

function warmupMessage({ name, rowCount, count, inputs }: WarmupRequest): proto.ModelWarmup {
  return {
    name,
    batchSize: rowCount,
    count,
    inputs: Object.fromEntries(
      Array.from(inputs, ([input, { datatype, dims, data }]) => [
        input,
        { dataType: dataType(datatype), dims: dims.map(BigInt), inputDataType: warmupData(data) },
      ]),
    ),
  }
}

function warmupData(data: 'zero' | 'random' | { readonly file: string }): proto.ModelWarmup_Input['inputDataType'] {
  if (data === 'zero') return { $case: 'zeroData', value: true }
  return data === 'random' ? { $case: 'randomData', value: true } : { $case: 'inputDataFile', value: data.file }
}
