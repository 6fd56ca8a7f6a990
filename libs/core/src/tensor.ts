import { type BytesColumn, concatBytes, sliceBytes, takeBytes, textColumn } from './bytes-column.ts'
import { allocate, type Datatype, type FixedData, type FixedDatatype } from './datatype.ts'
import { MeshError } from './error.ts'

/** Row-major; `shape[0]` is the row. Fixed-width data is one typed array, BYTES one buffer with offsets. */
export type Tensor = FixedTensor | BytesTensor

export interface FixedTensor {
  readonly datatype: FixedDatatype
  readonly shape: readonly number[]
  readonly data: FixedData
}

export interface BytesTensor {
  readonly datatype: 'BYTES'
  readonly shape: readonly number[]
  readonly data: BytesColumn
}

/** A tensor's type without its rows: `rowShape` leaves out the row dimension; -1 is any size. */
export interface ColumnType {
  readonly datatype: Datatype
  readonly rowShape: readonly number[]
}

/** The columns that a stage or model reads or writes, by name. */
export type Signature = ReadonlyMap<string, ColumnType>

/** Whether a column of type `given` can stand where `expected` is asked for. */
export function fitsType(given: ColumnType, expected: ColumnType): boolean {
  if (given.datatype !== expected.datatype || given.rowShape.length !== expected.rowShape.length) return false
  return expected.rowShape.every((size, i) => size === given.rowShape[i] || size === -1 || given.rowShape[i] === -1)
}

/** As messages show it: `FP32 [rows, 15]`. */
export function typeText({ datatype, rowShape }: ColumnType): string {
  return `${datatype} [${['rows', ...rowShape.map((size) => (size === -1 ? 'any' : size))].join(', ')}]`
}

export function elementCount(shape: readonly number[]): number {
  let count = 1
  for (const size of shape) count *= size
  return count
}

/** Checks that data and shape agree. @throws MeshError INVALID_ARGUMENT naming both counts. */
export function tensor(datatype: FixedDatatype, shape: readonly number[], data: FixedData): FixedTensor {
  if (elementCount(shape) !== data.length)
    throw new MeshError(
      'INVALID_ARGUMENT',
      `tensor of shape [${shape.join(', ')}] needs ${elementCount(shape)} elements, got ${data.length}`,
    )
  return { datatype, shape, data }
}

/** One FP32 value a row: shape [rows]. */
export function fp32(values: ArrayLike<number>): FixedTensor {
  return { datatype: 'FP32', shape: [values.length], data: Float32Array.from(values) }
}

/** One FP64 value a row: shape [rows]. */
export function fp64(values: Float64Array): FixedTensor {
  return { datatype: 'FP64', shape: [values.length], data: values }
}

/** One UTF-8 string a row: shape [rows]. */
export function text(values: readonly string[]): BytesTensor {
  return { datatype: 'BYTES', shape: [values.length], data: textColumn(values) }
}

/** Elements in one row: the product of all dimensions but the first. */
function rowElements(tensor: Tensor): number {
  return elementCount(tensor.shape.slice(1))
}

/** Rows `start` (inclusive) to `end` (exclusive), sharing the data. */
export function sliceTensor(source: Tensor, start: number, end: number): Tensor {
  const width = rowElements(source)
  const shape = [end - start, ...source.shape.slice(1)]
  if (source.datatype === 'BYTES') return { datatype: 'BYTES', shape, data: sliceBytes(source.data, start * width, end * width) }
  return { datatype: source.datatype, shape, data: source.data.subarray(start * width, end * width) }
}

/** The rows at `indices`, copied, in that order. */
export function takeTensor(source: Tensor, indices: ArrayLike<number>): Tensor {
  const width = rowElements(source)
  const shape = [indices.length, ...source.shape.slice(1)]
  if (source.datatype === 'BYTES') {
    return { datatype: 'BYTES', shape, data: takeBytes(source.data, width === 1 ? indices : elementIndices(indices, width)) }
  }
  const data = allocate(source.datatype, indices.length * width)
  if (width === 1) {
    for (let i = 0; i < indices.length; i++) data[i] = source.data[indices[i]!]!
  } else {
    for (let i = 0; i < indices.length; i++) copyInto(data, source.data.subarray(indices[i]! * width, (indices[i]! + 1) * width), i * width)
  }
  return { datatype: source.datatype, shape, data }
}

function elementIndices(rows: ArrayLike<number>, width: number): Uint32Array {
  const indices = new Uint32Array(rows.length * width)
  for (let i = 0; i < rows.length; i++) for (let j = 0; j < width; j++) indices[i * width + j] = rows[i]! * width + j
  return indices
}

/** Rows of all tensors, one after the other. @throws MeshError INTERNAL where datatypes or row shapes differ. */
export function concatTensors(tensors: readonly Tensor[]): Tensor {
  const [first] = tensors
  if (first === undefined) throw new MeshError('INTERNAL', 'nothing to concatenate')
  if (tensors.length === 1) return first
  let rows = 0
  for (const part of tensors) {
    if (part.datatype !== first.datatype || !sameRowShape(part.shape, first.shape))
      throw new MeshError('INTERNAL', `cannot concatenate ${describe(first)} and ${describe(part)}`)
    rows += part.shape[0]!
  }
  const shape = [rows, ...first.shape.slice(1)]
  if (first.datatype === 'BYTES') return { datatype: 'BYTES', shape, data: concatBytes(tensors.map((part) => part.data as BytesColumn)) }
  const data = allocate(first.datatype, elementCount(shape))
  let end = 0
  for (const part of tensors) {
    copyInto(data, part.data as FixedData, end)
    end += (part.data as FixedData).length
  }
  return { datatype: first.datatype, shape, data }
}

function sameRowShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, dimension) => dimension === 0 || size === b[dimension])
}

/** Typed arrays of one datatype hold the same element type, which their union type cannot say. */
function copyInto(target: FixedData, source: FixedData, at: number): void {
  ;(target as Float64Array).set(source as Float64Array, at)
}

function describe(tensor: Tensor): string {
  return `${tensor.datatype}[${tensor.shape.join(', ')}]`
}
