import { fitsType, MeshError, type Signature, typeText } from '@spillway/core'
import type { ModelSignature } from '../backend.ts'

/** @throws MeshError FAILED_PRECONDITION naming the tensor that is missing or other than in the version that is served. */
export function checkSameSignature(model: string, candidate: ModelSignature, served: ModelSignature, servedVersion: string): void {
  checkTensors(model, 'input', candidate.inputs, served.inputs, servedVersion)
  checkTensors(model, 'output', candidate.outputs, served.outputs, servedVersion)
  const whole = ({ wholeShapes }: ModelSignature): boolean => wholeShapes !== undefined
  if (whole(candidate) !== whole(served))
    throw new MeshError(
      'FAILED_PRECONDITION',
      `model "${model}": its first dimension is ${whole(candidate) ? 'not ' : ''}the row, other than in version ${servedVersion}`,
    )
}

function checkTensors(model: string, kind: string, candidate: Signature, served: Signature, servedVersion: string): void {
  for (const [name, type] of served) {
    const own = candidate.get(name)
    if (own !== undefined && fitsType(type, own) && fitsType(own, type)) continue
    const found = own === undefined ? 'missing' : typeText(own)
    throw new MeshError(
      'FAILED_PRECONDITION',
      `model "${model}": ${kind} "${name}" is ${found}: version ${servedVersion}, which is served, has ${typeText(type)}`,
      { field: name },
    )
  }
  // A new output harms nobody; a new input is one that no caller gives.
  const added = kind === 'input' ? [...candidate.keys()].find((name) => !served.has(name)) : undefined
  if (added !== undefined)
    throw new MeshError('FAILED_PRECONDITION', `model "${model}": it needs input "${added}", which version ${servedVersion} does not`, {
      field: added,
    })
}
