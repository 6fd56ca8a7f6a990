import { type ColumnType, type Datatype, MeshError, type Signature } from '@spillway/core'
import type { Binding } from 'onnxruntime-node/dist/binding.js'
import type { ModelSignature } from '../backend.ts'

/** OIP datatypes by the numbers of onnx.proto's TensorProto.DataType, of those element types that ONNX Runtime's Node.js binding takes, and its names for them. */
const elementTypes: readonly (readonly [number, string, Datatype])[] = [
  [1, 'float32', 'FP32'],
  [2, 'uint8', 'UINT8'],
  [3, 'int8', 'INT8'],
  [4, 'uint16', 'UINT16'],
  [5, 'int16', 'INT16'],
  [6, 'int32', 'INT32'],
  [7, 'int64', 'INT64'],
  [8, 'string', 'BYTES'],
  [9, 'bool', 'BOOL'],
  [10, 'float16', 'FP16'],
  [11, 'float64', 'FP64'],
  [12, 'uint32', 'UINT32'],
  [13, 'uint64', 'UINT64'],
]
/** Its number in onnx.proto. */
const bfloat16 = 16
const datatypes = new Map(elementTypes.map(([number, , datatype]) => [number, datatype]))

/** ONNX Runtime's name of a datatype. */
export const ortTypes: ReadonlyMap<Datatype, string> = new Map(elementTypes.map(([, name, datatype]) => [datatype, name]))

/** What a file says of itself, as the config reads it. */
export interface OnnxDescription {
  readonly signature: ModelSignature
  /** Infinity where neither file nor config sets a limit; 1 for a model that is not batched. */
  readonly maxBatchRows: number
}

interface Value {
  readonly name: string
  readonly datatype: Datatype
  /** -1 is any size. */
  readonly shape: readonly number[]
}

/**
 * @param maxBatchSize the config's: 0 for a model whose first dimension is not the row. Absent, the file decides: it is the row where it is symbolic or 1 in
 * every input and no output says otherwise.
 * @throws MeshError FAILED_PRECONDITION naming the file where it and the config disagree, or it has values that the protocol cannot carry
 */
export function describeOnnx(session: Binding.InferenceSession, path: string, maxBatchSize: number | undefined): OnnxDescription {
  const inputs = session.inputMetadata.map((value) => readValue(value, `${path}: input "${value.name}"`))
  const outputs = session.outputMetadata.map((value) => readValue(value, `${path}: output "${value.name}"`))
  const against = maxBatchSize === 0 ? 'max_batch_size is 0' : rowlessReason(inputs, outputs)
  if (against !== undefined) {
    if (maxBatchSize !== undefined && maxBatchSize > 0)
      throw new MeshError(
        'FAILED_PRECONDITION',
        `${path} cannot be batched (max_batch_size is ${maxBatchSize}): ${against}; set max_batch_size to 0`,
      )
    return { signature: wholeSignature(inputs, outputs), maxBatchRows: 1 }
  }
  const one = inputs.some(({ shape }) => shape[0] === 1)
  if (one && maxBatchSize !== undefined && maxBatchSize > 1)
    throw new MeshError(
      'FAILED_PRECONDITION',
      `${path} takes one row at a time (max_batch_size is ${maxBatchSize}): export it with a symbolic first dimension, or set max_batch_size to 1`,
    )
  return { signature: { inputs: columns(inputs), outputs: columns(outputs) }, maxBatchRows: one ? 1 : (maxBatchSize ?? Infinity) }
}

/** Why the first dimension cannot be the row; undefined where it can. */
function rowlessReason(inputs: readonly Value[], outputs: readonly Value[]): string | undefined {
  if (inputs.length === 0) return 'it has no inputs'
  for (const { name, shape } of inputs) {
    if (shape.length === 0) return `input "${name}" has no dimension`
    if (shape[0] !== -1 && shape[0] !== 1) return `input "${name}" takes exactly ${shape[0]} in its first dimension`
  }
  const one = inputs.some(({ shape }) => shape[0] === 1)
  for (const { name, shape } of outputs) {
    if (shape.length === 0) return `output "${name}" has no dimension`
    if (shape[0] !== -1 && (shape[0] !== 1 || !one)) return `output "${name}" has always ${shape[0]} in its first dimension`
  }
  return undefined
}

function columns(values: readonly Value[]): Signature {
  return new Map(values.map(({ name, datatype, shape }): [string, ColumnType] => [name, { datatype, rowShape: shape.slice(1) }]))
}

function wholeSignature(inputs: readonly Value[], outputs: readonly Value[]): ModelSignature {
  const wholeShapes = new Map([...inputs, ...outputs].map(({ name, shape }) => [name, shape]))
  return { inputs: columns(inputs), outputs: columns(outputs), wholeShapes }
}

function readValue(value: Binding.ValueMetadata, what: string): Value {
  if (!value.isTensor)
    throw new MeshError(
      'FAILED_PRECONDITION',
      `${what} is no tensor but a sequence or map (ZipMap makes those): export the model without it, as with zipmap=False`,
    )
  const datatype = datatypes.get(value.type)
  if (datatype === undefined) {
    const why =
      value.type === bfloat16
        ? 'is BF16, which the runtime has no way for from Node.js: cast it to FP32 or FP16 within the model'
        : `has element type ${value.type} of onnx.proto, which the protocol cannot carry`
    throw new MeshError('FAILED_PRECONDITION', `${what} ${why}`)
  }
  return { name: value.name, datatype, shape: value.shape.map((size) => (size < 0 ? -1 : size)) }
}
