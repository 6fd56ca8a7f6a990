import { bytesColumn, type BytesColumn, concatBytes, sliceBytes, takeBytes } from './bytes-column.ts'
import { MeshError } from './error.ts'
import { concatTensors, sliceTensor, takeTensor, type Tensor } from './tensor.ts'

/** Record headers that Spillway does not know, kept by name. Values are text (bytes read as UTF-8). */
export type PassThroughHeaders = Readonly<Record<string, string>>

/** Of a row that comes from a dead letter: how often it was given back, 1 and up. It passes through to the row's answer, or to its next letter. */
export const redrivenHeader = 'spillway-redriven'

/**
 * What the mesh knows of each row, in columns: one entry a row in each of them.
 * The frame codec and the row operations below are driven by `metaColumns`: a new column is added there and here, nowhere else.
 */
export interface RowMeta {
  /** The event's own id, or `<topic>/<partition>/<offset>` where it brings none. */
  readonly ids: readonly string[]
  /** The partition key, as text; '' where there is none. */
  readonly keys: readonly string[]
  /** When the event happened, ms since the epoch. */
  readonly eventTimesMs: Float64Array
  /** When the mesh took the event in (the record's timestamp), ms since the epoch. */
  readonly ingestTimesMs: Float64Array
  /** Latest useful answer, ms since the epoch; Infinity where none is set. */
  readonly deadlinesMs: Float64Array
  /** W3C `traceparent`; '' where there is none. */
  readonly traceParents: readonly string[]
  /** Who sent the row, for authorisation; '' where unknown. */
  readonly principals: readonly string[]
  /** Where the row's event was read: '' / -1 / -1 for a synchronous call. */
  readonly topics: readonly string[]
  readonly partitions: Int32Array
  readonly offsets: BigInt64Array
  /** The event as it came in, byte for byte, for dead letters. */
  readonly events: BytesColumn
  readonly headers: readonly PassThroughHeaders[]
}

export type MetaKind = 'text' | 'fp64' | 'int32' | 'int64' | 'bytes' | 'headers'

/** How a metadata column is held, by name; the order is that of the frame. */
export const metaColumns: Readonly<Record<keyof RowMeta, MetaKind>> = {
  ids: 'text',
  keys: 'text',
  eventTimesMs: 'fp64',
  ingestTimesMs: 'fp64',
  deadlinesMs: 'fp64',
  traceParents: 'text',
  principals: 'text',
  topics: 'text',
  partitions: 'int32',
  offsets: 'int64',
  events: 'bytes',
  headers: 'headers',
}

/** A columnar micro-batch: every column's and metadata column's first dimension is `rowCount`. */
export interface Batch {
  readonly rowCount: number
  readonly meta: RowMeta
  readonly columns: ReadonlyMap<string, Tensor>
}

const noHeaders: PassThroughHeaders = {}

/** Metadata of `rowCount` rows with nothing known but what `known` gives. */
export function rowMeta(rowCount: number, known: Partial<RowMeta> = {}): RowMeta {
  const blank = (): readonly string[] => new Array<string>(rowCount).fill('')
  return {
    ids: known.ids ?? blank(),
    keys: known.keys ?? blank(),
    eventTimesMs: known.eventTimesMs ?? new Float64Array(rowCount),
    ingestTimesMs: known.ingestTimesMs ?? new Float64Array(rowCount),
    deadlinesMs: known.deadlinesMs ?? new Float64Array(rowCount).fill(Infinity),
    traceParents: known.traceParents ?? blank(),
    principals: known.principals ?? blank(),
    topics: known.topics ?? blank(),
    partitions: known.partitions ?? new Int32Array(rowCount).fill(-1),
    offsets: known.offsets ?? new BigInt64Array(rowCount).fill(-1n),
    events: known.events ?? { bytes: new Uint8Array(0), offsets: new Uint32Array(rowCount + 1) },
    headers: known.headers ?? new Array<PassThroughHeaders>(rowCount).fill(noHeaders),
  }
}

type Column = RowMeta[keyof RowMeta]

function mapMeta(source: RowMeta, change: (column: Column) => Column): RowMeta {
  const changed: Partial<Record<keyof RowMeta, Column>> = {}
  for (const name of Object.keys(metaColumns) as (keyof RowMeta)[]) changed[name] = change(source[name])
  return changed as unknown as RowMeta
}

