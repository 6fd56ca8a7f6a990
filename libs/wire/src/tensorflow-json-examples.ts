import { concatTensors, type Tensor } from '@spillway/core'
import type { JsonCursor } from './json/json-cursor.ts'
import { NestedTensor } from './json/nested-tensor.ts'
import { invalid, openBody, readSignatureName, type TensorTypes } from './tensorflow-json.ts'

export interface ExamplesRequest {
  readonly inputs: ReadonlyMap<string, Tensor>
  readonly rowCount: number
}

/** What features of a context may come to when each example has them. */
const largestRepeated = 16 * 1024 * 1024

/**
 * Body of `POST …:classify` and `…:regress` (tensorflow.org/tfx/serving/api_rest, "Classify and Regress API"): `examples`, a list of objects, and an optional
 * `context` with the features that all of them have. A feature is the input of its name: a value, or a flat list of the row's elements.
 * @throws MeshError INVALID_ARGUMENT naming the example, the feature, what was expected and what was found where.
 */
export function decodeExamples(body: Uint8Array, types: TensorTypes): ExamplesRequest {
  const cursor = openBody(body)
  if (types.wholeShapes !== undefined) throw invalid('the model takes no rows, and so no examples: use :predict with inputs')
  // The context may stand behind the examples.
  const found = new Map<string, number>()
  for (let more = cursor.enterObject(); more; more = cursor.nextMember()) {
    const key = cursor.key()
    if (found.has(key)) throw invalid(`'${key}' is given twice`)
    cursor.peek()
    found.set(key, cursor.offset)
    if (key === 'signature_name') readSignatureName(cursor)
    else cursor.skip()
  }
  cursor.end()
  const examplesAt = found.get('examples')
  if (examplesAt === undefined) throw invalid("key 'examples' is expected and was not found")
  const contextAt = found.get('context')
  const context = contextAt === undefined ? new Map<string, NestedTensor>() : readContext(cursor, contextAt, types)
  cursor.seek(examplesAt)
  const readers = new Map([...types.inputs.keys()].filter((name) => !context.has(name)).map((name) => [name, reader(name, types)]))
  const rowCount = readExamples(cursor, readers, context)
  const inputs = new Map<string, Tensor>()
  for (const name of types.inputs.keys()) {
    const common = context.get(name)
    inputs.set(name, common === undefined ? readers.get(name)!.finish() : repeated(name, common.finish(), rowCount))
  }
  return { inputs, rowCount }
}

function reader(name: string, { inputs }: TensorTypes): NestedTensor {
  const type = inputs.get(name)
  if (type === undefined) throw invalid(`the model has no input for feature "${name}": expected ${[...inputs.keys()].join(', ')}`, name)
  return new NestedTensor(name, type, ['rows', ...type.rowShape])
}

function readContext(cursor: JsonCursor, at: number, types: TensorTypes): Map<string, NestedTensor> {
  cursor.seek(at)
  const context = new Map<string, NestedTensor>()
  if (!cursor.atObject()) throw invalid(`'context' must be JSON object but got ${cursor.describe()}`)
  for (let more = cursor.enterObject(); more; more = cursor.nextMember()) {
    const name = cursor.key()
    if (context.has(name)) throw invalid(`feature "${name}" is given twice in 'context'`, name)
    const feature = reader(name, types)
    feature.readFlatRow(cursor)
    context.set(name, feature)
  }
  return context
}

/** @returns how many there are */
function readExamples(cursor: JsonCursor, readers: ReadonlyMap<string, NestedTensor>, context: ReadonlyMap<string, unknown>): number {
  if (!cursor.atList()) throw invalid(`Expecting 'examples' value to be an list/array, found ${cursor.describe()}`)
  let row = 0
  for (let more = cursor.enterList(); more; more = cursor.nextElement()) {
    if (!cursor.atObject()) throw invalid(`Example must be JSON object but got ${cursor.describe()} at example ${row}`)
    for (let member = cursor.enterObject(); member; member = cursor.nextMember()) {
      const name = cursor.key()
      const feature = readers.get(name)
      if (feature === undefined) throw invalid(`example ${row}: ${unwanted(name, readers, context)}`, name)
      if (feature.rows > row) throw invalid(`example ${row}: feature "${name}" is given twice`, name)
      feature.readFlatRow(cursor)
    }
    for (const [name, feature] of readers) if (feature.rows === row) throw invalid(`example ${row}: feature "${name}" is missing`, name)
    row++
  }
  if (row === 0) throw invalid("'examples' value is an empty array")
  return row
}

function unwanted(name: string, readers: ReadonlyMap<string, NestedTensor>, context: ReadonlyMap<string, unknown>): string {
  if (context.has(name)) return `feature "${name}" is in 'context' already`
  return `the model has no input for feature "${name}": expected ${[...readers.keys()].join(', ')}`
}

function repeated(name: string, tensor: Tensor, rowCount: number): Tensor {
  const size = tensor.datatype === 'BYTES' ? tensor.data.bytes.length : tensor.data.length
  if (size * rowCount > largestRepeated)
    throw invalid(`feature "${name}" of 'context' is too large for ${rowCount} examples: use :predict with inputs`, name)
  return concatTensors(new Array<Tensor>(rowCount).fill(tensor))
}
