import { type ColumnType, MeshError, type Signature } from '@spillway/core'
import type { ModelSignature } from './backend.ts'

/** What a pipeline gives a model and wants of it. */
export interface SignatureNeeds {
  readonly inputs: Signature
  /** Names of outputs that are read. */
  readonly outputs: readonly string[]
}

/** Says at start what would fail at the first row. @throws MeshError FAILED_PRECONDITION naming the tensor, what the model has and what the pipeline gives. */
export function checkSignature(model: string, signature: ModelSignature, needs: SignatureNeeds): void {
  for (const [name, expected] of signature.inputs) {
    const given = needs.inputs.get(name)
    const wants = `model "${model}" takes input "${name}" as ${typeText(expected)}`
    if (given === undefined) throw mismatch(name, `${wants}, and the pipeline gives ${listText(needs.inputs)}`)
    if (!fits(given, expected)) throw mismatch(name, `${wants}, and the pipeline gives "${name}" as ${typeText(given)}`)
  }
  for (const name of needs.inputs.keys()) {
    if (!signature.inputs.has(name))
      throw mismatch(name, `the pipeline gives model "${model}" the input "${name}", and it takes ${listText(signature.inputs)}`)
  }
  for (const name of needs.outputs) {
    if (!signature.outputs.has(name))
      throw mismatch(name, `the pipeline reads output "${name}" of model "${model}", and it gives ${listText(signature.outputs)}`)
  }
}

function fits(given: ColumnType, expected: ColumnType): boolean {
  if (given.datatype !== expected.datatype || given.rowShape.length !== expected.rowShape.length) return false
  return expected.rowShape.every((size, i) => size === given.rowShape[i] || size === -1 || given.rowShape[i] === -1)
}

function typeText({ datatype, rowShape }: ColumnType): string {
  return `${datatype} [${['rows', ...rowShape.map((size) => (size === -1 ? 'any' : size))].join(', ')}]`
}

function listText(signature: Signature): string {
  return Array.from(signature, ([name, type]) => `"${name}" as ${typeText(type)}`).join(', ') || 'none'
}

function mismatch(field: string, message: string): MeshError {
  return new MeshError('FAILED_PRECONDITION', message, { field })
}
