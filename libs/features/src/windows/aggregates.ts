import type { Gatherer, PackedHistory, Reader } from './entries.ts'
import type { WindowOutput } from './plan.ts'
import { ExactSum } from './exact-sum.ts'

/** Of entries: how many there are, how many have the value, and of those values the sum, least and largest. Independent of the order of the entries. */
export class Aggregates extends ExactSum implements Gatherer<Aggregates> {
  readonly summarisesTiles = true
  readonly slot: number
  private readonly valueIndex: number
  private readonly valueCount: number
  private readonly extremes: boolean
  private count = 0
  private present = 0
  private least = Infinity
  private largest = -Infinity

  /**
   * @param valueIndex which of an entry's `valueCount` values; -1 where entries are only counted
   * @param extremes whether the least and largest are asked for
   */
  constructor(valueIndex: number, valueCount: number, extremes = true) {
    super()
    this.valueIndex = valueIndex
    this.valueCount = valueCount
    this.extremes = extremes
    this.slot = valueIndex < 0 ? 0 : 1 + 2 * valueIndex
  }

  get bytes(): number {
    return 200 + (this.rest === undefined ? 0 : 100)
  }

  fresh(): Aggregates {
    return new Aggregates(this.valueIndex, this.valueCount)
  }

  override clear(): void {
    super.clear()
    this.count = 0
    this.present = 0
    this.least = Infinity
    this.largest = -Infinity
  }

  addEntries(entries: PackedHistory, from: number, to: number, afterMs: number, reader: Reader): number {
    if (this.valueIndex < 0) return this.countEntries(entries, from, to, afterMs, reader)
    const { times, origins, offsets, values } = entries
    const { valueIndex, valueCount } = this
    const { origin, lastOffset } = reader
    let { count, present, high, low } = this
    let index = to - 1
    for (; index >= from && times[index]! > afterMs; index--) {
      if (origins[index] === origin && offsets[index]! > lastOffset) continue
      count++
      const number = values[index * valueCount + valueIndex]!
      if (Number.isNaN(number)) continue
      present++
      // As in `ExactSum.add`, here with what it touches at hand: this is where the time goes.
      const sum = high + number
      const part = sum - high
      const error = high - (sum - part) + (number - part)
      high = sum
      const lowSum = low + error
      const lowPart = lowSum - low
      const rest = low - (lowSum - lowPart) + (error - lowPart)
      low = lowSum
      if (rest !== 0) this.addRest(rest)
    }
    if (this.extremes) this.addExtremes(entries, index + 1, to, reader)
    this.count = count
    this.present = present
    this.high = high
    this.low = low
    return index + 1
  }

  private addExtremes({ origins, offsets, values }: PackedHistory, from: number, to: number, { origin, lastOffset }: Reader): void {
    const { valueIndex, valueCount } = this
    for (let index = from; index < to; index++) {
      if (origins[index] === origin && offsets[index]! > lastOffset) continue
      const number = values[index * valueCount + valueIndex]!
      if (number < this.least) this.least = number
      if (number > this.largest) this.largest = number
    }
  }

  private countEntries({ times, origins, offsets }: PackedHistory, from: number, to: number, afterMs: number, reader: Reader): number {
    const { origin, lastOffset } = reader
    let { count } = this
    let index = to - 1
    for (; index >= from && times[index]! > afterMs; index--) if (origins[index] !== origin || offsets[index]! <= lastOffset) count++
    this.count = count
    this.present = count
    return index + 1
  }

  addNumber(number: number): void {
    this.count++
    if (Number.isNaN(number)) return
    this.present++
    this.add(number)
    if (number < this.least) this.least = number
    if (number > this.largest) this.largest = number
  }

  addSummary(summary: Aggregates): void {
    this.count += summary.count
    this.present += summary.present
    this.addSum(summary)
    if (summary.least < this.least) this.least = summary.least
    if (summary.largest > this.largest) this.largest = summary.largest
  }

  result({ kind, ofValue, empty }: WindowOutput): number {
    const count = ofValue ? this.present : this.count
    if (count === 0) return empty
    switch (kind) {
      case 'count':
        return count
      case 'sum':
        return this.value
      case 'mean':
      case 'share':
        return this.value / count
      // 0 and -0 are as small as each other: one of them, whichever came first.
      case 'min':
        return this.least + 0
      case 'max':
        return this.largest + 0
      case 'distinct':
      case 'last':
      case 'sinceLast':
        throw new TypeError(`${kind} is no aggregate`)
      default:
        return kind satisfies never
    }
  }
}
