import { type ColumnType, type Component, isDatatype, MeshError, type Signature, text, textValues } from '@spillway/core'
import type { GrpcChannel } from '@spillway/rpc'
import { fromRawTensors, inference, toRawTensors } from '@spillway/wire'
import type { InferRequest, InferResponse, ModelClient, ModelSignature, Tensors } from './backend.ts'
import { rowKeysTensor, rowVersionsTensor, splitParameter } from './protocols/row-keys.ts'

type TensorMetadata = inference.ModelMetadataResponse_TensorMetadata

const { modelConfig, modelMetadata, modelInfer } = inference.GRPCInferenceServiceService

/** What a server says that a model takes. */
export interface RemoteDescription {
  readonly signature: ModelSignature
  /** Infinity where the server names no limit; 1 for a model that is not batched. */
  readonly maxBatchRows: number
}

/** Models behind an Open Inference Protocol v2 gRPC server; tensors travel as raw contents. It owns the channel. */
export class OipModelClient implements ModelClient, Component {
  readonly #channel: GrpcChannel
  /** Models whose last answer said that their traffic is split. */
  readonly #split = new Set<string>()

  constructor(channel: GrpcChannel) {
    this.#channel = channel
  }

  /** Begins to connect; the server may come later. */
  start(signal: AbortSignal): Promise<void> {
    return this.#channel.start(signal)
  }

  /** Resolves once connected. @throws as the channel's. */
  waitForReady(signal: AbortSignal): Promise<void> {
    return this.#channel.waitForReady(signal)
  }

  drain(): Promise<void> {
    return this.#channel.drain()
  }

  /** Whether its first dimension is the row, and how many rows it takes, too: by the server's model configuration extension, or by the metadata's shapes. */
  async describe(model: string, version: string, signal: AbortSignal): Promise<RemoteDescription> {
    const { inputs, outputs } = await this.#channel.unary(modelMetadata, { name: model, version }, { signal })
    const tensors = [...inputs, ...outputs]
    const maxBatchSize = await this.#maxBatchSize(model, version, signal)
    const batched = maxBatchSize === undefined ? tensors.every(({ shape }) => shape[0] === -1n) : maxBatchSize > 0
    if (batched) {
      const signature = { inputs: this.#columns(model, inputs), outputs: this.#columns(model, outputs) }
      return { signature, maxBatchRows: maxBatchSize ?? Infinity }
    }
    const wholeShapes = new Map(tensors.map(({ name, shape }) => [name, shape.map(Number)]))
    const whole = (own: readonly TensorMetadata[]): Signature => this.#columns(model, own, 0)
    return { signature: { inputs: whole(inputs), outputs: whole(outputs), wholeShapes }, maxBatchRows: 1 }
  }

  /** Undefined where the server has no such extension. */
  async #maxBatchSize(name: string, version: string, signal: AbortSignal): Promise<number | undefined> {
    try {
      const { config } = await this.#channel.unary(modelConfig, { name, version }, { signal })
      return config?.maxBatchSize
    } catch (thrown) {
      if (MeshError.from(thrown).code === 'UNIMPLEMENTED') return undefined
      throw thrown
    }
  }

  async signature(model: string, signal: AbortSignal): Promise<ModelSignature> {
    const { inputs, outputs } = await this.#channel.unary(modelMetadata, { name: model, version: '' }, { signal })
    return { inputs: this.#columns(model, inputs), outputs: this.#columns(model, outputs) }
  }

  #columns(model: string, tensors: readonly TensorMetadata[], leastRank = 1): Signature {
    const columns = new Map<string, ColumnType>()
    for (const { name, datatype, shape } of tensors) {
      if (!isDatatype(datatype) || shape.length < leastRank)
        throw this.#wrongAnswer(
          `tensor "${name}" of model "${model}" is ${datatype} [${shape.join(', ')}]: expected an OIP datatype, and the row as first dimension`,
        )
      columns.set(name, { datatype, rowShape: shape.slice(1).map(Number) })
    }
    return columns
  }

  async infer(request: InferRequest): Promise<InferResponse> {
    const response = await this.#callByKey(request)
    for (const [name, { shape }] of response.outputs) {
      if (shape[0] !== request.rowCount)
        throw this.#wrongAnswer(`output "${name}" has shape [${shape.join(', ')}] for ${request.rowCount} rows`)
    }
    return response
  }

  async #callByKey(request: InferRequest): Promise<InferResponse> {
    const { model, keys, version } = request
    if (keys === undefined || version !== undefined) return this.call(request)
    if (!this.#split.has(model)) {
      const response = await this.call(request)
      if (!this.#split.has(model)) return response
    }
    // Of the first answer that says so, the rows have gone to one version whatever their keys: it is not used.
    const inputs = new Map(request.inputs).set(rowKeysTensor, text(keys))
    const { outputs, ...response } = await this.call({ ...request, inputs })
    const versions = outputs.get(rowVersionsTensor)
    if (versions?.datatype !== 'BYTES') return { ...response, outputs }
    return {
      ...response,
      outputs: new Map([...outputs].filter(([name]) => name !== rowVersionsTensor)),
      rowVersions: textValues(versions.data),
    }
  }

  /** As `infer`, without a look at the rows of the answer. */
  async call({ model, version, inputs, deadlineMs, signal }: Omit<InferRequest, 'rowCount'>): Promise<InferResponse> {
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
    if (version === undefined) this.#heedSplit(model, response)
    return { model, version: response.modelVersion, outputs: this.#outputs(response) }
  }

  #heedSplit(model: string, { parameters }: inference.ModelInferResponse): void {
    const choice = parameters[splitParameter]?.parameterChoice
    if (choice?.$case === 'boolParam' && choice.value) this.#split.add(model)
    else if (this.#split.size > 0) this.#split.delete(model)
  }

  #outputs({ outputs, rawOutputContents }: inference.ModelInferResponse): Tensors {
    try {
      return fromRawTensors(outputs, rawOutputContents)
    } catch (error) {
      throw this.#wrongAnswer((error as Error).message)
    }
  }

  /** The server's fault, which no other input cures. */
  #wrongAnswer(what: string): MeshError {
    return new MeshError('INTERNAL', `the model server at ${this.#channel.address} answered what the protocol does not allow: ${what}`)
  }
}
