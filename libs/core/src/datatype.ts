/**
 * Datatypes of the Open Inference Protocol v2 ("Tensor Data Types"), plus the two 16-bit floats, which are held as their raw bits.
 */
export type Datatype =
  | 'BOOL'
  | 'UINT8'
  | 'UINT16'
  | 'UINT32'
  | 'UINT64'
  | 'INT8'
  | 'INT16'
  | 'INT32'
  | 'INT64'
  | 'FP16'
  | 'BF16'
  | 'FP32'
  | 'FP64'
  | 'BYTES'

/** Every datatype but BYTES: one element has a fixed width. */
export type FixedDatatype = Exclude<Datatype, 'BYTES'>

export type FixedData =
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Float32Array
  | Float64Array

interface FixedDataConstructor {
  new (length: number): FixedData
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): FixedData
  readonly BYTES_PER_ELEMENT: number
}

const constructors: Readonly<Record<FixedDatatype, FixedDataConstructor>> = {
  BOOL: Uint8Array,
  UINT8: Uint8Array,
  UINT16: Uint16Array,
  UINT32: Uint32Array,
  UINT64: BigUint64Array,
  INT8: Int8Array,
  INT16: Int16Array,
  INT32: Int32Array,
  INT64: BigInt64Array,
  FP16: Uint16Array,
  BF16: Uint16Array,
  FP32: Float32Array,
  FP64: Float64Array,
}

export function isDatatype(name: string): name is Datatype {
  return name === 'BYTES' || Object.hasOwn(constructors, name)
}

/** Width of one element in bytes. */
export function elementBytes(datatype: FixedDatatype): number {
  return constructors[datatype].BYTES_PER_ELEMENT
}

/** A zeroed array of `length` elements. */
export function allocate(datatype: FixedDatatype, length: number): FixedData {
  return new constructors[datatype](length)
}

/**
 * A view of little-endian `bytes` as elements; copies only where the bytes are not aligned to the element's width.
 * The caller has checked that the length is a multiple of the width.
 */
export function viewBytes(datatype: FixedDatatype, bytes: Uint8Array): FixedData {
  const Constructor = constructors[datatype]
  const length = bytes.byteLength / Constructor.BYTES_PER_ELEMENT
  if (bytes.byteOffset % Constructor.BYTES_PER_ELEMENT === 0) return new Constructor(bytes.buffer, bytes.byteOffset, length)
  // Not bytes.slice(): a Buffer's slice is a view, as misaligned as before.
  return new Constructor(new Uint8Array(bytes).buffer, 0, length)
}
