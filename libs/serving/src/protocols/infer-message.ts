import { MeshError, type Tensor, text, textValues } from '@spillway/core'
import { fromRawTensors, type inference, type ParameterValue, type RequestedOutput, reservedPrefix, toRawTensors } from '@spillway/wire'
import type { Tensors } from '../backend.ts'
import type { InferAnswer, InferExchange } from './infer-exchange.ts'
import type { Parameters } from './request-parameters.ts'
import { rowKeysTensor, rowVersionsTensor, splitParameter } from './row-keys.ts'

const none: Parameters = new Map()

const noParameters: inference.ModelInferResponse['parameters'] = {}
const splitParameters: inference.ModelInferResponse['parameters'] = {
  [splitParameter]: { parameterChoice: { $case: 'boolParam', value: true } },
}

/**
 * A ModelInferRequest, decoded. Tensors with reserved names are metadata of a frame, and left undecoded. Names, datatypes and shapes are checked against the
 * model where the request is run. @throws MeshError INVALID_ARGUMENT naming the tensor, and what was expected.
 */
export function readRequest(request: inference.ModelInferRequest): InferExchange {
  const { outputs, inputs } = request
  const hasKeys = inputs.some(({ name }) => name === rowKeysTensor)
  return {
    model: request.modelName,
    version: request.modelVersion,
    parameters: parametersOf(request.parameters),
    inputs: decodeInputs(request),
    ...(hasKeys && { keys: (rowCount: number) => decodeKeys(request, rowCount) }),
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

function decodeKeys({ inputs, rawInputContents }: inference.ModelInferRequest, rowCount: number): readonly string[] {
  const at = inputs.findIndex(({ name }) => name === rowKeysTensor)
  const keys = fromRawTensors(inputs.slice(at, at + 1), rawInputContents.slice(at, at + 1)).get(rowKeysTensor)!
  if (rowCount > 0 && keys.datatype === 'BYTES' && keys.shape.length === 1 && keys.shape[0] === rowCount) return textValues(keys.data)
  throw new MeshError(
    'INVALID_ARGUMENT',
    `tensor "${rowKeysTensor}" is ${keys.datatype} of shape [${keys.shape.join(', ')}]: expected BYTES of shape [${rowCount}], at least one row`,
    { field: rowKeysTensor },
  )
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
export function writeResponse(
  request: inference.ModelInferRequest,
  { version, rowVersions, split, outputs }: InferAnswer,
): inference.ModelInferResponse {
  const all = rowVersions === undefined ? outputs : [...outputs, [rowVersionsTensor, text(rowVersions)] as const]
  const { tensors, raw } = toRawTensors(all as Iterable<readonly [string, Tensor]>)
  const parameters = split === true ? splitParameters : noParameters
  return { modelName: request.modelName, modelVersion: version, id: request.id, parameters, outputs: tensors, rawOutputContents: raw }
}
