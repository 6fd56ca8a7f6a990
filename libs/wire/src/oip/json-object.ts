import { MeshError } from '@spillway/core'
import { jsonCursor } from './json-request.ts'
import { type ParameterValue, readParameters } from './json-parameters.ts'

/** The body of a control request: plain members, and its `parameters`. */
export interface JsonObject {
  readonly members: Readonly<Record<string, ParameterValue>>
  readonly parameters: ReadonlyMap<string, ParameterValue>
}

/** Reads an object such as `{"ready": true, "parameters": {…}}`; an empty body stands for an empty object. @throws MeshError INVALID_ARGUMENT */
export function readObject(json: Uint8Array): JsonObject {
  const members: Record<string, ParameterValue> = {}
  let parameters: ReadonlyMap<string, ParameterValue> = new Map()
  if (json.byteLength === 0) return { members, parameters }
  const cursor = jsonCursor(json)
  if (!cursor.atObject()) throw new MeshError('INVALID_ARGUMENT', `the request is ${cursor.describe()}: expected an object`)
  for (let more = cursor.enterObject(); more; more = cursor.nextMember()) {
    const name = cursor.key()
    if (name === 'parameters') parameters = readParameters(cursor, 'the request')
    else if (cursor.atString()) members[name] = cursor.string()
    else {
      const value = cursor.boolean()
      if (value === undefined) cursor.skip()
      else members[name] = value
    }
  }
  cursor.end()
  return { members, parameters }
}
