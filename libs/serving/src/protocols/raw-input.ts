import { bytesColumn, elementBytes, elementCount, MeshError, type Tensor } from '@spillway/core'
import { rawTensor } from '@spillway/wire'
import type { ModelSignature } from '../backend.ts'

/**
 * A body that is nothing but the data of a model's one input (binary tensor data extension, "Raw Binary Request"): one row, a dimension of any size being what the
 * bytes give; for BYTES, one element, which is the body without a length before it.
 * @throws MeshError INVALID_ARGUMENT saying what kind of model that needs, or how many bytes
 */
export function rawInput(model: string, signature: ModelSignature, body: Uint8Array): [string, Tensor] {
  const [first, ...others] = signature.inputs
  if (first === undefined || others.length > 0)
    throw invalid(
      `Raw request must only have 1 input to be deduced but got ${signature.inputs.size} inputs in '${model}' model configuration`,
    )
  const [name, { datatype, rowShape }] = first
  const dimensions = signature.wholeShapes?.get(name) ?? [1, ...rowShape]
  if (datatype === 'BYTES') {
    const shape = dimensions.map((size) => Math.abs(size))
    if (elementCount(shape) !== 1)
      throw invalid(
        `input "${name}" of model "${model}" is BYTES of shape [${dimensions.join(', ')}]: a raw request can give one element only`,
      )
    return [name, { datatype, shape, data: bytesColumn([body]) }]
  }
  const open = dimensions.indexOf(-1)
  if (open !== dimensions.lastIndexOf(-1))
    throw invalid(
      `input "${name}" of model "${model}" has shape [${dimensions.join(', ')}]: a raw request leaves one dimension open at most`,
    )
  const known = elementBytes(datatype) * elementCount(dimensions.filter((size) => size !== -1))
  const shape = dimensions.map((size) => (size === -1 ? Math.floor(body.byteLength / known) : size))
  return [name, rawTensor(name, datatype, shape, body)]
}

function invalid(message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', message)
}
