import { bytesCount, elementCount, MeshError } from '@spillway/core'
import type { ModelSignature, Tensors } from '../backend.ts'

/**
 * Holds what a backend that is not ours answered against its signature: a tensor that is missing or does not fit would fail far from its cause.
 * @param rows of the run; ignored where the model is not batched
 * @throws MeshError INTERNAL naming `who` and the output
 */
export function checkOutputs(who: string, { outputs: columns, wholeShapes }: ModelSignature, outputs: Tensors, rows: number): void {
  for (const [name, { datatype, rowShape }] of columns) {
    const expected = wholeShapes?.get(name) ?? [rows, ...rowShape]
    const output = outputs.get(name)
    const count = output === undefined ? 0 : 'bytes' in output.data ? bytesCount(output.data) : output.data.length
    const fits =
      output !== undefined &&
      output.datatype === datatype &&
      output.shape.length === expected.length &&
      expected.every((size, i) => size === -1 || size === output.shape[i]) &&
      count === elementCount(output.shape)
    if (fits) continue
    const given = output === undefined ? 'missing' : `${output.datatype} of shape [${output.shape.join(', ')}] with ${count} elements`
    throw new MeshError('INTERNAL', `${who}: output "${name}" is ${given}: expected ${datatype} of shape [${expected.join(', ')}]`)
  }
}
