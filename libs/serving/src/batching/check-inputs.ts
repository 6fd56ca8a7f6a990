import { MeshError } from '@spillway/core'
import type { ModelSignature, Tensors } from '../backend.ts'

/**
 * A tensor that does not fit would fail the whole batch it is put into: so each is looked at before.
 * @throws MeshError INVALID_ARGUMENT naming model and input, and what was expected.
 */
export function checkInputs(
  model: string,
  { inputs: expectedInputs, wholeShapes }: ModelSignature,
  inputs: Tensors,
  rowCount: number,
): void {
  const rowless = wholeShapes === undefined && !(rowCount > 0)
  for (const [name, { datatype, rowShape }] of expectedInputs) {
    const input = inputs.get(name)
    const expected = wholeShapes?.get(name) ?? [rowCount, ...rowShape]
    if (!rowless && input !== undefined && input.datatype === datatype && fits(input.shape, expected)) continue
    const given = input === undefined ? 'missing' : `${input.datatype} of shape [${input.shape.join(', ')}]`
    const shape = rowless
      ? `[${['rows', ...rowShape.map(sizeText)].join(', ')}], at least one row`
      : `[${expected.map(sizeText).join(', ')}]`
    const message = `model "${model}": input "${name}" is ${given}: expected ${datatype} of shape ${shape}`
    throw new MeshError('INVALID_ARGUMENT', message, { field: name })
  }
  if (rowless) throw new MeshError('INVALID_ARGUMENT', `model "${model}": a request needs at least one row`)
}

function sizeText(size: number): string {
  return size === -1 ? '1 or more' : String(size)
}

/** A dimension of any size (-1) has at least one element. */
function fits(shape: readonly number[], expected: readonly number[]): boolean {
  return shape.length === expected.length && expected.every((size, i) => size === shape[i] || (size === -1 && shape[i]! > 0))
}
