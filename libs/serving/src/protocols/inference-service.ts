import type { Signature } from '@spillway/core'
import { type GrpcService, type RpcCall, unaryHandler } from '@spillway/rpc'
import { inference } from '@spillway/wire'
import type { Models, VersionChoice } from '../models.ts'
import { checkRequestedOutputs, inferResponse, readInputs } from './infer-message.ts'
import { defaultIdentity, type ServerIdentity } from './server-identity.ts'

/** The Open Inference Protocol v2 over gRPC (`inference.GRPCInferenceService`). */
export function inferenceService(models: Models, identity: ServerIdentity = defaultIdentity): GrpcService {
  return {
    definition: inference.GRPCInferenceServiceService,
    implementation: {
      serverLive: unaryHandler(async (): Promise<inference.ServerLiveResponse> => ({ live: true })),
      serverReady: unaryHandler(async (): Promise<inference.ServerReadyResponse> => ({ ready: models.ready })),
      serverMetadata: unaryHandler(async (): Promise<inference.ServerMetadataResponse> => ({ ...identity, extensions: [] })),
      modelReady: unaryHandler(async ({ name, version }: inference.ModelReadyRequest): Promise<inference.ModelReadyResponse> => ({
        ready: models.isReady(name, choice(version)),
      })),
      modelMetadata: unaryHandler(({ name, version }: inference.ModelMetadataRequest) => metadataOf(models, name, version)),
      modelInfer: unaryHandler((request: inference.ModelInferRequest, call) => infer(models, request, call)),
    },
  }
}

function choice(version: string): VersionChoice {
  return version === '' ? {} : { version }
}

async function metadataOf(models: Models, name: string, version: string): Promise<inference.ModelMetadataResponse> {
  const handle = await models.acquire(name, choice(version))
  const { signature, config, version: served } = handle
  handle.release()
  const rows = config.maxBatchSize === 1 ? 1n : -1n
  return {
    name,
    versions: [served],
    platform: config.platform,
    inputs: tensorMetadata(signature.inputs, rows),
    outputs: tensorMetadata(signature.outputs, rows),
    properties: {},
  }
}

function tensorMetadata(signature: Signature, rows: bigint): inference.ModelMetadataResponse_TensorMetadata[] {
  return Array.from(signature, ([name, { datatype, rowShape }]) => ({ name, datatype, shape: [rows, ...rowShape.map(BigInt)] }))
}

async function infer(models: Models, request: inference.ModelInferRequest, call: RpcCall): Promise<inference.ModelInferResponse> {
  const handle = await models.acquire(request.modelName, choice(request.modelVersion))
  try {
    const { signature, version } = handle
    checkRequestedOutputs(request, signature)
    const { inputs, rowCount } = readInputs(request, signature)
    const outputs = await handle.infer(inputs, rowCount, { deadlineMs: call.deadlineMs, signal: call.signal })
    return inferResponse(request, version, outputs)
  } finally {
    handle.release()
  }
}
