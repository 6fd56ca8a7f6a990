import { MeshError, type Signature, type Tensor, typeText } from '@spillway/core'
import { isUtf8 } from 'node:buffer'
import { JsonCursor } from './json/json-cursor.ts'
import { NestedTensor } from './json/nested-tensor.ts'

/** What requests are checked against. */
export interface TensorTypes {
  readonly inputs: Signature
  /** As a model's signature has it: the shapes of tensors whose first dimension is not the row. */
  readonly wholeShapes?: ReadonlyMap<string, readonly number[]>
}

/** `instances`, answered by `predictions`, or `inputs`, answered by `outputs`. */
export type PredictLayout = 'rows' | 'columns'

export interface PredictRequest {
  readonly layout: PredictLayout
  readonly inputs: ReadonlyMap<string, Tensor>
  /** 1 where the first dimension is not the row. */
  readonly rowCount: number
}

/** A servable has one signature; it goes by the names that a SavedModel's exporters give to such. */
const signatureNames: ReadonlySet<string> = new Set([
  '',
  'serving_default',
  'predict',
  'tensorflow/serving/predict',
  'tensorflow/serving/classify',
  'tensorflow/serving/regress',
])

/**
 * Body of `POST …:predict` (tensorflow.org/tfx/serving/api_rest, "Predict API"): `instances`, a list of values or of objects by input, or `inputs`, a value or
 * an object by input. Other members, as Vertex AI's `parameters`, are read over.
 * @throws MeshError INVALID_ARGUMENT naming the input, what was expected and what was found where.
 */
export function decodePredict(body: Uint8Array, types: TensorTypes): PredictRequest {
  const cursor = openBody(body)
  let request: PredictRequest | undefined
  for (let more = cursor.enterObject(); more; more = cursor.nextMember()) {
    const key = cursor.key()
    if (key === 'signature_name') readSignatureName(cursor)
    else if (key !== 'instances' && key !== 'inputs') cursor.skip()
    else if (request !== undefined)
      throw invalid("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist, once")
    else request = key === 'instances' ? readInstances(cursor, types) : readInputs(cursor, types)
  }
  cursor.end()
  if (request === undefined) throw invalid("Missing 'inputs' or 'instances' key")
  return request
}

/** A cursor at the object that a body must be. */
export function openBody(body: Uint8Array): JsonCursor {
  const cursor = new JsonCursor(body)
  if (!isUtf8(body)) throw cursor.invalid('the body is not UTF-8', 0)
  if (!cursor.atObject()) {
    if (cursor.peek() === 0) throw cursor.invalid('the document is empty')
    throw invalid(`JSON Value: ${cursor.describe()} Is not object`)
  }
  return cursor
}

export function readSignatureName(cursor: JsonCursor): void {
  if (!cursor.atString()) throw invalid(`found ${cursor.describe()}: 'signature_name' key must be a string value.`)
  const name = cursor.string()
  if (!signatureNames.has(name)) throw invalid(`Serving signature name: "${name}" not found in signature def`)
}

/** How each input is read row by row. */
function rowReaders({ inputs, wholeShapes }: TensorTypes): Map<string, NestedTensor> {
  const readers = new Map<string, NestedTensor>()
  for (const [name, type] of inputs) {
    const whole = wholeShapes?.get(name)
    if (whole?.length === 0) throw invalid(`input "${name}" is a single ${type.datatype} value: give it in 'inputs', not in 'instances'`)
    const rowShape = whole === undefined ? type.rowShape : whole.slice(1)
    readers.set(name, new NestedTensor(name, { datatype: type.datatype, rowShape }, [whole?.[0] ?? 'rows', ...rowShape]))
  }
  return readers
}

function readInstances(cursor: JsonCursor, types: TensorTypes): PredictRequest {
  if (!cursor.atList()) throw invalid(`Expecting 'instances' to be an list/array, found ${cursor.describe()}`)
  const readers = rowReaders(types)
  const single = readers.size === 1 ? [...readers.values()][0] : undefined
  let rowCount = 0
  let named: boolean | undefined
  try {
    for (let more = cursor.enterList(); more; more = cursor.nextElement()) {
      const isNamed = cursor.atObject() && !startsBinary(cursor, types)
      named ??= isNamed
      if (isNamed !== named) throw invalid(named ? 'Expecting object but got a value or list' : 'Expecting value/list but got object')
      if (isNamed) readNamed(cursor, readers, rowCount)
      else if (single !== undefined) single.readRow(cursor)
      else throw invalid(`a plain list, but expecting list of objects as multiple input tensors required: ${listed(types)}`)
      rowCount++
    }
  } catch (error) {
    const { code, message, field } = MeshError.from(error, 'INTERNAL')
    const options = field === undefined ? { cause: error } : { cause: error, field }
    throw new MeshError(code, `Failed to process element: ${rowCount} of 'instances' list. Error: ${message}`, options)
  }
  if (rowCount === 0) throw invalid(`No values in 'instances' array: expected at least one row of ${listed(types)}`)
  const inputs = new Map([...readers].map(([name, reader]) => [name, reader.finish()]))
  checkWhole(inputs, types)
  return { layout: 'rows', inputs, rowCount: types.wholeShapes === undefined ? rowCount : 1 }
}

