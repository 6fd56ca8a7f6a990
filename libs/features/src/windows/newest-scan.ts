import { countUpTo } from './entries.ts'
import type { GroupScan } from './group-scan.ts'
import type { WindowGroup, WindowOutput } from './plan.ts'
import type { RowPlaces, SliceHistory } from './slice-history.ts'

/** What is newest in a window: its last values, and how long ago its last event was. Walks back from the newest entry until it has them. */
export class NewestScan implements GroupScan {
  private readonly group: WindowGroup
  private readonly history: SliceHistory
  private readonly places: RowPlaces
  private readonly values: Float64Array | undefined
  /** Values that are there, the newest first, with their times. */
  private readonly found: Float64Array
  private readonly foundTimes: Float64Array
  private foundCount = 0
  /** Of any entry, whether its value is there or not. */
  private newestTime = -Infinity

  constructor(group: WindowGroup, history: SliceHistory, places: RowPlaces) {
    this.group = group
    this.history = history
    this.places = places
    this.values = group.value >= 0 ? history.values[group.value] : undefined
    const wanted = group.value >= 0 ? Math.max(...group.outputs.map(({ width }) => width)) : 0
    this.found = new Float64Array(wanted)
    this.foundTimes = new Float64Array(wanted)
  }

  compute(row: number, columns: readonly Float64Array[]): void {
    this.walk(row)
    const { lengthsMs, delayMs, outputs } = this.group
    const timeMs = this.places.times[row]!
    for (const output of outputs) {
      const after = timeMs - delayMs - lengthsMs[output.length]!
      const column = columns[output.column]!
      if (output.kind === 'sinceLast') column[row] = this.secondsSince(timeMs, after, output)
      else
        for (let i = 0; i < output.width; i++) {
          const within = i < this.foundCount && this.foundTimes[i]! > after
          column[row * output.width + i] = within ? this.found[i]! : output.empty
        }
    }
  }

  private secondsSince(timeMs: number, after: number, { ofValue, empty }: WindowOutput): number {
    const last = !ofValue ? this.newestTime : this.foundCount > 0 ? this.foundTimes[0]! : -Infinity
    return last > after ? (timeMs - last) / 1000 : empty
  }

  private walk(row: number): void {
    const { group, history, places, values, found } = this
    const { current, value } = group
    const stored = history.storedFor(row)
    const stride = stored.count === 0 ? 0 : history.values.length
    const ownOrigin = places.origins[row]!
    const lastOffset = current ? places.offsets[row]! : places.offsets[row]! - 1
    const until = places.times[row]! - group.delayMs
    const after = until - group.lengthsMs.at(-1)!
    this.newestTime = -Infinity
    this.foundCount = 0
    let at = countUpTo(stored, until) - 1
    let chained = history.newestRow(row)
    const left = current ? -1 : row
    for (;;) {
      while (chained >= 0 && (chained === left || places.times[chained]! > until)) chained = history.older[chained]!
      // What lies behind the row on its own partition has not happened yet: it is here because the slice is given again.
      while (at >= 0 && stored.origins[at] === ownOrigin && stored.offsets[at]! > lastOffset) at--
      const storedTime = at >= 0 ? stored.times[at]! : -Infinity
      const chainedTime = chained >= 0 ? places.times[chained]! : -Infinity
      const timeMs = Math.max(storedTime, chainedTime)
      if (timeMs <= after) return
      const fromSlice =
        chainedTime > storedTime || (chainedTime === storedTime && this.chainedIsNewer(chained, stored.origins[at]!, stored.offsets[at]!))
      if (this.newestTime === -Infinity) this.newestTime = timeMs
      if (value >= 0) {
        const number = fromSlice ? values![chained]! : stored.values[at * stride + value]!
        if (!Number.isNaN(number)) {
          found[this.foundCount] = number
          this.foundTimes[this.foundCount++] = timeMs
        }
      }
      if (this.foundCount === found.length) return
      if (fromSlice) chained = history.older[chained]!
      else at--
    }
  }

  private chainedIsNewer(chained: number, origin: number, offset: number): boolean {
    const { origins, offsets } = this.places
    // A row without a position is a call's own: the newest of its time.
    if (offsets[chained]! < 0) return true
    return origins[chained] === origin ? offsets[chained]! > offset : origins[chained]! > origin
  }
}
