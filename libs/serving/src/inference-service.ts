import type { Signature } from '@spillway/core'
import { type GrpcService, type RpcCall, unaryHandler } from '@spillway/rpc'
import { inference } from '@spillway/wire'
import { checkRequestedOutputs, inferResponse, readInputs } from './infer-message.ts'
import type { ModelManager } from './manager.ts'

/** What the server calls itself in its metadata. */
export interface ServerIdentity {
  readonly name: string
  readonly version: string
}

/** The Open Inference Protocol v2 over gRPC (`inference.GRPCInferenceService`) for the manager's models. */
export function inferenceService(manager: ModelManager, identity: ServerIdentity = { name: 'spillway', version: '0.1.0' }): GrpcService {
  return {
    definition: inference.GRPCInferenceServiceService,
    implementation: {
      serverLive: unaryHandler(async (): Promise<inference.ServerLiveResponse> => ({ live: true })),
      serverReady: unaryHandler(async (): Promise<inference.ServerReadyResponse> => ({ ready: manager.ready })),
      serverMetadata: unaryHandler(async (): Promise<inference.ServerMetadataResponse> => ({ ...identity, extensions: [] })),
      modelReady: unaryHandler(async ({ name, version }: inference.ModelReadyRequest): Promise<inference.ModelReadyResponse> => ({
        ready: manager.isReady(name, version),
      })),
      modelMetadata: unaryHandler(async ({ name, version }: inference.ModelMetadataRequest) => metadataOf(manager, name, version)),
      modelInfer: unaryHandler((request: inference.ModelInferRequest, call) => infer(manager, request, call)),
    },
  }
}

function metadataOf(manager: ModelManager, name: string, version: string): inference.ModelMetadataResponse {
  const handle = manager.acquire(name, version)
  const { signature, maxBatchRows, version: served } = handle.servable
  handle.release()
  const rows = maxBatchRows === 1 ? 1n : -1n
  return {
    name,
    versions: [served],
    platform: 'onnxruntime_onnx',
    inputs: tensorMetadata(signature.inputs, rows),
    outputs: tensorMetadata(signature.outputs, rows),
    properties: {},
  }
}

function tensorMetadata(signature: Signature, rows: bigint): inference.ModelMetadataResponse_TensorMetadata[] {
  return Array.from(signature, ([name, { datatype, rowShape }]) => ({ name, datatype, shape: [rows, ...rowShape.map(BigInt)] }))
}

async function infer(manager: ModelManager, request: inference.ModelInferRequest, call: RpcCall): Promise<inference.ModelInferResponse> {
  const handle = manager.acquire(request.modelName, request.modelVersion)
  try {
    const { signature, version } = handle.servable
    checkRequestedOutputs(request, signature)
    const { inputs, rowCount } = readInputs(request, signature)
    const outputs = await handle.infer(inputs, rowCount, call.deadlineMs, call.signal)
    return inferResponse(request, version, outputs)
  } finally {
    handle.release()
  }
}
