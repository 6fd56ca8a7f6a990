import { MeshError, type Tensor } from '@spillway/core'
import { fromRawTensors, type inference, reservedPrefix, toRawTensors } from '@spillway/wire'
import type { ModelSignature, Tensors } from '../backend.ts'

/**
 * The inputs of a ModelInferRequest, each of them one of the signature's. Tensors with reserved names are metadata of a frame, and left
 * undecoded. Datatypes, shapes and counts are checked where the rows enter the model's queue.
 * @throws MeshError INVALID_ARGUMENT naming the tensor, and what was expected.
 */
export function readInputs(request: inference.ModelInferRequest, { inputs }: ModelSignature): { inputs: Tensors; rowCount: number } {
  const decoded = decodeInputs(request)
  for (const name of decoded.keys()) {
    if (inputs.has(name)) continue
    throw invalid(name, `unexpected input "${name}" for model "${request.modelName}": its inputs are ${list(inputs.keys())}`)
  }
  const [first] = decoded.values() as Iterable<Tensor> as [Tensor | undefined]
  return { inputs: decoded, rowCount: first?.shape[0] ?? 0 }
}

function decodeInputs({ inputs, rawInputContents }: inference.ModelInferRequest): Tensors {
  // A raw content goes with each tensor or with none: a mismatch is left whole for the codec to refuse.
  const reserved = inputs.some(({ name }) => name.startsWith(reservedPrefix))
  if (!reserved || (rawInputContents.length > 0 && rawInputContents.length !== inputs.length))
    return fromRawTensors(inputs, rawInputContents)
  const own = (_: unknown, index: number): boolean => !inputs[index]!.name.startsWith(reservedPrefix)
  return fromRawTensors(inputs.filter(own), rawInputContents.filter(own))
}

/** The answer, with the outputs that were asked for, in that order; all where none is named. Data is always raw. */
export function inferResponse(request: inference.ModelInferRequest, version: string, outputs: Tensors): inference.ModelInferResponse {
  const asked = request.outputs.length === 0 ? outputs : new Map(request.outputs.map(({ name }) => [name, outputs.get(name)!]))
  const { tensors, raw } = toRawTensors(asked)
  return { modelName: request.modelName, modelVersion: version, id: request.id, parameters: {}, outputs: tensors, rawOutputContents: raw }
}

/** @throws MeshError INVALID_ARGUMENT where an output is asked for that the model has not. */
export function checkRequestedOutputs(request: inference.ModelInferRequest, { outputs }: ModelSignature): void {
  for (const { name } of request.outputs) {
    if (!outputs.has(name))
      throw invalid(name, `unexpected output "${name}" for model "${request.modelName}": its outputs are ${list(outputs.keys())}`)
  }
}

function list(names: Iterable<string>): string {
  return Array.from(names, (name) => `"${name}"`).join(', ')
}

function invalid(field: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', message, { field })
}
