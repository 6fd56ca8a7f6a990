import { type Datatype, elementCount, isDatatype, MeshError, type Tensor } from '@spillway/core'
import { type ElementColumn, elementColumn } from '../json/element-column.ts'
import type { JsonCursor } from '../json/json-cursor.ts'
import { MemberNames } from './member-names.ts'
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

const inputMembers = ['name', 'datatype', 'shape', 'parameters', 'data'] as const

const space = 0x20
const openBracket = 0x5b

/** Reads a list of tensors, as a request's `inputs`. @param place of the list, for messages @param json what the cursor reads @throws MeshError INVALID_ARGUMENT naming the tensor */
export function readInputs(cursor: JsonCursor, place: string, json: Uint8Array): readonly UnreadInput[] {
  if (!cursor.atList()) throw invalid(place, `"${place}" is ${cursor.describe()}: expected a list of tensors`)
  const inputs: UnreadInput[] = []
  for (let more = cursor.enterList(); more; more = cursor.nextElement()) {
    const input = readInput(cursor, `${place}[${inputs.length}]`, json)
    if (inputs.some(({ name }) => name === input.name)) throw invalid(input.name, `tensor "${input.name}" is given twice`)
    inputs.push(input)
  }
  return inputs
}

/** Its members may be in any order. */
function readInput(cursor: JsonCursor, place: string, json: Uint8Array): UnreadInput {
  if (!cursor.atObject()) throw invalid(place, `${place} is ${cursor.describe()}: expected a tensor as an object`)
  let name: string | undefined
  let type: string | undefined
  let shape: number[] | undefined
  let parameters: ReadonlyMap<string, ParameterValue> | undefined
  let tensor: Tensor | undefined
  let dataAt: number | undefined
  const names = new MemberNames(inputMembers, `${place}.`)
  for (let more = cursor.enterObject(); more; more = cursor.nextMember()) {
    const key = names.next(cursor)
    if (key === 'name') name = readText(cursor, `${place}.name`)
    else if (key === 'datatype') type = readText(cursor, `${place}.datatype`)
    else if (key === 'shape') shape = readShape(cursor, name ?? place)
    else if (key === 'parameters') parameters = readParameters(cursor, `tensor "${name ?? place}"`)
    else if (key === 'data' && name !== undefined && type !== undefined && shape !== undefined)
      tensor = readData(cursor, name, datatypeOf(name, type), shape, json)
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
    tensor = readData(cursor, name, datatype, shape, json)
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

export function readText(cursor: JsonCursor, where: string): string {
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
  if (size === undefined) return undefined
  if (hasData) throw invalid(name, `tensor "${name}" has both "data" and "binary_data_size": expected one of them`)
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
    throw invalid(
      name,
      `tensor "${name}": "binary_data_size" is ${typeof size === 'string' ? `"${size}"` : size}: expected a count of bytes`,
    )
  return size
}

/** Reads data as a flat list of all elements, or as lists within lists, one level for each dimension. */
function readData(cursor: JsonCursor, name: string, datatype: Datatype, shape: readonly number[], json: Uint8Array): Tensor {
  const count = elementCount(shape)
  if (!cursor.atList()) throw invalid(name, `tensor "${name}": its data is ${cursor.describe()}: expected a list of ${count} elements`)
  // No more than the text could hold: what a shape claims costs nothing.
  const column = elementColumn(datatype, Math.min(count, ((json.byteLength - cursor.offset) >> 1) + 1))
  if (!holdsLists(json, cursor.offset)) {
    if (!readList(cursor, column, name, count))
      throw invalid(name, `tensor "${name}": its data has more than the ${count} elements of shape ${text(shape)}`)
  } else if (shape.length === 0) throw invalid(name, `tensor "${name}": its data is nested, where shape [] has one element`)
  else readNested(cursor, column, name, shape, [])
  if (column.count !== count)
    throw invalid(name, `tensor "${name}": ${datatype} of shape ${text(shape)} needs ${count} elements, got ${column.count}`)
  return column.finish(shape)
}

/** Whether a list begins with a list. */
function holdsLists(json: Uint8Array, start: number): boolean {
  let at = start + 1
  while (at < json.length && json[at]! <= space) at++
  return json[at] === openBracket
}

/** At a list. @param path indexes of the lists around it */
function readNested(cursor: JsonCursor, column: ElementColumn, name: string, shape: readonly number[], path: readonly number[]): void {
  const depth = path.length
  const size = shape[depth]!
  if (!cursor.atList())
    throw invalid(name, `tensor "${name}": data${at(path)} is ${cursor.describe()}: expected a list, for shape ${text(shape)}`)
  if (depth === shape.length - 1) {
    const before = column.count
    if (!readList(cursor, column, name, size)) throw ragged(name, shape, path, `more than ${size} elements`)
    if (column.count - before !== size) throw ragged(name, shape, path, `${column.count - before} elements`)
    return
  }
  let length = 0
  for (let more = cursor.enterList(); more; more = cursor.nextElement()) {
    if (length === size) throw ragged(name, shape, path, `more than ${size} elements`)
    readNested(cursor, column, name, shape, [...path, length])
    length++
  }
  if (length !== size) throw ragged(name, shape, path, `${length} elements`)
}

/** A list of elements; false where it has more than `most`. */
function readList(cursor: JsonCursor, column: ElementColumn, name: string, most: number): boolean {
  try {
    return column.readList(cursor, most)
  } catch (error) {
    throw invalid(name, `tensor "${name}": ${(error as Error).message}`, error)
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

function invalid(field: string, message: string, cause?: unknown): MeshError {
  return new MeshError('INVALID_ARGUMENT', message, { field, cause })
}
