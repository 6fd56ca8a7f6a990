import {
  type Batch,
  type BytesColumn,
  column,
  type FixedTensor,
  MeshError,
  type RowMeta,
  type Tensor,
  textAt,
  textColumn,
} from '@spillway/core'
import { maxTimeMs, rfc3339Writer } from './rfc3339.ts'

/** Metadata that an output may show. */
export type MetaField = 'ids' | 'keys' | 'eventTimesMs' | 'ingestTimesMs'

/**
 * One field of an output's JSON. It is written as the column's datatype says: numbers as they read back, 64-bit integers exact, BOOL as true or
 * false, BYTES as text, a column of more than one value a row as an array. NaN and the infinities, which JSON does not have, are null.
 */
export interface OutputField {
  readonly name: string
  readonly source: { readonly column: string } | { readonly meta: MetaField }
  /** `timestamp`: ms as RFC 3339 text. `boolean`: 0 as false, else true. `json`: text that is JSON already. */
  readonly as?: 'timestamp' | 'boolean' | 'json'
  /** Of a column of several values a row: an object of these of them, by name, instead of an array. */
  readonly elements?: readonly { readonly name: string; readonly index: number }[]
}

export interface EventWriter {
  /** One JSON object a row. @throws MeshError INTERNAL where the batch lacks a column, or `as` does not suit its datatype. */
  write(batch: Batch): BytesColumn
}

/** One value's JSON, by its place in the column's data. */
type ValueText = (index: number) => string

/** Compiles an output's fields, in their order. */
export function compileEventWriter(fields: readonly OutputField[]): EventWriter {
  const labels = fields.map(({ name }, index) => `${index === 0 ? '{' : ','}${JSON.stringify(name)}:`)
  return {
    write(batch) {
      const texts = fields.map((field) => fieldText(batch, field))
      const rows = new Array<string>(batch.rowCount)
      for (let row = 0; row < batch.rowCount; row++) {
        let json = fields.length === 0 ? '{' : ''
        for (let field = 0; field < texts.length; field++) json += labels[field]! + texts[field]!(row)
        rows[row] = `${json}}`
      }
      return textColumn(rows)
    },
  }
}

function fieldText(batch: Batch, field: OutputField): ValueText {
  if ('meta' in field.source) return metaText(batch.meta, field.source.meta, field.as)
  const tensor = column(batch, field.source.column)
  const value = valueText(tensor, field)
  if (tensor.shape.length === 1) return value
  let width = 1
  for (const size of tensor.shape.slice(1)) width *= size
  if (field.elements !== undefined) return objectText(value, width, field.elements)
  return (row) => {
    let json = '['
    for (let i = row * width; i < (row + 1) * width; i++) json += i === row * width ? value(i) : `,${value(i)}`
    return `${json}]`
  }
}

function objectText(value: ValueText, width: number, elements: NonNullable<OutputField['elements']>): ValueText {
  const labels = elements.map(({ name }, at) => `${at === 0 ? '{' : ','}${JSON.stringify(name)}:`)
  return (row) => {
    let json = labels.length === 0 ? '{' : ''
    for (let at = 0; at < labels.length; at++) json += labels[at]! + value(row * width + elements[at]!.index)
    return `${json}}`
  }
}

function metaText(meta: RowMeta, name: MetaField, as: OutputField['as']): ValueText {
  if (name === 'ids' || name === 'keys') {
    const texts = meta[name]
    return (row) => JSON.stringify(texts[row])
  }
  const times = meta[name]
  return as === 'timestamp' ? timesText(times) : (row) => numberText(times[row]!)
}

function valueText(tensor: Tensor, { name, as }: OutputField): ValueText {
  if (tensor.datatype === 'BYTES') {
    if (as === undefined) return stringText(tensor.data)
    if (as === 'json') return (index) => textAt(tensor.data, index)
    throw unsuited(name, as, tensor)
  }
  if (as === 'json' || (as === 'timestamp' && tensor.datatype !== 'FP64') || tensor.datatype === 'FP16' || tensor.datatype === 'BF16')
    throw unsuited(name, as ?? 'number', tensor)
  const { data } = tensor
  if (as === 'timestamp') return timesText(data as Float64Array)
  if (tensor.datatype === 'BOOL' || as === 'boolean') return (index) => booleanText(data[index]!)
  if (tensor.datatype === 'INT64') return longText(tensor)
  if (tensor.datatype === 'FP32') return (index) => singleText(Number(data[index]))
  if (tensor.datatype === 'FP64') return (index) => numberText(Number(data[index]))
  return (index) => String(data[index])
}

function unsuited(name: string, as: string, tensor: Tensor): MeshError {
  return new MeshError('INTERNAL', `output field "${name}": a ${tensor.datatype} column cannot be written as ${as}`)
}

function numberText(value: number): string {
  return Number.isFinite(value) ? String(value) : 'null'
}

/** The shortest of the decimals that read back as the same 32-bit float: 0.1, not 0.10000000149011612. */
function singleText(value: number): string {
  if (!Number.isFinite(value)) return 'null'
  for (let digits = 6; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits))
    if (Math.fround(short) === value) return String(short)
  }
  return String(Number(value.toPrecision(9)))
}

function booleanText(value: number | bigint): string {
  if (Number.isNaN(value)) return 'null'
  return Number(value) === 0 ? 'false' : 'true'
}

function timesText(times: ArrayLike<number>): ValueText {
  const text = rfc3339Writer()
  return (index) => (Math.abs(times[index]!) <= maxTimeMs ? `"${text(times[index]!)}"` : 'null')
}

/** Through the halves where a number holds the value: reading a bigint allocates it. */
function longText(tensor: FixedTensor): ValueText {
  const { buffer, byteOffset, length } = tensor.data
  const halves = new Int32Array(buffer, byteOffset, length * 2)
  return (index) => {
    const high = halves[index * 2 + 1]!
    if (high >= -0x200000 && high < 0x200000) return String(high * 2 ** 32 + (halves[index * 2]! >>> 0))
    return String(tensor.data[index])
  }
}

/** ASCII that JSON writes as it is. */
const plain = /^[ !#-[\]-~]*$/

function stringText({ bytes, offsets }: BytesColumn): ValueText {
  const start = offsets[0]!
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1', start, offsets.at(-1))
  if (plain.test(all)) return (index) => `"${all.slice(offsets[index]! - start, offsets[index + 1]! - start)}"`
  return (index) => JSON.stringify(textAt({ bytes, offsets }, index))
}
