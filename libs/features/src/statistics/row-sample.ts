import { type Batch, column, type BytesTensor, rowMeta, text as textTensor, textValues, type Tensor } from '@spillway/core'
import type { ColumnData } from '../columns/column-data.ts'
import { numberField } from '../columns/field-values.ts'
import { TextColumn } from '../columns/text-column.ts'
import type { SourceRows } from './source-rows.ts'

/** Values of one source, by place in the sample. */
type Values =
  | { readonly kind: 'text'; readonly values: string[] }
  | { readonly kind: 'number' | 'timestamp' | 'vector'; readonly width: number; values: Float64Array }

/**
 * A seeded sample of rows, every row as likely to be in it: J. Vitter, "Random Sampling with a Reservoir", ACM TOMS 11 (1985), algorithm R. All rows,
 * where there are not more than it holds.
 */
export class RowSample {
  rowsSeen = 0
  private readonly capacity: number
  private readonly random: () => number
  private readonly fields: readonly string[]
  private readonly fieldValues = new Map<string, Values>()
  private readonly givenValues = new Map<string, Values>()
  private readonly labels: { readonly kind: 'number'; readonly width: 1; values: Float64Array }

  /** @param fields those that columns are made from */
  constructor(fields: readonly string[], { capacity, seed }: { readonly capacity: number; readonly seed: number }) {
    this.fields = fields
    this.capacity = capacity
    this.random = splitMix32(seed)
    this.labels = { kind: 'number', width: 1, values: new Float64Array(0) }
  }

  get size(): number {
    return Math.min(this.rowsSeen, this.capacity)
  }

  /** @param labels one a row of the batch, where labels are joined by the caller */
  add({ batch, given, rows }: SourceRows, labels?: Float64Array): void {
    const places = rows.map(() => this.place())
    for (const field of this.fields) keep(this.fieldValues, field, fieldData(batch, field), rows, places)
    for (const [name, data] of given) keep(this.givenValues, name, data, rows, places)
    if (labels !== undefined) keepNumbers(this.labels, labels, rows, places)
  }

  /** The sample's fields as a batch. */
  batch(): Batch {
    const columns = new Map<string, Tensor>()
    for (const [field, stored] of this.fieldValues) {
      const tensor: Tensor =
        stored.kind === 'text'
          ? textTensor(stored.values.slice(0, this.size))
          : { datatype: 'FP64', shape: [this.size], data: stored.values.subarray(0, this.size) }
      columns.set(field, tensor)
    }
    return { rowCount: this.size, meta: rowMeta(this.size), columns }
  }

  given(name: string): ColumnData | undefined {
    const stored = this.givenValues.get(name)
    if (stored === undefined) return undefined
    if (stored.kind === 'text') return { kind: 'text', values: TextColumn.of(stored.values.slice(0, this.size)) }
    const values = stored.values.subarray(0, this.size * stored.width)
    return stored.kind === 'vector' ? { kind: 'vector', values, width: stored.width } : { kind: stored.kind, values }
  }

  /** Undefined where none were given. */
  joinedLabels(): Float64Array | undefined {
    return this.labels.values.length === 0 ? undefined : this.labels.values.subarray(0, this.size)
  }

  /** Where the next row goes; -1 where it is not in the sample. */
  private place(): number {
    const row = this.rowsSeen++
    if (row < this.capacity) return row
    const place = Math.floor(this.random() * (row + 1))
    return place < this.capacity ? place : -1
  }
}

function fieldData(batch: Batch, field: string): ColumnData {
  const tensor = column(batch, field)
  if (tensor.datatype === 'BYTES') return { kind: 'text', values: TextColumn.of(textValues((tensor as BytesTensor).data)) }
  return { kind: 'number', values: numberField(batch, field) }
}

function keep(all: Map<string, Values>, name: string, data: ColumnData, rows: readonly number[], places: readonly number[]): void {
  if (data.kind === 'text') {
    const stored = all.get(name) ?? { kind: 'text', values: [] }
    all.set(name, stored)
    const texts = stored.values as string[]
    const { strings } = data.values
    for (let i = 0; i < rows.length; i++) if (places[i]! >= 0) texts[places[i]!] = strings[rows[i]!]!
    return
  }
  const width = data.kind === 'vector' ? data.width : 1
  const stored = all.get(name) ?? { kind: data.kind === 'index' ? 'number' : data.kind, width, values: new Float64Array(0) }
  all.set(name, stored)
  keepNumbers(stored as { width: number; values: Float64Array }, data.values as Float64Array, rows, places)
}

function keepNumbers(
  stored: { readonly width: number; values: Float64Array },
  values: Float64Array,
  rows: readonly number[],
  places: readonly number[],
): void {
  const { width } = stored
  for (let i = 0; i < rows.length; i++) {
    const place = places[i]!
    if (place < 0) continue
    if ((place + 1) * width > stored.values.length) stored.values = grown(stored.values, (place + 1) * width)
    for (let element = 0; element < width; element++) stored.values[place * width + element] = values[rows[i]! * width + element]!
  }
}

function grown(values: Float64Array, least: number): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(Math.max(least, values.length * 2, 1024)).fill(NaN)
  larger.set(values)
  return larger
}

/** G. Steele et al., "Fast Splittable Pseudorandom Number Generators" (2014), 32 bits: 0 (inclusive) to 1 (exclusive). */
function splitMix32(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x9e3779b9) | 0
    let z = state ^ (state >>> 16)
    z = Math.imul(z, 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return ((z ^ (z >>> 15)) >>> 0) / 4_294_967_296
  }
}
