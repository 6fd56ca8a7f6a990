import {
  type BytesColumn,
  bytesCount,
  type FixedTensor,
  MeshError,
  type MetaKind,
  metaColumns,
  type PassThroughHeaders,
  type RowMeta,
  rowMeta,
  type Tensor,
  textAt,
  textColumn,
  textValues,
} from '@spillway/core'

/** Names that begin so belong to Spillway; a model service passes over such inputs. */
export const reservedPrefix = 'spillway.'

/** The tensor that every frame has: its rows are the frame's rows. */
export const idsName = 'spillway.ids'

interface MetaColumn {
  readonly key: keyof RowMeta
  readonly kind: MetaKind
  /** The name of its tensor: `spillway.event_times_ms`. */
  readonly name: string
}

const columns: readonly MetaColumn[] = Object.entries(metaColumns).map(([key, kind]) => ({
  key: key as keyof RowMeta,
  kind,
  name: reservedPrefix + key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
}))

const datatypes: Readonly<Record<MetaKind, Tensor['datatype']>> = { text: 'BYTES', fp64: 'FP64', int32: 'INT32', int64: 'INT64', bytes: 'BYTES', headers: 'BYTES' }

/** What `rowMeta` fills in where a column is not known. */
const defaults: RowMeta = rowMeta(1)

/** Metadata as tensors, by reserved name. A column that holds only its default is left out, but for the ids. */
export function metaTensors(meta: RowMeta, rowCount: number): [string, Tensor][] {
  const tensors: [string, Tensor][] = []
  for (const { key, kind, name } of columns) {
    if (name === idsName || !isDefault(meta[key], key)) tensors.push([name, metaTensor(meta[key], kind, rowCount)])
  }
  return tensors
}

type Column = RowMeta[keyof RowMeta]

function isDefault(column: Column, key: keyof RowMeta): boolean {
  if ('bytes' in column) return column.offsets.at(-1) === column.offsets[0]
  if (key === 'headers') return (column as readonly PassThroughHeaders[]).every((headers) => !hasKeys(headers))
  const blank = (defaults[key] as readonly unknown[])[0]
  for (let i = 0; i < column.length; i++) if (column[i] !== blank) return false
  return true
}

function hasKeys(headers: PassThroughHeaders): boolean {
  for (const name in headers) if (Object.hasOwn(headers, name)) return true
  return false
}

function metaTensor(column: Column, kind: MetaKind, rowCount: number): Tensor {
  const shape = [rowCount]
  if (kind === 'text') return { datatype: 'BYTES', shape, data: textColumn(column as readonly string[]) }
  if (kind === 'headers') return { datatype: 'BYTES', shape, data: headersColumn(column as readonly PassThroughHeaders[]) }
  if (kind === 'bytes') return { datatype: 'BYTES', shape, data: column as BytesColumn }
  return { datatype: datatypes[kind] as FixedTensor['datatype'], shape, data: column as FixedTensor['data'] }
}

/** One JSON object a row. Rows that share the object, as those without headers do, share the work. */
function headersColumn(headers: readonly PassThroughHeaders[]): BytesColumn {
  const texts = new Array<string>(headers.length)
  for (let i = 0; i < headers.length; i++) texts[i] = i > 0 && headers[i] === headers[i - 1] ? texts[i - 1]! : JSON.stringify(headers[i])
  return textColumn(texts)
}

/**
 * The reverse of `metaTensors`; takes the metadata out of `tensors`.
 * @throws MeshError INVALID_ARGUMENT naming the tensor where one has another datatype or shape, or a reserved name that is unknown.
 */
export function takeMeta(tensors: Map<string, Tensor>): { rowCount: number; meta: RowMeta } {
  const ids = tensors.get(idsName)
  if (ids === undefined) throw new MeshError('INVALID_ARGUMENT', `this is no frame: it has no tensor "${idsName}"`, { field: idsName })
  const rowCount = ids.shape[0] ?? 0
  const known: Partial<Record<keyof RowMeta, Column>> = {}
  for (const { key, kind, name } of columns) {
    const tensor = tensors.get(name)
    if (tensor === undefined) continue
    known[key] = metaColumn(tensor, kind, name, rowCount)
    tensors.delete(name)
  }
  return { rowCount, meta: rowMeta(rowCount, known as Partial<RowMeta>) }
}

function metaColumn(tensor: Tensor, kind: MetaKind, name: string, rowCount: number): Column {
  if (tensor.datatype !== datatypes[kind] || tensor.shape.length !== 1 || tensor.shape[0] !== rowCount) {
    throw invalid(name, `must be ${datatypes[kind]} of shape [${rowCount}], is ${tensor.datatype} of shape [${tensor.shape.join(', ')}]`)
  }
  if (kind === 'text') return textValues(tensor.data as BytesColumn)
  if (kind === 'headers') return headersOf(tensor.data as BytesColumn, name)
  return tensor.data as Column
}

function headersOf(column: BytesColumn, name: string): PassThroughHeaders[] {
  const rows = new Array<PassThroughHeaders>(bytesCount(column))
  let previous = ''
  for (let i = 0; i < rows.length; i++) {
    const text = textAt(column, i)
    rows[i] = i > 0 && text === previous ? rows[i - 1]! : parseHeaders(text, name, i)
    previous = text
  }
  return rows
}

function parseHeaders(text: string, name: string, row: number): PassThroughHeaders {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (error) {
    throw new MeshError('INVALID_ARGUMENT', `tensor "${name}": row ${row} is not JSON`, { field: name, cause: error })
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed) || Object.values(parsed).some((value) => typeof value !== 'string')) {
    throw invalid(name, `row ${row} must be a JSON object of strings`)
  }
  return parsed as PassThroughHeaders
}

function invalid(name: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', `tensor "${name}": ${message}`, { field: name })
}
