import {
  type BytesColumn,
  type Datatype,
  MeshError,
  type MetaKind,
  metaColumns,
  type PassThroughHeaders,
  type RowMeta,
  rowMeta,
} from '@spillway/core'
import { decodeTexts, encodeElements, encodeTexts } from './bytes-elements.ts'
import { dimensions, type RawTensors, rawTensor, type WireTensor, wireTensor } from './tensor-codec.ts'

/** Names that begin so belong to Spillway; a model service passes over such inputs. */
export const reservedPrefix = 'spillway.'

/** The tensor that every frame has: its rows are the frame's rows. */
const idsName = 'spillway.ids'

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

const columnsByName: ReadonlyMap<string, MetaColumn> = new Map(columns.map((column) => [column.name, column]))

const datatypes: Readonly<Record<MetaKind, Datatype>> = {
  text: 'BYTES',
  fp64: 'FP64',
  int32: 'INT32',
  int64: 'INT64',
  bytes: 'BYTES',
  headers: 'BYTES',
}

/** What `rowMeta` fills in where a column is not known. */
const defaults: RowMeta = rowMeta(1)

/** Adds the metadata to `into`, by reserved names. A column that holds only its default is left out, but for the ids. */
export function addMeta(meta: RowMeta, rowCount: number, into: RawTensors): void {
  for (const { key, kind, name } of columns) {
    if (name !== idsName && isDefault(meta[key], key)) continue
    into.tensors.push(wireTensor(name, datatypes[kind], [rowCount]))
    into.raw.push(metaBytes(meta[key], kind))
  }
}

type Column = RowMeta[keyof RowMeta]

function isDefault(column: Column, key: keyof RowMeta): boolean {
  if ('bytes' in column) return column.offsets.at(-1) === column.offsets[0]
  if (key === 'headers') return (column as readonly PassThroughHeaders[]).every((headers) => !hasKeys(headers))
  const blank = (defaults[key] as readonly unknown[])[0]
  for (let i = 0; i < column.length; i++) if (!Object.is(column[i], blank)) return false
  return true
}

function hasKeys(headers: PassThroughHeaders): boolean {
  for (const name in headers) if (Object.hasOwn(headers, name)) return true
  return false
}

function metaBytes(column: Column, kind: MetaKind): Uint8Array {
  if (kind === 'text') return encodeTexts(column as readonly string[])
  if (kind === 'headers') return encodeTexts(headerTexts(column as readonly PassThroughHeaders[]))
  if (kind === 'bytes') return encodeElements(column as BytesColumn)
  const { buffer, byteOffset, byteLength } = column as Float64Array
  return new Uint8Array(buffer, byteOffset, byteLength)
}

/** One JSON object a row. Rows that share the object, as those without headers do, share the work. */
function headerTexts(headers: readonly PassThroughHeaders[]): string[] {
  const texts = new Array<string>(headers.length)
  for (let i = 0; i < headers.length; i++) texts[i] = i > 0 && headers[i] === headers[i - 1] ? texts[i - 1]! : JSON.stringify(headers[i])
  return texts
}

/** The metadata tensors of a message, by name. */
export type MetaTensors = ReadonlyMap<string, { readonly wire: WireTensor; readonly raw: Uint8Array | undefined }>

/**
 * The reverse of `addMeta`.
 * @throws MeshError INVALID_ARGUMENT naming the tensor that is unknown, missing, not raw, or of another datatype or shape.
 */
export function readMeta(tensors: MetaTensors): { rowCount: number; meta: RowMeta } {
  const ids = tensors.get(idsName)
  if (ids === undefined) throw new MeshError('INVALID_ARGUMENT', `this is no frame: it has no tensor "${idsName}"`, { field: idsName })
  const rowCount = dimensions(ids.wire)[0] ?? 0
  const known: Partial<Record<keyof RowMeta, Column>> = {}
  for (const [name, { wire, raw }] of tensors) {
    const column = columnsByName.get(name)
    if (column === undefined) throw invalid(name, 'unknown metadata: a newer release made this frame')
    if (raw === undefined) throw invalid(name, 'metadata must come as raw contents')
    const shape = dimensions(wire)
    if (wire.datatype !== datatypes[column.kind] || shape.length !== 1 || shape[0] !== rowCount) {
      throw invalid(name, `must be ${datatypes[column.kind]} of shape [${rowCount}], is ${wire.datatype} of shape [${shape.join(', ')}]`)
    }
    known[column.key] = metaColumn(raw, column, rowCount)
  }
  return { rowCount, meta: rowMeta(rowCount, known as Partial<RowMeta>) }
}

function metaColumn(raw: Uint8Array, { kind, name }: MetaColumn, rowCount: number): Column {
  if (kind === 'text') return decodeTexts(raw, rowCount, name)
  if (kind === 'headers') return headersOf(decodeTexts(raw, rowCount, name), name)
  return rawTensor(name, datatypes[kind], [rowCount], raw).data as Column
}

function headersOf(texts: readonly string[], name: string): PassThroughHeaders[] {
  const rows = new Array<PassThroughHeaders>(texts.length)
  for (let i = 0; i < rows.length; i++) rows[i] = i > 0 && texts[i] === texts[i - 1] ? rows[i - 1]! : parseHeaders(texts[i]!, name, i)
  return rows
}

function parseHeaders(text: string, name: string, row: number): PassThroughHeaders {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (error) {
    throw new MeshError('INVALID_ARGUMENT', `tensor "${name}": row ${row} is not JSON`, { field: name, cause: error })
  }
  if (
    typeof parsed !== 'object' ||
    parsed === null ||
    Array.isArray(parsed) ||
    Object.values(parsed).some((value) => typeof value !== 'string')
  ) {
    throw invalid(name, `row ${row} must be a JSON object of strings`)
  }
  return parsed as PassThroughHeaders
}

function invalid(name: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', `tensor "${name}": ${message}`, { field: name })
}
