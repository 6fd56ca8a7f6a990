import { type ColumnType, type Component, isDatatype, MeshError, type Signature } from '@spillway/core'
import type { GrpcChannel } from '@spillway/rpc'
import { fromRawTensors, inference, toRawTensors } from '@spillway/wire'
import type { InferRequest, InferResponse, ModelClient, ModelSignature, Tensors } from './backend.ts'

type TensorMetadata = inference.ModelMetadataResponse_TensorMetadata

const { modelMetadata, modelInfer } = inference.GRPCInferenceServiceService

/** Models behind an Open Inference Protocol v2 gRPC server; tensors travel as raw contents. It owns the channel. */
export class OipModelClient implements ModelClient, Component {
  readonly #channel: GrpcChannel

  constructor(channel: GrpcChannel) {
    this.#channel = channel
  }

  /** Begins to connect; the server may come later. */
  start(signal: AbortSignal): Promise<void> {
    return this.#channel.start(signal)
  }

  drain(): Promise<void> {
    return this.#channel.drain()
  }

  async signature(model: string, signal: AbortSignal): Promise<ModelSignature> {
    const { inputs, outputs } = await this.#channel.unary(modelMetadata, { name: model, version: '' }, { signal })
    return { inputs: this.#columns(model, inputs), outputs: this.#columns(model, outputs) }
  }

  #columns(model: string, tensors: readonly TensorMetadata[]): Signature {
    const columns = new Map<string, ColumnType>()
    for (const { name, datatype, shape } of tensors) {
      if (!isDatatype(datatype) || shape.length === 0)
        throw this.#wrongAnswer(
          `tensor "${name}" of model "${model}" is ${datatype} [${shape.join(', ')}]: expected an OIP datatype, and the row as first dimension`,
        )
      columns.set(name, { datatype, rowShape: shape.slice(1).map(Number) })
    }
    return columns
  }

  async infer({ model, version, inputs, rowCount, deadlineMs, signal }: InferRequest): Promise<InferResponse> {
    const { tensors, raw } = toRawTensors(inputs)
    const request: inference.ModelInferRequest = {
      modelName: model,
      modelVersion: version ?? '',
      id: '',
      parameters: {},
      inputs: tensors,
      outputs: [],
      rawInputContents: raw,
    }
    const response = await this.#channel.unary(modelInfer, request, { deadlineMs, signal })
    return { model, version: response.modelVersion, outputs: this.#outputs(response, rowCount) }
  }

  #outputs({ outputs, rawOutputContents }: inference.ModelInferResponse, rowCount: number): Tensors {
    let decoded: Tensors
    try {
      decoded = fromRawTensors(outputs, rawOutputContents)
    } catch (error) {
      throw this.#wrongAnswer((error as Error).message)
    }
    for (const [name, { shape }] of decoded) {
      if (shape[0] !== rowCount) throw this.#wrongAnswer(`output "${name}" has shape [${shape.join(', ')}] for ${rowCount} rows`)
    }
    return decoded
  }

  /** The server's fault, which no other input cures. */
  #wrongAnswer(what: string): MeshError {
    return new MeshError('INTERNAL', `the model server at ${this.#channel.address} answered what the protocol does not allow: ${what}`)
  }
}
