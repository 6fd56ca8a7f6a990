import { MeshError } from '@spillway/core'
import { foundRows } from './found-rows.ts'
import { keySeparator } from './key-parts.ts'
import type { PlannedLookup } from './plan.ts'
import type { LookupData, LookupRows } from './source.ts'
import { ValueColumns } from './value-columns.ts'

/** A JavaScript map holds 2^24 keys; a table near that belongs on a server. */
const maxRows = 10_000_000

/** One row of a file, and where it stands there. */
export interface TableRow {
  readonly line: number
  /** One a key field. */
  readonly key: readonly unknown[]
  /** One a value, and the time as the last where the lookup has one. */
  readonly values: readonly unknown[]
}

/** Takes a file's rows; refuses what is wrong with them, naming the line. */
export class LookupTableBuilder {
  private readonly lookup: PlannedLookup
  private readonly file: string
  private readonly columns: ValueColumns
  /** Index of each key. */
  private readonly keys = new Map<string, number>()
  /** One a row: index of its key, and its line. */
  private readonly keyOfRow: number[] = []
  private readonly lines: number[] = []

  constructor(lookup: PlannedLookup, file: string) {
    this.lookup = lookup
    this.file = file
    this.columns = new ValueColumns(lookup.values, lookup.timeColumn !== undefined)
  }

  /** @throws MeshError INVALID_ARGUMENT naming file, line and what would be right */
  add({ line, key, values }: TableRow): void {
    const { keyFields, timeColumn, versions } = this.lookup
    const row = this.lines.length
    if (row === maxRows) throw this.refusal(line, `a table in memory holds at most ${maxRows} rows: put it into Redis or SQLite`)
    const joined = key.map((part, index) => this.keyPart(part, index, line)).join(keySeparator)
    const wrong = this.columns.set(row, values, timeColumn)
    if (wrong !== undefined) throw this.refusal(line, wrong)
    if (timeColumn !== undefined && (values.at(-1) ?? '') === '')
      throw this.refusal(line, `${timeColumn} is missing: every row of the table needs its time`)
    let index = this.keys.get(joined)
    if (index === undefined) {
      index = this.keys.size
      this.keys.set(joined, index)
    } else if (!versions)
      throw this.refusal(
        line,
        `${keyFields.join(', ')} ${key.join(', ')} is in line ${this.lines[this.keyOfRow.indexOf(index)]} already: give one row a key${timeColumn === undefined ? '' : ', or "versions: true" to keep several by time'}`,
      )
    this.keyOfRow.push(index)
    this.lines.push(line)
  }

  private keyPart(raw: unknown, index: number, line: number): string {
    const name = this.lookup.keyFields[index]!
    const text = typeof raw === 'string' ? raw : typeof raw === 'number' ? String(raw) : ''
    if (text === '') throw this.refusal(line, `${name} is missing or no key: give text or an integer`)
    if (typeof raw === 'number' && !Number.isSafeInteger(raw))
      throw this.refusal(line, `${name} is ${raw}: a key is text or an integer, and one beyond ±9007199254740991 is written as text`)
    if (this.lookup.keyTypes[index] !== 'integer') return text
    if (!/^\s*[+-]?\d{1,20}\s*$/.test(text))
      throw this.refusal(line, `${name} is ${JSON.stringify(text)}: an integer is expected, as in the events`)
    return String(BigInt(text.trim().replace(/^\+/, '')))
  }

  private refusal(line: number, message: string): MeshError {
    return new MeshError('INVALID_ARGUMENT', `${this.file}:${line}: ${message}`, { field: `lookups.${this.lookup.title}` })
  }

  /** @throws MeshError INVALID_ARGUMENT where two versions of a key have one time */
  build(): LookupTable {
    const rows = this.lines.length
    const { values, timesMs } = this.columns.data(rows)
    // Rows of a key side by side, oldest first.
    const order = Uint32Array.from({ length: rows }, (_, row) => row)
    if (this.lookup.versions) order.sort((a, b) => this.keyOfRow[a]! - this.keyOfRow[b]! || timesMs![a]! - timesMs![b]!)
    const starts = new Uint32Array(this.keys.size + 1)
    for (const key of this.keyOfRow) starts[key + 1]!++
    for (let key = 0; key < this.keys.size; key++) starts[key + 1]! += starts[key]!
    for (let at = 1; at < rows && this.lookup.versions; at++) {
      const [before, row] = [order[at - 1]!, order[at]!]
      if (this.keyOfRow[before] === this.keyOfRow[row] && timesMs![before] === timesMs![row])
        throw this.refusal(
          Math.max(this.lines[before]!, this.lines[row]!),
          `the same key and ${this.lookup.timeColumn} are in line ${Math.min(this.lines[before]!, this.lines[row]!)} already: give one row a key and time`,
        )
    }
    return new LookupTable({ keys: this.keys, starts, order, values, timesMs, versions: this.lookup.versions })
  }
}

interface TableData {
  readonly keys: ReadonlyMap<string, number>
  /** One a key, and the end: where its rows start in `order`. */
  readonly starts: Uint32Array
  readonly order: Uint32Array
  readonly values: readonly LookupData[]
  readonly timesMs: Float64Array | undefined
  readonly versions: boolean
}

/** A table in memory. */
export class LookupTable {
  private readonly data: TableData

  constructor(data: TableData) {
    this.data = data
  }

  get rowCount(): number {
    return this.data.order.length
  }

  read(keys: readonly string[], timesMs: Float64Array): LookupRows {
    const found = new Int32Array(keys.length)
    for (let row = 0; row < keys.length; row++) found[row] = this.find(keys[row]!, timesMs[row]!)
    return foundRows(this.data, found)
  }

  private find(key: string, timeMs: number): number {
    const { keys, starts, order, timesMs, versions } = this.data
    const index = keys.get(key)
    if (index === undefined) return -1
    if (!versions) return order[starts[index]!]!
    let low = starts[index]!
    let high = starts[index + 1]!
    while (low < high) {
      const middle = (low + high) >>> 1
      if (timesMs![order[middle]!]! <= timeMs) low = middle + 1
      else high = middle
    }
    return low === starts[index]! ? -1 : order[low - 1]!
  }
}
