import { type Batch, column, MeshError, type Tensor, textValues } from '@spillway/core'
import type { FieldType } from '../field-type.ts'
import type { ColumnData } from './column-data.ts'
import type { Scratch } from './scratch.ts'
import { TextColumn } from './text-column.ts'

/** One number a row: integers and booleans as their values, NaN where an optional one is absent. May share the tensor's data: read-only. */
function numbersOf(tensor: Tensor, scratch?: Scratch): Float64Array {
  if (tensor.datatype === 'BYTES') throw new MeshError('INTERNAL', 'a column of text has no numbers')
  const { data } = tensor
  if (data instanceof Float64Array) return data
  const numbers = scratch?.numbers() ?? new Float64Array(data.length)
  if (data instanceof BigInt64Array) return integers(data, numbers)
  for (let i = 0; i < data.length; i++) numbers[i] = Number(data[i])
  return numbers
}

/** Exactly as `Number` of each, without making a bigint of it. Typed arrays are little-endian wherever this runs. */
function integers(data: BigInt64Array, numbers: Float64Array): Float64Array {
  const words = new Int32Array(data.buffer, data.byteOffset, data.length * 2)
  for (let i = 0; i < numbers.length; i++) numbers[i] = words[2 * i + 1]! * 4_294_967_296 + (words[2 * i]! >>> 0)
  return numbers
}

/** A field as a column: booleans are an index of two. */
export function fieldColumn(
  batch: Batch,
  field: string,
  { type, scratch }: { readonly type: FieldType; readonly scratch: Scratch },
): ColumnData {
  const tensor = column(batch, field)
  if (tensor.datatype === 'BYTES') return { kind: 'text', values: TextColumn.ofBytes(tensor.data) }
  if (type !== 'boolean') return { kind: type === 'timestamp' ? 'timestamp' : 'number', values: numbersOf(tensor, scratch) }
  const { data } = tensor
  const values = scratch.indices()
  for (let row = 0; row < values.length; row++) values[row] = data[row] === 1 ? 1 : data[row] === 0 ? 0 : -1
  return { kind: 'index', values, size: 2, first: 0 }
}

export function numberField(batch: Batch, field: string): Float64Array {
  return numbersOf(column(batch, field))
}

/** Text as it is, numbers as `numbersOf` gives them. */
export function matchableField(batch: Batch, field: string): ArrayLike<string | number> {
  const tensor = column(batch, field)
  return tensor.datatype === 'BYTES' ? textValues(tensor.data) : numbersOf(tensor)
}

/** One key a row, as text; '' where (a part of) it is absent. Several fields' values are one key together. */
export function keysOf(batch: Batch, fields: readonly string[]): readonly string[] {
  const parts = fields.map((field) => keyPart(batch, field))
  if (parts.length === 1) return parts[0]!
  return Array.from({ length: batch.rowCount }, (_, row) => {
    const values = parts.map((part) => part[row]!)
    return values.includes('') ? '' : values.join(keySeparator)
  })
}

/** The unit separator of ASCII: no key that people write has it. */
const keySeparator = '\u001f'

/** 64-bit integers keep every digit. */
function keyPart(batch: Batch, field: string): readonly string[] {
  const tensor = column(batch, field)
  if (tensor.datatype === 'BYTES') return textValues(tensor.data)
  const { data } = tensor
  const keys = new Array<string>(data.length)
  for (let i = 0; i < data.length; i++) {
    const value = data[i]!
    const number = Number(value)
    // Turning a number into text is cached by the runtime, turning a bigint is not.
    keys[i] = Number.isSafeInteger(number) ? String(number) : Number.isNaN(number) ? '' : String(value)
  }
  return keys
}
