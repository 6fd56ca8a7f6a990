import { type BytesColumn, bytesCount, MeshError, textColumn } from '@spillway/core'

/** A BYTES element on the wire is its length in 4 little-endian bytes, then its bytes (OIP "Tensor Data", raw_input_contents). */
const prefixBytes = 4

const encoder = new TextEncoder()

/** Lengths as text, for lengths whose prefix is ASCII. */
const asciiPrefixes: readonly string[] = Array.from({ length: 128 }, (_, length) => `${String.fromCharCode(length)}\0\0\0`)

/** Texts as the elements of a BYTES tensor, in UTF-8. Short ASCII texts are joined and encoded at once: four times as fast as one by one. */
export function encodeTexts(values: readonly string[]): Uint8Array {
  let joined = ''
  for (const value of values) {
    if (value.length >= asciiPrefixes.length) return encodeElements(textColumn(values))
    joined += asciiPrefixes[value.length]! + value
  }
  const raw = new Uint8Array(joined.length)
  const { read } = encoder.encodeInto(joined, raw)
  return read === joined.length ? raw : encodeElements(textColumn(values))
}

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
  if (dataBytes < 0) throw tooShort(raw, count, name)
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength)
  const bytes = new Uint8Array(dataBytes)
  const offsets = new Uint32Array(count + 1)
  let position = 0
  let end = 0
  for (let i = 0; i < count; i++) {
    const length = elementLength(view, position, i, count, name)
    position += prefixBytes
    if (length > 0) bytes.set(raw.subarray(position, position + length), end)
    position += length
    end += length
    offsets[i + 1] = end
  }
  if (position !== raw.byteLength) throw tooLong(raw, position, count, name)
  return { bytes, offsets }
}

/** The reverse of `encodeTexts`; bytes that are no UTF-8 become U+FFFD. Errors as `decodeElements`. */
export function decodeTexts(raw: Uint8Array, count: number, name: string): string[] {
  if (raw.byteLength < prefixBytes * count) throw tooShort(raw, count, name)
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength)
  const buffer = Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength)
  const values = new Array<string>(count)
  let position = 0
  let previous = ''
  let previousStart = 0
  let previousLength = 0
  for (let i = 0; i < count; i++) {
    const length = elementLength(view, position, i, count, name)
    position += prefixBytes
    // Topics and principals repeat from row to row.
    if (length !== previousLength || !sameBytes(raw, previousStart, position, length))
      previous = buffer.toString('utf8', position, position + length)
    values[i] = previous
    previousStart = position
    previousLength = length
    position += length
  }
  if (position !== raw.byteLength) throw tooLong(raw, position, count, name)
  return values
}

/** Compares from the end, where ids differ first. */
function sameBytes(bytes: Uint8Array, left: number, right: number, length: number): boolean {
  for (let i = length - 1; i >= 0; i--) if (bytes[left + i] !== bytes[right + i]) return false
  return true
}

/** Length of the element at `position`, which together with the prefixes of those after it must fit in what is left. */
function elementLength(view: DataView, position: number, index: number, count: number, name: string): number {
  const left = view.byteLength - position - prefixBytes * (count - index)
  const length = view.getUint32(position, true)
  if (length > left) throw invalid(name, `element ${index} of ${count} says that it has ${length} bytes, where ${left} are left`)
  return length
}

function tooShort(raw: Uint8Array, count: number, name: string): MeshError {
  return invalid(name, `${count} BYTES elements need at least ${prefixBytes * count} bytes, got ${raw.byteLength}`)
}

function tooLong(raw: Uint8Array, end: number, count: number, name: string): MeshError {
  return invalid(name, `${count} BYTES elements end at byte ${end}, but ${raw.byteLength} were given`)
}

function invalid(name: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', `tensor "${name}": ${message}`, { field: name })
}
