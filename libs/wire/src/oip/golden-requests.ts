import { elementCount, MeshError, type Tensor } from '@spillway/core'
import type { JsonCursor } from '../json/json-cursor.ts'
import { readInputs } from './json-input.ts'
import { jsonCursor } from './json-request.ts'

/** A request and what a model must answer to it. */
export interface GoldenRequest {
  readonly inputs: ReadonlyMap<string, Tensor>
  /** Those that are compared; a model may have more. */
  readonly outputs: ReadonlyMap<string, Tensor>
  /** 0 or more, finite; absent where the file has none. */
  readonly tolerance?: number
}

/** More elements than a tensor of a file that somebody keeps beside a model should have. */
const mostElements = 10_000_000

/**
 * Reads `{"requests": [{"inputs": […], "outputs": […], "tolerance": …}, …]}`: tensors as the Open Inference Protocol's JSON has them, and FP16 and BF16 as well,
 * which it leaves out; `tolerance` may be absent, and other members are read over.
 * @throws MeshError INVALID_ARGUMENT naming the request, the tensor and what was expected
 */
export function readGoldenRequests(json: Uint8Array): readonly GoldenRequest[] {
  const cursor = jsonCursor(json)
  let requests: readonly GoldenRequest[] = []
  if (cursor.atObject())
    for (let more = cursor.enterObject(); more; more = cursor.nextMember()) {
      if (cursor.key() === 'requests' && cursor.atList()) requests = readRequests(cursor, json)
      else cursor.skip()
    }
  else cursor.skip()
  cursor.end()
  if (requests.length === 0) throw invalid('expected {"requests": [{"inputs": […], "outputs": […]}]} with one request at least')
  return requests
}

function readRequests(cursor: JsonCursor, json: Uint8Array): readonly GoldenRequest[] {
  const requests: GoldenRequest[] = []
  for (let more = cursor.enterList(); more; more = cursor.nextElement()) {
    const place = `requests[${requests.length}]`
    try {
      requests.push(readRequest(cursor, json))
    } catch (error) {
      throw new MeshError('INVALID_ARGUMENT', `${place}: ${(error as Error).message}`, { field: place, cause: error })
    }
  }
  return requests
}

function readRequest(cursor: JsonCursor, json: Uint8Array): GoldenRequest {
  let inputs: ReadonlyMap<string, Tensor> | undefined
  let outputs: ReadonlyMap<string, Tensor> | undefined
  let tolerance: number | undefined
  if (!cursor.atObject()) throw invalid(`it is ${cursor.describe()}: expected an object`)
  for (let more = cursor.enterObject(); more; more = cursor.nextMember()) {
    const key = cursor.key()
    if (key === 'inputs') inputs = readTensors(cursor, 'inputs', json)
    else if (key === 'outputs') outputs = readTensors(cursor, 'outputs', json)
    else if (key === 'tolerance') tolerance = readTolerance(cursor)
    else cursor.skip()
  }
  if (inputs === undefined || outputs === undefined) throw invalid('expected "inputs" and "outputs", each a list of tensors')
  return { inputs, outputs, ...(tolerance !== undefined && { tolerance }) }
}

function readTensors(cursor: JsonCursor, place: string, json: Uint8Array): ReadonlyMap<string, Tensor> {
  const tensors = new Map<string, Tensor>()
  for (const { name, shape, tensor } of readInputs(cursor, place, json)) {
    if (tensor === undefined) throw invalid(`tensor "${name}" has no "data"`)
    if (elementCount(shape) > mostElements) throw invalid(`tensor "${name}" has more than ${mostElements} elements`)
    tensors.set(name, tensor)
  }
  return tensors
}

function readTolerance(cursor: JsonCursor): number {
  const tolerance = cursor.atNumber() ? cursor.double() : NaN
  if (!(tolerance >= 0 && tolerance < Infinity)) throw invalid('tolerance: expected a number, 0 or more')
  return tolerance
}

function invalid(message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', message)
}
