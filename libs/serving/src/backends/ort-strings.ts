import { isAscii, isUtf8 } from 'node:buffer'
import { type BytesColumn, bytesCount, MeshError } from '@spillway/core'

/**
 * BYTES as the strings that ONNX Runtime's binding takes. It hands them over as UTF-8 that ends with a zero byte: bytes that are no UTF-8 would become
 * replacement characters, and what follows a zero byte would be lost.
 * @param shape of the tensor, whose first dimension is the row
 * @throws MeshError INVALID_ARGUMENT naming the input and the first row that does not survive this
 */
export function ortStrings(name: string, shape: readonly number[], column: BytesColumn): string[] {
  const { offsets } = column
  const count = bytesCount(column)
  const buffer = Buffer.from(column.bytes.buffer, column.bytes.byteOffset, column.bytes.byteLength)
  const all = buffer.subarray(offsets[0], offsets[count])
  // Where no byte is above 127 or zero, no element has to be looked at by itself.
  const plain = isAscii(all) && !all.includes(0)
  const strings = new Array<string>(count)
  for (let i = 0; i < count; i++) {
    if (!plain) {
      const element = buffer.subarray(offsets[i], offsets[i + 1])
      const wrong = element.includes(0) ? 'holds a zero byte' : isUtf8(element) ? undefined : 'is no UTF-8'
      if (wrong !== undefined) throw refused(name, shape, i, count, wrong)
    }
    strings[i] = buffer.toString(plain ? 'latin1' : 'utf8', offsets[i], offsets[i + 1])
  }
  return strings
}

function refused(name: string, shape: readonly number[], index: number, count: number, wrong: string): MeshError {
  const rows = shape[0] ?? 1
  const width = count / rows
  const place = width === 1 ? `row ${index}` : `element ${index % width} of row ${Math.floor(index / width)}`
  return new MeshError(
    'INVALID_ARGUMENT',
    `input "${name}": ${place} ${wrong}: expected text, since ONNX Runtime's strings here are UTF-8 without zero bytes`,
    { field: name },
  )
}
