import { isUtf8 } from 'node:buffer'
import { MeshError, type Tensor } from '@spillway/core'
import { JsonCursor } from '../json/json-cursor.ts'
import { type ParameterValue, readParameters } from './json-parameters.ts'
import { readInputs, readText, type UnreadInput } from './json-input.ts'
import { MemberNames } from './member-names.ts'
import { takeBinary } from './binary-tail.ts'

/** One of the outputs that a request asks for. */
export interface RequestedOutput {
  readonly name: string
  readonly parameters: ReadonlyMap<string, ParameterValue>
}

/** An inference request as HTTP brings it, whatever its tensors came as. */
export interface JsonInferRequest {
  /** '' where there is none. */
  readonly id: string
  readonly parameters: ReadonlyMap<string, ParameterValue>
  readonly inputs: ReadonlyMap<string, Tensor>
  /** Empty: all of them. */
  readonly outputs: readonly RequestedOutput[]
}

/**
 * Reads an inference request (OIP "Inference Request JSON Object") and the binary data behind it (binary tensor data extension): inputs as flat or nested
 * lists in row-major order, or `binary_data_size` bytes each, in the order of the inputs. Values are checked against datatype and shape: 64-bit integers are
 * exact, FP16 and BF16 come as binary data only, bytes that share the body's memory where they are aligned.
 * @throws MeshError INVALID_ARGUMENT naming the tensor or member and what was expected.
 */
export function readInferRequest(json: Uint8Array, binary: Uint8Array): JsonInferRequest {
  const cursor = jsonCursor(json)
  let id = ''
  let parameters: ReadonlyMap<string, ParameterValue> = none
  let inputs: readonly UnreadInput[] | undefined
  let outputs: readonly RequestedOutput[] = []
  const names = new MemberNames(requestMembers, '')
  if (!cursor.atObject()) throw invalid('', `the request is ${cursor.describe()}: expected an object with "inputs"`)
  for (let more = cursor.enterObject(); more; more = cursor.nextMember()) {
    const name = names.next(cursor)
    if (name === 'inputs') inputs = readInputs(cursor, 'inputs', json)
    else if (name === 'id') id = readText(cursor, 'id')
    else if (name === 'parameters') parameters = readParameters(cursor, 'the request')
    else if (name === 'outputs') outputs = readOutputs(cursor)
    else cursor.skip()
  }
  cursor.end()
  if (inputs === undefined) throw invalid('inputs', 'the request has no "inputs": expected a list of tensors')
  return { id, parameters, inputs: takeBinary(inputs, binary), outputs }
}

/** A cursor over a body. @throws MeshError INVALID_ARGUMENT where it is no UTF-8. */
export function jsonCursor(json: Uint8Array): JsonCursor {
  if (!isUtf8(json)) throw invalid('', 'the JSON is not UTF-8')
  return new JsonCursor(json)
}

const outputMembers = ['name', 'parameters'] as const
const requestMembers = ['inputs', 'id', 'parameters', 'outputs'] as const

const none: ReadonlyMap<string, ParameterValue> = new Map()

function readOutputs(cursor: JsonCursor): RequestedOutput[] {
  if (!cursor.atList()) throw invalid('outputs', `"outputs" is ${cursor.describe()}: expected a list of objects with "name"`)
  const outputs: RequestedOutput[] = []
  for (let more = cursor.enterList(); more; more = cursor.nextElement()) {
    const where = `outputs[${outputs.length}]`
    if (!cursor.atObject()) throw invalid(where, `${where} is ${cursor.describe()}: expected an object with "name"`)
    let name: string | undefined
    let parameters = none
    const names = new MemberNames(outputMembers, `${where}.`)
    for (let member = cursor.enterObject(); member; member = cursor.nextMember()) {
      const key = names.next(cursor)
      if (key === 'name') name = readText(cursor, `${where}.name`)
      else if (key === 'parameters') parameters = readParameters(cursor, where)
      else cursor.skip()
    }
    if (name === undefined) throw invalid(where, `${where} has no "name"`)
    outputs.push({ name, parameters })
  }
  return outputs
}

function invalid(field: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', message, field === '' ? {} : { field })
}
