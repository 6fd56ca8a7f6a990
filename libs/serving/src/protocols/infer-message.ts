import { MeshError, type Tensor } from '@spillway/core'
import { fromRawTensors, type inference, type ParameterValue, type RequestedOutput, reservedPrefix, toRawTensors } from '@spillway/wire'
import type { Tensors } from '../backend.ts'
import type { InferAnswer, InferExchange } from './infer-exchange.ts'
import type { Parameters } from './request-parameters.ts'

const none: Parameters = new Map()

/**
 * A ModelInferRequest, decoded. Tensors with reserved names are metadata of a frame, and left undecoded. Names, datatypes and shapes are checked against the
 * model where the request is run. @throws MeshError INVALID_ARGUMENT naming the tensor, and what was expected.
 */
export function readRequest(request: inference.ModelInferRequest): InferExchange {
  const { outputs } = request
  return {
    model: request.modelName,
    version: request.modelVersion,
    parameters: parametersOf(request.parameters),
    inputs: decodeInputs(request),
    outputs: outputs.length === 0 ? noOutputs : outputs.map(({ name, parameters }) => ({ name, parameters: parametersOf(parameters) })),
  }
}

const noOutputs: readonly RequestedOutput[] = []

function decodeInputs({ inputs, rawInputContents }: inference.ModelInferRequest): Tensors {
  for (const { name, parameters } of inputs)
    if ('shared_memory_region' in parameters)
      throw new MeshError(
        'INVALID_ARGUMENT',
        `tensor "${name}" is in shared memory, which this server does not support: send its data in the request`,
        {
          field: name,
        },
      )
  // A raw content goes with each tensor or with none: a mismatch is left whole for the codec to refuse.
  const reserved = inputs.some(({ name }) => name.startsWith(reservedPrefix))
  if (!reserved || (rawInputContents.length > 0 && rawInputContents.length !== inputs.length))
    return fromRawTensors(inputs, rawInputContents)
  const own = (_: unknown, index: number): boolean => !inputs[index]!.name.startsWith(reservedPrefix)
  return fromRawTensors(inputs.filter(own), rawInputContents.filter(own))
}

function parametersOf(parameters: Readonly<Record<string, inference.InferParameter>>): Parameters {
  let values: Map<string, ParameterValue> | undefined
  for (const name in parameters) {
    const choice = parameters[name]!.parameterChoice
    if (choice !== undefined) (values ??= new Map()).set(name, choice.value)
  }
  return values ?? none
}

/** The answer to the caller. Data is always raw. */
export function writeResponse(request: inference.ModelInferRequest, { version, outputs }: InferAnswer): inference.ModelInferResponse {
  const { tensors, raw } = toRawTensors(outputs as Iterable<readonly [string, Tensor]>)
  return { modelName: request.modelName, modelVersion: version, id: request.id, parameters: {}, outputs: tensors, rawOutputContents: raw }
}
