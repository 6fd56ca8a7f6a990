import { countUpTo, type Gatherer, type Reader } from './entries.ts'
import type { GroupScan } from './group-scan.ts'
import type { WindowGroup, WindowOutput } from './plan.ts'
import type { RowPlaces, SliceHistory } from './slice-history.ts'

/** A gatherer that can say what a window's number is. */
export interface WindowGatherer<G> extends Gatherer<G> {
  result(output: WindowOutput): number
}

/** Windows whose numbers do not depend on the order of their entries: one pass from the newest to the oldest for all lengths of a group. */
export class GatheringScan<G extends WindowGatherer<G>> implements GroupScan {
  private readonly group: WindowGroup
  private readonly history: SliceHistory
  private readonly places: RowPlaces
  private readonly gatherer: G
  /** Of the slice's own rows. */
  private readonly values: Float64Array | undefined
  /** By length. */
  private readonly outputs: readonly (readonly WindowOutput[])[]
  private readonly reader: Reader = { origin: 0, lastOffset: 0 }

  constructor(group: WindowGroup, history: SliceHistory, places: RowPlaces, gatherer: G) {
    this.group = group
    this.history = history
    this.places = places
    this.gatherer = gatherer
    this.values = group.value >= 0 ? history.values[group.value] : undefined
    this.outputs = group.lengthsMs.map((_, length) => group.outputs.filter((output) => output.length === length))
  }

  compute(row: number, columns: readonly Float64Array[]): void {
    const { group, history, places, gatherer, outputs, reader } = this
    const { lengthsMs, current } = group
    const stored = history.storedFor(row)
    reader.origin = places.origins[row]!
    reader.lastOffset = current ? places.offsets[row]! : places.offsets[row]! - 1
    gatherer.clear()
    const until = places.times[row]! - group.delayMs
    let to = countUpTo(stored, until)
    let chained = history.newestRow(row)
    while (chained >= 0 && places.times[chained]! > until) chained = history.older[chained]!
    const { tiles } = stored
    for (let window = 0; window < lengthsMs.length; window++) {
      const after = until - lengthsMs[window]!
      if (tiles === undefined) to = gatherer.addEntries(stored, 0, to, after, reader)
      else {
        const from = Math.min(to, countUpTo(stored, after))
        tiles.gather(gatherer, from, to, reader)
        to = from
      }
      for (; chained >= 0 && places.times[chained]! > after; chained = history.older[chained]!)
        if (current || chained !== row) gatherer.addNumber(this.values === undefined ? 0 : this.values[chained]!)
      for (const output of outputs[window]!) columns[output.column]![row] = gatherer.result(output)
    }
  }
}
