import { type Admission, type GrpcService, type RpcCall, type RpcHandler, bidiStreamHandler, unaryHandler } from '@spillway/rpc'
import { inference, type ParameterValue } from '@spillway/wire'
import type { Models } from '../models.ts'
import { configMessage } from './config-message.ts'
import { extensions } from './extensions.ts'
import { inferExchange } from './infer-exchange.ts'
import { readRequest, writeResponse } from './infer-message.ts'
import { type ModelMetadata, modelMetadata, type TensorMetadata, useModel } from './model-metadata.ts'
import { loadOverrides, refuseRepositoryName, repositoryIndex, unloadDependents } from './repository-control.ts'
import { versionChoice } from './request-parameters.ts'
import { defaultIdentity, type ServerIdentity } from './server-identity.ts'
import { statisticsOf } from './statistics-message.ts'
import { streamInfer } from './stream-infer.ts'

/**
 * The Open Inference Protocol v2 over gRPC (`inference.GRPCInferenceService`), with Triton's extensions.
 * @param admission bounds the calls of `ModelInfer`; unbounded where absent
 */
export function inferenceService(models: Models, identity: ServerIdentity = defaultIdentity, admission?: Admission): GrpcService {
  return {
    definition: inference.GRPCInferenceServiceService,
    implementation: { ...aboutServer(models, identity), ...aboutModels(models), ...inferring(models), ...repository(models) },
    ...(admission !== undefined && { admissions: { modelInfer: admission } }),
  }
}

function aboutServer(models: Models, identity: ServerIdentity): Record<string, RpcHandler> {
  return {
    serverLive: unaryHandler(async (): Promise<inference.ServerLiveResponse> => ({ live: true })),
    serverReady: unaryHandler(async (): Promise<inference.ServerReadyResponse> => ({ ready: models.ready })),
    serverMetadata: unaryHandler(async (): Promise<inference.ServerMetadataResponse> => ({ ...identity, extensions: [...extensions] })),
  }
}

function aboutModels(models: Models): Record<string, RpcHandler> {
  return {
    modelReady: unaryHandler(async ({ name, version }: inference.ModelReadyRequest): Promise<inference.ModelReadyResponse> => ({
      ready: models.isReady(name, versionChoice(version)),
    })),
    modelMetadata: unaryHandler(async ({ name, version }: inference.ModelMetadataRequest) =>
      metadataMessage(await modelMetadata(models, name, version)),
    ),
    modelConfig: unaryHandler(async ({ name, version }: inference.ModelConfigRequest): Promise<inference.ModelConfigResponse> => ({
      config: await useModel(models, name, version, configMessage),
    })),
    modelStatistics: unaryHandler(
      async ({ name, version }: inference.ModelStatisticsRequest): Promise<inference.ModelStatisticsResponse> => ({
        modelStats: statisticsOf(models, name, version),
      }),
    ),
  }
}

function metadataMessage({ name, versions, platform, inputs, outputs }: ModelMetadata): inference.ModelMetadataResponse {
  return { name, versions: [...versions], platform, inputs: inputs.map(tensorMessage), outputs: outputs.map(tensorMessage), properties: {} }
}

function tensorMessage({ name, datatype, shape }: TensorMetadata): inference.ModelMetadataResponse_TensorMetadata {
  return { name, datatype, shape: shape.map(BigInt) }
}

function inferring(models: Models): Record<string, RpcHandler> {
  const infer = async (request: inference.ModelInferRequest, call: RpcCall): Promise<inference.ModelInferResponse> =>
    writeResponse(request, await inferExchange(models, readRequest(request), call))
  return {
    modelInfer: unaryHandler(infer),
    modelStreamInfer: bidiStreamHandler((requests: AsyncIterable<inference.ModelInferRequest>, call: RpcCall) =>
      streamInfer(requests, call, (request) => infer(request, call)),
    ),
  }
}

function repository(models: Models): Record<string, RpcHandler> {
  return {
    repositoryIndex: unaryHandler(
      async ({ repositoryName, ready }: inference.RepositoryIndexRequest): Promise<inference.RepositoryIndexResponse> => {
        refuseRepositoryName(repositoryName)
        return { models: repositoryIndex(models, ready) }
      },
    ),
    repositoryModelLoad: unaryHandler(
      async (request: inference.RepositoryModelLoadRequest): Promise<inference.RepositoryModelLoadResponse> => {
        refuseRepositoryName(request.repositoryName)
        await models.load(request.modelName, loadOverrides(Object.entries(request.parameters), stringParameter, bytesParameter))
        return {}
      },
    ),
    repositoryModelUnload: unaryHandler(
      async (request: inference.RepositoryModelUnloadRequest): Promise<inference.RepositoryModelUnloadResponse> => {
        refuseRepositoryName(request.repositoryName)
        await models.unload(request.modelName, { dependents: unloadDependents(Object.entries(request.parameters).map(plainParameter)) })
        return {}
      },
    ),
  }
}

function stringParameter({ parameterChoice: choice }: inference.ModelRepositoryParameter): string | undefined {
  return choice?.$case === 'stringParam' ? choice.value : undefined
}

function bytesParameter({ parameterChoice: choice }: inference.ModelRepositoryParameter): Uint8Array | undefined {
  return choice?.$case === 'bytesParam' ? choice.value : undefined
}

function plainParameter([name, { parameterChoice: choice }]: [string, inference.ModelRepositoryParameter]): readonly [
  string,
  ParameterValue,
] {
  return [name, choice === undefined || choice.$case === 'bytesParam' ? '' : choice.value]
}
