import { Aggregates } from './aggregates.ts'
import { DistinctCount } from './distinct-count.ts'
import { GatheringScan } from './gathering-scan.ts'
import type { GroupScan } from './group-scan.ts'
import { NewestScan } from './newest-scan.ts'
import type { WindowGroup } from './plan.ts'
import type { RowPlaces, SliceHistory } from './slice-history.ts'

/** What computes the windows of one group, row after row of a slice. */
export function windowScan(group: WindowGroup, history: SliceHistory, places: RowPlaces): GroupScan {
  const valueCount = history.values.length
  switch (group.scan) {
    case 'aggregate': {
      const extremes = group.outputs.some(({ kind }) => kind === 'min' || kind === 'max')
      return new GatheringScan(group, history, places, new Aggregates(group.value, valueCount, extremes))
    }
    case 'distinct':
      return new GatheringScan(group, history, places, new DistinctCount(group.value, valueCount))
    case 'newest':
      return new NewestScan(group, history, places)
    default:
      return group.scan satisfies never
  }
}
