import { MeshError, type Tensor } from '@spillway/core'
import { rawTensor } from '../tensor-codec.ts'
import type { UnreadInput } from './json-input.ts'

/**
 * Gives a request's inputs their data from the bytes behind the JSON, in their order. @throws MeshError INVALID_ARGUMENT naming the tensor whose data is not there,
 * whose datatype JSON cannot carry by the protocol, or whose bytes are not what datatype and shape need, or where bytes are left over.
 */
export function takeBinary(inputs: readonly UnreadInput[], binary: Uint8Array): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>()
  let start = 0
  for (const { name, datatype, shape, tensor, binaryBytes } of inputs) {
    if (tensor !== undefined) {
      if (datatype === 'FP16' || datatype === 'BF16')
        throw invalid(name, `tensor "${name}": ${datatype} cannot be sent as JSON: send it as binary data ("binary_data_size")`)
      tensors.set(name, tensor)
      continue
    }
    if (binaryBytes === undefined) throw invalid(name, `tensor "${name}" has no data: expected "data", or the parameter "binary_data_size"`)
    const end = start + binaryBytes
    if (end > binary.byteLength)
      throw invalid(
        name,
        `tensor "${name}": "binary_data_size" is ${binaryBytes} bytes, where ${binary.byteLength - start} are left of the body`,
      )
    tensors.set(name, rawTensor(name, datatype, shape, binary.subarray(start, end)))
    start = end
  }
  if (start < binary.byteLength)
    throw invalid('inputs', `${binary.byteLength - start} bytes of binary data are left over behind those of the inputs (${start} bytes)`)
  return tensors
}

function invalid(field: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', message, { field })
}
