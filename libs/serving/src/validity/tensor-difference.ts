import { bytesAt, bytesCount, elementCount, type FixedTensor, type Tensor } from '@spillway/core'

/** Where two tensors differ by more than they may. */
export interface Difference {
  /** Of the first element that does, in row-major order. */
  readonly index: number
  readonly expected: string
  readonly actual: string
  /** Rows (first dimension) with such an element. */
  readonly rowCount: number
}

/**
 * Floating-point elements may differ by `tolerance` and by `tolerance` times the expected one's size, together; NaN is equal to NaN. Others are equal or not.
 * Datatypes and shapes are the same: the caller has looked.
 */
export function difference(expected: Tensor, actual: Tensor, tolerance: number): Difference | undefined {
  const count = elementCount(expected.shape)
  const width = count / Math.max(1, expected.shape[0] ?? 1)
  const same = sameElement(expected, actual, tolerance)
  let first = -1
  let rowCount = 0
  for (let i = 0; i < count; i++) {
    if (same(i)) continue
    if (first < 0) first = i
    rowCount++
    // The rest of the row says nothing more.
    i = (Math.floor(i / width) + 1) * width - 1
  }
  if (first < 0) return undefined
  return { index: first, expected: elementText(expected, first), actual: elementText(actual, first), rowCount }
}

function sameElement(expected: Tensor, actual: Tensor, tolerance: number): (index: number) => boolean {
  if (expected.datatype === 'BYTES' || actual.datatype === 'BYTES') {
    const [a, b] = [expected.data, actual.data]
    if (!('bytes' in a) || !('bytes' in b) || bytesCount(a) !== bytesCount(b)) return () => false
    return (index) => Buffer.compare(bytesAt(a, index), bytesAt(b, index)) === 0
  }
  if (!/^(FP|BF)/.test(expected.datatype)) return (index) => expected.data[index] === actual.data[index]
  const a = floats(expected)
  const b = floats(actual)
  return (index) => {
    const [x, y] = [a[index]!, b[index]!]
    return x === y || Math.abs(x - y) <= tolerance + tolerance * Math.abs(x) || (Number.isNaN(x) && Number.isNaN(y))
  }
}

/** The values of a floating-point tensor; the 16-bit ones are held as their bits. */
function floats({ datatype, data }: FixedTensor): ArrayLike<number> {
  if (datatype === 'FP16') return new Float16Array(data.buffer, data.byteOffset, data.length)
  if (datatype === 'BF16') return new Float32Array(Uint32Array.from(data as Uint16Array, (bits) => bits << 16).buffer)
  return data as Float32Array
}

function elementText(tensor: Tensor, index: number): string {
  if (tensor.datatype === 'BYTES') return JSON.stringify(Buffer.from(bytesAt(tensor.data, index)).toString('utf8'))
  return String(/^(FP|BF)/.test(tensor.datatype) ? floats(tensor)[index] : tensor.data[index])
}
