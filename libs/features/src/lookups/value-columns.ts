import { kindOf } from './compile.ts'
import type { LookupType } from './definition.ts'
import type { LookupValue } from './plan.ts'
import { readValue, WrongValue } from './raw-value.ts'
import type { LookupData } from './source.ts'

/** One value of a lookup over rows that come one by one: absent where it was not set. */
class ValueColumn {
  readonly type: LookupType
  private readonly width: number
  private readonly texts: string[] | undefined
  private numbers: Float64Array

  constructor(type: LookupType, rows: number) {
    this.type = type
    this.width = typeof type === 'string' ? 1 : type.vector
    this.texts = type === 'string' ? new Array<string>(rows).fill('') : undefined
    this.numbers = new Float64Array(this.texts === undefined ? rows * this.width : 0).fill(NaN)
  }

  /** @returns what is wrong with it */
  set(row: number, raw: unknown): WrongValue | undefined {
    const value = readValue(raw, this.type)
    if (value instanceof WrongValue) return value
    if (this.texts !== undefined) this.texts[row] = value === undefined ? '' : (value as string)
    else {
      if ((row + 1) * this.width > this.numbers.length) this.grow((row + 1) * this.width)
      if (typeof value === 'number') this.numbers[row] = value
      else if (value !== undefined) this.numbers.set(value as ArrayLike<number>, row * this.width)
    }
    return undefined
  }

  private grow(needed: number): void {
    const grown = new Float64Array(Math.max(needed, this.numbers.length * 2, 1024)).fill(NaN)
    grown.set(this.numbers)
    this.numbers = grown
  }

  data(rows: number): LookupData {
    const kind = kindOf(this.type)
    if (this.texts !== undefined) return { kind: 'text', values: this.texts }
    const values = this.numbers.length < rows * this.width ? this.grown(rows) : this.numbers.subarray(0, rows * this.width)
    return kind === 'vector' ? { kind, values, width: this.width } : { kind: kind as 'number' | 'timestamp', values }
  }

  private grown(rows: number): Float64Array {
    this.grow(rows * this.width)
    return this.numbers.subarray(0, rows * this.width)
  }
}

/** All values of a lookup, and their time, over rows that come one by one. */
export class ValueColumns {
  private readonly values: readonly LookupValue[]
  private readonly columns: readonly ValueColumn[]
  private readonly time: ValueColumn | undefined

  /** @param rows how many there will be, where that is known */
  constructor(values: readonly LookupValue[], timed: boolean, rows = 0) {
    this.values = values
    this.columns = values.map(({ type }) => new ValueColumn(type, rows))
    this.time = timed ? new ValueColumn('timestamp', rows) : undefined
  }

  /**
   * @param raws one a value, and the time as the last
   * @param timeName for the message
   * @returns what is wrong, as in `risk is "abc": a number is expected`
   */
  set(row: number, raws: readonly unknown[], timeName = 'its time'): string | undefined {
    for (let i = 0; i < this.columns.length; i++) {
      const wrong = this.columns[i]!.set(row, raws[i])
      if (wrong !== undefined) return `${this.values[i]!.name} ${wrong.message}`
    }
    const wrong = this.time?.set(row, raws[this.columns.length])
    return wrong === undefined ? undefined : `${timeName} ${wrong.message}`
  }

  data(rows: number): { readonly values: readonly LookupData[]; readonly timesMs: Float64Array | undefined } {
    const times = this.time?.data(rows).values
    return { values: this.columns.map((column) => column.data(rows)), timesMs: times as Float64Array | undefined }
  }
}
