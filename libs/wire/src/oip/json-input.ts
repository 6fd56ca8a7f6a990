import { type Datatype, elementCount, isDatatype, MeshError, type Tensor } from '@spillway/core'
import { type ElementColumn, elementColumn } from '../json/element-column.ts'
import type { JsonCursor } from '../json/json-cursor.ts'
import { type ParameterValue, readParameters } from './json-parameters.ts'

/** An input whose data may still lie in the binary part of the body. */
export interface UnreadInput {
  readonly name: string
  readonly datatype: Datatype
  readonly shape: readonly number[]
  /** Where its data was in the JSON. */
  readonly tensor: Tensor | undefined
  readonly binaryBytes: number | undefined
}

/** A tensor of more dimensions is refused before its data is looked at; the JSON cursor's depth allows for more. */
const mostDimensions = 32

/** Reads one of a request's `inputs`, its members in any order. @param index its place, for messages @param length bytes of the whole JSON @throws MeshError INVALID_ARGUMENT naming the tensor */
export function readInput(cursor: JsonCursor, index: number, length: number): UnreadInput {
  const place = `inputs[${index}]`
  if (!cursor.atObject()) throw invalid(place, `${place} is ${cursor.describe()}: expected a tensor as an object`)
  let name: string | undefined
  let type: string | undefined
  let shape: number[] | undefined
  let parameters: ReadonlyMap<string, ParameterValue> | undefined
  let tensor: Tensor | undefined
  let dataAt: number | undefined
  for (let more = cursor.enterObject(); more; more = cursor.nextMember()) {
    const key = cursor.key()
    if (key === 'name') name = readText(cursor, `${place}.name`)
    else if (key === 'datatype') type = readText(cursor, `${place}.datatype`)
    else if (key === 'shape') shape = readShape(cursor, name ?? place)
    else if (key === 'parameters') parameters = readParameters(cursor, `tensor "${name ?? place}"`)
    else if (key === 'data' && name !== undefined && type !== undefined && shape !== undefined)
      tensor = readData(cursor, name, datatypeOf(name, type), shape, length)
    else if (key === 'data') dataAt = skipped(cursor)
    else cursor.skip()
  }
  if (name === undefined) throw invalid(place, `${place} has no "name"`)
  if (type === undefined) throw invalid(name, `tensor "${name}" has no "datatype"`)
  if (shape === undefined) throw invalid(name, `tensor "${name}" has no "shape"`)
  const datatype = datatypeOf(name, type)
  if (tensor === undefined && dataAt !== undefined) {
    // Data came before what it has to be read by.
    const end = cursor.offset
    cursor.seek(dataAt)
    tensor = readData(cursor, name, datatype, shape, length)
    cursor.seek(end)
  }
  return { name, datatype, shape, tensor, binaryBytes: binaryBytes(name, parameters, tensor !== undefined) }
}

function skipped(cursor: JsonCursor): number {
  cursor.peek()
  const at = cursor.offset
  cursor.skip()
  return at
}

function readText(cursor: JsonCursor, where: string): string {
  if (!cursor.atString()) throw invalid(where, `"${where}" is ${cursor.describe()}: expected a string`)
  return cursor.string()
}

function datatypeOf(name: string, type: string): Datatype {
  if (isDatatype(type)) return type
  throw invalid(
    name,
    `tensor "${name}": unknown datatype "${type.slice(0, 64)}": expected BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64 or BYTES`,
  )
}

function readShape(cursor: JsonCursor, name: string): number[] {
  if (!cursor.atList()) throw invalid(name, `tensor "${name}": its shape is ${cursor.describe()}: expected a list of whole numbers`)
  const shape: number[] = []
  let product = 1
  for (let more = cursor.enterList(); more; more = cursor.nextElement()) {
    const size = cursor.atNumber() ? cursor.whole() : undefined
    if (typeof size !== 'number' || !(size >= 0) || size === Infinity)
      throw invalid(name, `tensor "${name}": dimension ${shape.length} of its shape is not a whole number of 0 or more`)
    shape.push(size)
    product *= Math.max(1, size)
    if (product > Number.MAX_SAFE_INTEGER) throw invalid(name, `tensor "${name}": shape [${shape.join(', ')}, …] is too large`)
    if (shape.length > mostDimensions) throw invalid(name, `tensor "${name}" has more than ${mostDimensions} dimensions`)
  }
  return shape
}