function isBytes(column: Column): column is BytesColumn {
  return 'bytes' in column
}

/** Rows `start` (inclusive) to `end` (exclusive), sharing the data. */
export function sliceBatch(batch: Batch, start: number, end: number): Batch {
  if (start === 0 && end === batch.rowCount) return batch
  const columns = new Map<string, Tensor>()
  for (const [name, column] of batch.columns) columns.set(name, sliceTensor(column, start, end))
  const meta = mapMeta(batch.meta, (column) => {
    if (isBytes(column)) return sliceBytes(column, start, end)
    return ArrayBuffer.isView(column) ? column.subarray(start, end) : column.slice(start, end)
  })
  return { rowCount: end - start, meta, columns }
}

/** The rows at `indices`, copied, in that order. */
export function takeRows(batch: Batch, indices: ArrayLike<number>): Batch {
  const columns = new Map<string, Tensor>()
  for (const [name, column] of batch.columns) columns.set(name, takeTensor(column, indices))
  return { rowCount: indices.length, meta: mapMeta(batch.meta, (column) => takeColumn(column, indices)), columns }
}

function takeColumn(column: Column, indices: ArrayLike<number>): Column {
  if (isBytes(column)) return takeBytes(column, indices)
  if (ArrayBuffer.isView(column)) {
    const values = column as Float64Array
    const taken = new (values.constructor as Float64ArrayConstructor)(indices.length)
    for (let i = 0; i < indices.length; i++) taken[i] = values[indices[i]!]!
    return taken
  }
  const source: readonly unknown[] = column
  return Array.from(indices, (index) => source[index]) as unknown as Column
}

/** Rows of all batches, one after the other. @throws MeshError INTERNAL where their columns differ. */
export function concatBatches(batches: readonly Batch[]): Batch {
  const [first] = batches
  if (first === undefined) throw new MeshError('INTERNAL', 'no batch to concatenate')
  if (batches.length === 1) return first
  for (const { columns } of batches) {
    const extra = [...columns.keys()].find((name) => !first.columns.has(name))
    if (extra !== undefined) throw new MeshError('INTERNAL', `cannot concatenate batches of which only some have the column "${extra}"`)
  }
  const columns = new Map<string, Tensor>()
  for (const name of first.columns.keys()) columns.set(name, concatTensors(batches.map((batch) => column(batch, name))))
  const meta: Partial<Record<keyof RowMeta, Column>> = {}
  for (const name of Object.keys(metaColumns) as (keyof RowMeta)[]) meta[name] = concatColumns(batches.map((batch) => batch.meta[name]))
  return { rowCount: batches.reduce((sum, batch) => sum + batch.rowCount, 0), meta: meta as unknown as RowMeta, columns }
}

function concatColumns(columns: readonly Column[]): Column {
  const [first] = columns as [Column]
  if (isBytes(first)) return concatBytes(columns as readonly BytesColumn[])
  if (ArrayBuffer.isView(first)) {
    const parts = columns as readonly Float64Array[]
    const joined = new (first.constructor as Float64ArrayConstructor)(parts.reduce((sum, part) => sum + part.length, 0))
    let end = 0
    for (const part of parts) {
      joined.set(part, end)
      end += part.length
    }
    return joined
  }
  return (columns as readonly (readonly string[])[]).flat()
}

/** The column called `name`. @throws MeshError INTERNAL where the batch has none. */
export function column(batch: Batch, name: string): Tensor {
  const found = batch.columns.get(name)
  if (found === undefined)
    throw new MeshError('INTERNAL', `the batch has no column "${name}" (it has ${[...batch.columns.keys()].join(', ') || 'none'})`)
  return found
}

/** The batch with columns added or replaced. */
export function withColumns(batch: Batch, added: Iterable<readonly [string, Tensor]>): Batch {
  return { ...batch, columns: new Map([...batch.columns, ...added]) }
}

/** A batch without rows or columns. */
export const emptyBatch: Batch = { rowCount: 0, meta: rowMeta(0, { events: bytesColumn([]) }), columns: new Map() }
