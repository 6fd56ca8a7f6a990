import {
  allocate,
  type BytesColumn,
  concatBytes,
  type Datatype,
  elementBytes,
  elementCount,
  type FixedData,
  type FixedDatatype,
  MeshError,
  type Signature,
  type Tensor,
  viewBytes,
} from '@spillway/core'
import type { Tensors } from '../backend.ts'

/**
 * Tensors in memory that two threads share. Both sides know the signature, so a region holds, for each of its columns in order, numbers that say
 * shape and place, then the data: rank, up to 16 sizes, position and elements of the data; of BYTES, position and elements of the offsets too.
 */
const maxRank = 16
const wordsOfTensor = 1 + maxRank + 4
const alignment = 64

/** What a region begins with that holds the tensors of a signature. */
function headBytes(columns: Signature): number {
  return aligned(columns.size * wordsOfTensor * 8)
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / alignment) * alignment
}

/** Bytes of a region that takes the rows of all parts. */
export function regionBytes(columns: Signature, parts: readonly Tensors[]): number {
  let bytes = headBytes(columns)
  for (const [name, { datatype }] of columns) {
    let data = 0
    let offsets = 4
    for (const part of parts) {
      const { shape, data: own } = tensorOf(part, name)
      const count = elementCount(shape)
      if ('bytes' in own) {
        data += own.offsets[count]! - own.offsets[0]!
        offsets += count * 4
      } else data += count * elementBytes(datatype as FixedDatatype)
    }
    bytes += aligned(data) + (datatype === 'BYTES' ? aligned(offsets) : 0)
  }
  return bytes
}

function tensorOf(tensors: Tensors, name: string): Tensor {
  const found = tensors.get(name)
  if (found === undefined) throw new MeshError('INVALID_ARGUMENT', `tensor "${name}" is missing`, { field: name })
  return found
}

/** Puts the rows of all parts into the region, one part after the other: the one copy that they take on their way. */
export function writeRegion(region: SharedArrayBuffer, columns: Signature, parts: readonly Tensors[]): void {
  const words = new Float64Array(region, 0, columns.size * wordsOfTensor)
  let position = headBytes(columns)
  let at = 0
  for (const [name, { datatype }] of columns) {
    const tensors = parts.map((part) => tensorOf(part, name))
    const shape = joinedShape(name, tensors)
    words[at] = shape.length
    for (const [i, size] of shape.entries()) words[at + 1 + i] = size
    if (datatype === 'BYTES') {
      const { bytes, offsets } = concatBytes(tensors.map((tensor) => tensor.data as BytesColumn))
      place(words, at + 1 + maxRank, position, bytes.length)
      new Uint8Array(region, position, bytes.length).set(bytes)
      position += aligned(bytes.length)
      place(words, at + 3 + maxRank, position, offsets.length)
      new Uint32Array(region, position, offsets.length).set(offsets)
      position += aligned(offsets.byteLength)
    } else {
      const width = elementBytes(datatype)
      const count = elementCount(shape)
      place(words, at + 1 + maxRank, position, count)
      let end = position
      for (const tensor of tensors) {
        const data = tensor.data as FixedData
        view(region, datatype, end, data.length).set(data as Float64Array)
        end += data.length * width
      }
      position += aligned(count * width)
    }
    at += wordsOfTensor
  }
}

function place(words: Float64Array, at: number, position: number, count: number): void {
  words[at] = position
  words[at + 1] = count
}

/** Typed arrays of one datatype hold the same element type, which their union type cannot say. */
function view(buffer: ArrayBufferLike, datatype: FixedDatatype, position: number, count: number): Float64Array {
  return viewBytes(datatype, new Uint8Array(buffer, position, count * elementBytes(datatype))) as Float64Array
}

function joinedShape(name: string, tensors: readonly Tensor[]): readonly number[] {
  const { shape } = tensors[0]!
  if (shape.length > maxRank)
    throw new MeshError('INVALID_ARGUMENT', `tensor "${name}" has ${shape.length} dimensions: at most ${maxRank} are taken`, {
      field: name,
    })
  if (tensors.length === 1) return shape
  return [tensors.reduce((rows, tensor) => rows + tensor.shape[0]!, 0), ...shape.slice(1)]
}

/** The region's tensors, as views of it. */
export function readRegion(region: ArrayBufferLike, columns: Signature): Map<string, Tensor> {
  const words = new Float64Array(region, 0, columns.size * wordsOfTensor)
  const tensors = new Map<string, Tensor>()
  let at = 0
  for (const [name, { datatype }] of columns) {
    const rank = words[at]!
    const shape = Array.from(words.subarray(at + 1, at + 1 + rank))
    tensors.set(name, tensorAt(region, words, at + 1 + maxRank, datatype, shape))
    at += wordsOfTensor
  }
  return tensors
}

function tensorAt(region: ArrayBufferLike, words: Float64Array, at: number, datatype: Datatype, shape: readonly number[]): Tensor {
  const position = words[at]!
  const count = words[at + 1]!
  if (datatype !== 'BYTES')
    return { datatype, shape, data: count === 0 ? allocate(datatype, 0) : (view(region, datatype, position, count) as FixedData) }
  const bytes = new Uint8Array(region, position, count)
  return { datatype, shape, data: { bytes, offsets: new Uint32Array(region, words[at + 2]!, words[at + 3]) } }
}

/** The region's tensors in memory of their own: one copy of all of them. @param bytes of the region that are used */
export function copyRegion(region: SharedArrayBuffer, columns: Signature, bytes: number): Map<string, Tensor> {
  const own = new Uint8Array(bytes)
  own.set(new Uint8Array(region, 0, bytes))
  return readRegion(own.buffer, columns)
}

/** The same tensors in memory of their own. */
export function ownCopy(tensors: Tensors): Map<string, Tensor> {
  const copies = new Map<string, Tensor>()
  for (const [name, { datatype, shape, data }] of tensors) {
    if ('bytes' in data) copies.set(name, { datatype: 'BYTES', shape, data: { bytes: data.bytes.slice(), offsets: data.offsets.slice() } })
    else copies.set(name, { datatype, shape, data: data.slice() } as Tensor)
  }
  return copies
}
