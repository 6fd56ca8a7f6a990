import { MeshError } from '@spillway/core'
import type { JsonCursor } from '../json/json-cursor.ts'

/** A parameter's value (OIP "Parameters"); a whole number of more than 15 digits is a bigint. */
export type ParameterValue = boolean | number | bigint | string

/** More than any client has use for. */
const mostParameters = 1024

/** Reads an object of parameters. @param owner whose they are, for messages @throws MeshError INVALID_ARGUMENT naming the parameter */
export function readParameters(cursor: JsonCursor, owner: string): Map<string, ParameterValue> {
  const parameters = new Map<string, ParameterValue>()
  if (!cursor.atObject()) throw invalid('parameters', `the parameters of ${owner} are ${cursor.describe()}: expected an object`)
  for (let more = cursor.enterObject(); more; more = cursor.nextMember()) {
    const name = cursor.key()
    if (parameters.has(name)) throw invalid(name, `parameter "${name}" of ${owner} is given twice`)
    parameters.set(name, readParameter(cursor, name, owner))
    if (parameters.size > mostParameters) throw invalid('parameters', `${owner} has more than ${mostParameters} parameters`)
  }
  return parameters
}

function readParameter(cursor: JsonCursor, name: string, owner: string): ParameterValue {
  if (cursor.atString()) return cursor.string()
  if (cursor.atNumber()) {
    const value = cursor.whole() ?? cursor.number(false)
    if (typeof value === 'bigint' || Number.isFinite(value)) return value
    throw invalid(name, `parameter "${name}" of ${owner} is out of the range of a number`)
  }
  const value = cursor.boolean()
  if (value === undefined)
    throw invalid(name, `parameter "${name}" of ${owner} is ${cursor.describe()}: expected a boolean, a number or a string`)
  return value
}

function invalid(field: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', message, { field })
}