/** The extension's parameters of an input. Shared memory is not served: the data would be looked for in vain. */
function binaryBytes(name: string, parameters: ReadonlyMap<string, ParameterValue> | undefined, hasData: boolean): number | undefined {
  if (parameters?.has('shared_memory_region') === true)
    throw invalid(name, `tensor "${name}" is in shared memory, which this server does not support: send its data in the request`)
  const size = parameters?.get('binary_data_size')
  if (size === undefined) {
    if (!hasData) throw invalid(name, `tensor "${name}" has no data: expected "data", or the parameter "binary_data_size"`)
    return undefined
  }
  if (hasData) throw invalid(name, `tensor "${name}" has both "data" and "binary_data_size": expected one of them`)
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
    throw invalid(
      name,
      `tensor "${name}": "binary_data_size" is ${typeof size === 'string' ? `"${size}"` : size}: expected a count of bytes`,
    )
  return size
}

/** Reads data as a flat list of all elements, or as lists within lists, one level for each dimension. */
function readData(cursor: JsonCursor, name: string, datatype: Datatype, shape: readonly number[], length: number): Tensor {
  if (datatype === 'FP16' || datatype === 'BF16')
    throw invalid(name, `tensor "${name}": ${datatype} cannot be sent as JSON: send it as binary data ("binary_data_size")`)
  const count = elementCount(shape)
  if (!cursor.atList()) throw invalid(name, `tensor "${name}": its data is ${cursor.describe()}: expected a list of ${count} elements`)
  // No more than the text could hold: what a shape claims costs nothing.
  const column = elementColumn(datatype, Math.min(count, ((length - cursor.offset) >> 1) + 1))
  const more = cursor.enterList()
  if (more && cursor.atList() && shape.length === 0)
    throw invalid(name, `tensor "${name}": its data is nested, where shape [] has one element`)
  if (more && cursor.atList()) readNested(cursor, column, name, shape, [])
  else if (more) readFlat(cursor, column, name, shape, count)
  if (column.count !== count) throw wrongCount(name, datatype, shape, count, column.count)
  return column.finish(shape)
}

function readFlat(cursor: JsonCursor, column: ElementColumn, name: string, shape: readonly number[], count: number): void {
  do {
    if (column.count === count)
      throw invalid(name, `tensor "${name}": its data has more than the ${count} elements of shape ${text(shape)}`)
    readElement(cursor, column, name, column.count)
  } while (cursor.nextElement())
}

/** Within a list that has been entered, and has elements. @param path indexes of the lists around it */
function readNested(cursor: JsonCursor, column: ElementColumn, name: string, shape: readonly number[], path: readonly number[]): void {
  const depth = path.length
  const size = shape[depth]!
  let length = 0
  let more = true
  for (; more; more = cursor.nextElement()) {
    if (length === size) throw ragged(name, shape, path, `more than ${size} elements`)
    if (depth === shape.length - 1) {
      if (cursor.atList())
        throw invalid(name, `tensor "${name}": its data is nested deeper than the ${shape.length} dimensions of ${text(shape)}`)
      readElement(cursor, column, name, column.count)
    } else {
      const inner = [...path, length]
      if (!cursor.atList())
        throw invalid(name, `tensor "${name}": data${at(inner)} is ${cursor.describe()}: expected a list, for shape ${text(shape)}`)
      if (cursor.enterList()) readNested(cursor, column, name, shape, inner)
      else if (shape[depth + 1] !== 0) throw ragged(name, shape, inner, 'no element')
    }
    length++
  }
  if (length !== size) throw ragged(name, shape, path, `${length} elements`)
}

function readElement(cursor: JsonCursor, column: ElementColumn, name: string, index: number): void {
  try {
    column.read(cursor)
  } catch (error) {
    throw invalid(name, `tensor "${name}", element ${index}: ${(error as Error).message}`, error)
  }
}

function at(path: readonly number[]): string {
  return path.map((index) => `[${index}]`).join('')
}

function text(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`
}

function ragged(name: string, shape: readonly number[], path: readonly number[], has: string): MeshError {
  return invalid(name, `tensor "${name}": data${at(path)} has ${has}: expected ${shape[path.length]}, for shape ${text(shape)}`)
}

function wrongCount(name: string, datatype: Datatype, shape: readonly number[], count: number, given: number): MeshError {
  return invalid(name, `tensor "${name}": ${datatype} of shape ${text(shape)} needs ${count} elements, got ${given}`)
}

function invalid(field: string, message: string, cause?: unknown): MeshError {
  return new MeshError('INVALID_ARGUMENT', message, { field, cause })
}
