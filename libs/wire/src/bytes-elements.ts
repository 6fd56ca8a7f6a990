import { type BytesColumn, bytesCount, MeshError } from '@spillway/core'

/** A BYTES element on the wire is its length in 4 little-endian bytes, then its bytes (OIP "Tensor Data", raw_input_contents). */
const prefixBytes = 4

/** The elements of a BYTES tensor as `raw_input_contents` holds them. */
export function encodeElements(column: BytesColumn): Uint8Array {
  const { bytes, offsets } = column
  const count = bytesCount(column)
  const raw = new Uint8Array(offsets[count]! - offsets[0]! + prefixBytes * count)
  const view = new DataView(raw.buffer)
  let end = 0
  for (let i = 0; i < count; i++) {
    const start = offsets[i]!
    const length = offsets[i + 1]! - start
    view.setUint32(end, length, true)
    end += prefixBytes
    raw.set(bytes.subarray(start, start + length), end)
    end += length
  }
  return raw
}

/**
 * The reverse of `encodeElements`. Nothing is allocated before `count` elements are known to fit.
 * @throws MeshError INVALID_ARGUMENT naming `name` where `raw` does not hold exactly `count` elements.
 */
export function decodeElements(raw: Uint8Array, count: number, name: string): BytesColumn {
  const dataBytes = raw.byteLength - prefixBytes * count
  if (dataBytes < 0) throw ragged(name, `${count} BYTES elements need at least ${prefixBytes * count} bytes, got ${raw.byteLength}`)
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength)
  const bytes = new Uint8Array(dataBytes)
  const offsets = new Uint32Array(count + 1)
  let position = 0
  let end = 0
  for (let i = 0; i < count; i++) {
    // Every element before this one fitted, and so do the prefixes of all: reading this prefix stays inside unless an element claimed too much.
    const length = position + prefixBytes <= raw.byteLength ? view.getUint32(position, true) : Infinity
    position += prefixBytes
    if (length > dataBytes - end) throw ragged(name, `element ${i} of ${count} says that it is longer than the ${raw.byteLength} bytes of the tensor allow`)
    if (length > 0) bytes.set(raw.subarray(position, position + length), end)
    position += length
    end += length
    offsets[i + 1] = end
  }
  if (position !== raw.byteLength) throw ragged(name, `${count} BYTES elements end at byte ${position}, but ${raw.byteLength} were given`)
  return { bytes, offsets }
}

function ragged(name: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', `tensor "${name}": ${message}`, { field: name })
}