/** Whether the object that stands next is bytes as `{"b64": …}` and not an instance by names. */
function startsBinary(cursor: JsonCursor, { inputs }: TensorTypes): boolean {
  if (inputs.size !== 1 || inputs.has('b64')) return false
  let binary = false
  cursor.attempt(() => {
    binary = cursor.enterObject() && cursor.key() === 'b64'
    return undefined
  })
  return binary
}

function readNamed(cursor: JsonCursor, readers: ReadonlyMap<string, NestedTensor>, row: number): void {
  const expected = (): string => `keys must be equal to: ${[...readers.keys()].join(',')}`
  for (let more = cursor.enterObject(); more; more = cursor.nextMember()) {
    const name = cursor.key()
    const reader = readers.get(name)
    if (reader === undefined) throw invalid(`JSON object: does not have named input: ${name}; ${expected()}`, name)
    if (reader.rows > row) throw invalid(`input "${name}" is given twice`, name)
    reader.readRow(cursor)
  }
  for (const [name, reader] of readers) if (reader.rows === row) throw invalid(`Missing named input: ${name}; ${expected()}`, name)
}

function readInputs(cursor: JsonCursor, types: TensorTypes): PredictRequest {
  const tensors = new Map<string, Tensor>()
  const only = types.inputs.size === 1 ? [...types.inputs.keys()][0] : undefined
  if (cursor.atObject() && !startsBinary(cursor, types)) {
    for (let more = cursor.enterObject(); more; more = cursor.nextMember()) {
      const name = cursor.key()
      if (tensors.has(name)) throw invalid(`input "${name}" is given twice`, name)
      tensors.set(name, readColumn(cursor, name, types))
    }
    for (const name of types.inputs.keys())
      if (!tensors.has(name)) throw invalid(`Missing named input: ${name} in 'inputs' object: expected ${listed(types)}`, name)
  } else {
    if (only === undefined)
      throw invalid(`'inputs' is a plain value/list, but expecting an object as multiple input tensors required: ${listed(types)}`)
    tensors.set(only, readColumn(cursor, only, types))
  }
  checkWhole(tensors, types)
  return { layout: 'columns', inputs: tensors, rowCount: types.wholeShapes === undefined ? equalRows(tensors) : 1 }
}

function readColumn(cursor: JsonCursor, name: string, types: TensorTypes): Tensor {
  const type = types.inputs.get(name)
  if (type === undefined) throw invalid(`'inputs' object: does not have named input: ${name}; expected ${listed(types)}`, name)
  const whole = types.wholeShapes?.get(name)
  if (whole !== undefined) {
    const reader = new NestedTensor(name, { datatype: type.datatype, rowShape: whole }, whole)
    reader.readRow(cursor)
    return reader.finish([])
  }
  const reader = new NestedTensor(name, type, ['rows', ...type.rowShape])
  reader.readRows(cursor)
  return reader.finish()
}

/** That as many instances came as a first dimension of a fixed size that is not the row takes. */
function checkWhole(inputs: ReadonlyMap<string, Tensor>, { wholeShapes }: TensorTypes): void {
  for (const [name, { shape }] of inputs) {
    const first = wholeShapes?.get(name)?.[0] ?? -1
    if (first !== -1 && first !== shape[0])
      throw invalid(`input "${name}" has shape [${shape.join(', ')}]: expected ${first} in its first dimension`, name)
  }
}

/** Rows of all inputs, which must be as many. */
function equalRows(inputs: ReadonlyMap<string, Tensor>): number {
  const [first] = inputs
  const rows = first![1].shape[0]!
  for (const [name, { shape }] of inputs)
    if (shape[0] !== rows) throw invalid(`input "${name}" has ${shape[0]} rows, where "${first![0]}" has ${rows}: expected as many`, name)
  if (rows === 0) throw invalid(`input "${first![0]}" has no rows: expected at least one`, first![0])
  return rows
}

/** The inputs as messages name them. */
function listed({ inputs }: TensorTypes): string {
  return [...inputs].map(([name, type]) => `${name} (${typeText(type)})`).join(', ')
}

export function invalid(message: string, field?: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', message, field === undefined ? {} : { field })
}
