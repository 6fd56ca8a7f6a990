import { compareEntries, type HistoryEntry, type PackedHistory } from './entries.ts'

const noFloats = new Float64Array(0)
const noOrigins = new Uint32Array(0)

/** Entries in typed arrays, which may have room for more than `count`. */
export class EntryColumns implements PackedHistory {
  count = 0
  times: Float64Array = noFloats
  origins: Uint32Array = noOrigins
  offsets: Float64Array = noFloats
  values: Float64Array = noFloats
  readonly valueCount: number

  constructor(valueCount: number) {
    this.valueCount = valueCount
  }

  get capacity(): number {
    return this.times.length
  }

  /** New arrays for `capacity` entries, with those that are there. */
  resize(capacity: number): void {
    const { times, origins, offsets, values, valueCount, count } = this
    // One buffer for all four: that many less allocations outside the heap.
    const buffer = new ArrayBuffer(capacity * (20 + 8 * valueCount))
    this.times = new Float64Array(buffer, 0, capacity)
    this.offsets = new Float64Array(buffer, capacity * 8, capacity)
    this.values = new Float64Array(buffer, capacity * 16, capacity * valueCount)
    this.origins = new Uint32Array(buffer, capacity * (16 + 8 * valueCount), capacity)
    if (count === 0) return
    this.times.set(times.length === count ? times : times.subarray(0, count))
    this.origins.set(origins.length === count ? origins : origins.subarray(0, count))
    this.offsets.set(offsets.length === count ? offsets : offsets.subarray(0, count))
    this.values.set(values.subarray(0, count * valueCount))
  }

  /** After the last entry, wherever its time would have it; there must be room. */
  push({ timeMs, origin, offset, values }: HistoryEntry): void {
    const at = this.count++
    this.times[at] = timeMs
    this.origins[at] = origin
    this.offsets[at] = offset
    for (let v = 0; v < this.valueCount; v++) this.values[at * this.valueCount + v] = values[v]!
  }

  /** Negative, 0 or positive as entry `a` comes before, is, or comes after entry `b`. */
  compare(a: number, b: number): number {
    const { times, origins, offsets } = this
    return compareEntries(times[a]!, origins[a]!, offsets[a]!, times[b]!, origins[b]!, offsets[b]!)
  }

  /** Whether the entries from `start` on ascend strictly, and come after what is before them. */
  inOrderFrom(start: number): boolean {
    for (let i = Math.max(1, start); i < this.count; i++) if (this.compare(i - 1, i) >= 0) return false
    return true
  }

  /** Sorts the entries, and drops all but the first of equal ones. */
  order(): void {
    const { times, origins, offsets, values, valueCount } = this
    const sorted = Array.from({ length: this.count }, (_, index) => index).sort((a, b) => this.compare(a, b) || a - b)
    const kept = sorted.filter((index, at) => at === 0 || this.compare(sorted[at - 1]!, index) !== 0)
    this.count = 0
    this.resize(this.capacity)
    kept.forEach((index, at) => {
      this.times[at] = times[index]!
      this.origins[at] = origins[index]!
      this.offsets[at] = offsets[index]!
      for (let v = 0; v < valueCount; v++) this.values[at * valueCount + v] = values[index * valueCount + v]!
    })
    this.count = kept.length
  }
}
