import type { HistoryWrite } from '../store.ts'

interface Progress {
  /** The newest event time of what will not be given again. */
  settledMs: number
  /** That of the slice at hand, and its last offset. */
  pendingMs: number
  lastOffset: number
}

/**
 * How far each partition has come in event time, since the start. A slice's own times count only once a later slice has come: it may be given again, and its
 * first rows would miss what its last ones had let go.
 */
export class PartitionTimes {
  private readonly partitions = new Map<number, Progress>()

  /** The writes of a slice. */
  appended(writes: readonly HistoryWrite[]): void {
    const slices = new Map<number, { first: number; last: number; newestMs: number }>()
    let origin = -1
    let slice = { first: Infinity, last: -Infinity, newestMs: -Infinity }
    for (const { entries } of writes) {
      for (const entry of entries) {
        if (entry.origin !== origin) {
          origin = entry.origin
          slice = slices.get(origin) ?? { first: Infinity, last: -Infinity, newestMs: -Infinity }
          slices.set(origin, slice)
        }
        if (entry.offset < slice.first) slice.first = entry.offset
        if (entry.offset > slice.last) slice.last = entry.offset
        if (entry.timeMs > slice.newestMs) slice.newestMs = entry.timeMs
      }
    }
    for (const [of, { first, last, newestMs }] of slices) this.take(of, first, last, newestMs)
  }

  private take(origin: number, first: number, last: number, newestMs: number): void {
    const progress = this.partitions.get(origin)
    if (progress === undefined) {
      this.partitions.set(origin, { settledMs: -Infinity, pendingMs: newestMs, lastOffset: last })
      return
    }
    if (first > progress.lastOffset) {
      progress.settledMs = Math.max(progress.settledMs, progress.pendingMs)
      progress.pendingMs = newestMs
    } else progress.pendingMs = Math.max(progress.pendingMs, newestMs)
    progress.lastOffset = Math.max(progress.lastOffset, last)
  }

  settledMs(origin: number): number {
    return this.partitions.get(origin)?.settledMs ?? -Infinity
  }
}
