import type { WindowKind } from './definition.ts'
import type { WindowGroup } from './plan.ts'
import { countUpTo, type RowPlaces, type SliceHistory } from './slice-history.ts'

/** Aggregates of one window: entries, entries whose value is there, and of those values the sum, least and largest. */
const aggregates = 5

/**
 * Walks once from the newest to the oldest entry for all windows of a group, so that each sum is made in the one order (time, origin, offset), backwards,
 * however the events were cut into slices.
 */
export class WindowScan {
  private readonly group: WindowGroup
  private readonly history: SliceHistory
  private readonly places: RowPlaces
  private readonly results: Float64Array
  private readonly values: Float64Array | undefined

  constructor(group: WindowGroup, history: SliceHistory, places: RowPlaces) {
    this.group = group
    this.history = history
    this.places = places
    this.results = new Float64Array(group.lengthsMs.length * aggregates)
    this.values = group.value >= 0 ? history.values[group.value] : undefined
  }

  /** Writes the row's windows into `columns`, which are those of the input's plan. */
  compute(row: number, columns: readonly Float64Array[]): void {
    this.walk(row)
    for (const { column, length, kind, ofValue, empty } of this.group.outputs) {
      columns[column]![row] = aggregate(this.results, length * aggregates, kind, ofValue, empty)
    }
  }

  private walk(row: number): void {
    const { group, history, places, results } = this
    const stored = history.storedFor(row)
    const { times, origins, offsets, values } = stored
    const { lengthsMs, value } = group
    const stride = stored.count === 0 ? 0 : history.values.length
    const ownOrigin = places.origins[row]!
    const ownOffset = places.offsets[row]!
    const until = places.times[row]! - group.delayMs
    let at = countUpTo(stored, until) - 1
    let chained = history.newestRow(row)
    while (chained >= 0 && places.times[chained]! > until) chained = history.older[chained]!
    let count = 0
    let present = 0
    let sum = 0
    let least = Infinity
    let largest = -Infinity
    for (let window = 0; window < lengthsMs.length; window++) {
      const after = until - lengthsMs[window]!
      for (;;) {
        const storedTime = at >= 0 ? times[at]! : -Infinity
        const chainedTime = chained >= 0 ? places.times[chained]! : -Infinity
        if (storedTime <= after && chainedTime <= after) break
        let number = 0
        if (chainedTime > storedTime || (chainedTime === storedTime && this.chainedIsNewer(chained, origins[at]!, offsets[at]!))) {
          if (value >= 0) number = this.values![chained]!
          chained = history.older[chained]!
        } else {
          const index = at--
          // What lies behind the row on its own partition has not happened yet: it is here because the slice is given again.
          if (origins[index] === ownOrigin && offsets[index]! > ownOffset) continue
          if (value >= 0) number = values[index * stride + value]!
        }
        count++
        if (Number.isNaN(number)) continue
        present++
        sum += number
        if (number < least) least = number
        if (number > largest) largest = number
      }
      const base = window * aggregates
      results[base] = count
      results[base + 1] = present
      results[base + 2] = sum
      results[base + 3] = least
      results[base + 4] = largest
    }
  }

  private chainedIsNewer(chained: number, origin: number, offset: number): boolean {
    const { origins, offsets } = this.places
    // A row without a position is a call's own: the newest of its time.
    if (offsets[chained]! < 0) return true
    return origins[chained] === origin ? offsets[chained]! > offset : origins[chained]! > origin
  }
}

function aggregate(results: Float64Array, base: number, kind: WindowKind, ofValue: boolean, empty: number): number {
  const count = results[base + (ofValue ? 1 : 0)]!
  if (count === 0) return empty
  switch (kind) {
    case 'count':
      return count
    case 'sum':
      return results[base + 2]!
    case 'mean':
    case 'share':
      return results[base + 2]! / count
    case 'min':
      return results[base + 3]!
    case 'max':
      return results[base + 4]!
    default:
      return kind satisfies never
  }
}
