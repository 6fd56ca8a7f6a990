import type { HistoryWrite } from '../store.ts'
import type { HistoryDatabase } from './history-database.ts'
import type { KeyCache } from './key-cache.ts'
import { PartitionTimes } from './partition-times.ts'

/** So many rows are looked at for each key that is packed: more than may have been added, so that a file of keys that never come back stays bounded. */
const looksPerPack = 2
/** An event may be late behind its partition though not behind its key, whose lateness alone is bounded: this leaves it as much again as histories keep. */
const keptRetentions = 2

/**
 * Deletes keys that no window needs any more, a few rows looked at with each append. A key is forgotten when its newest entry lies behind the newest of the
 * partition that it came from by more than twice what its history keeps: by its own partition, since others may be far ahead. What is in memory is left alone.
 */
export class KeyExpiry {
  private readonly cache: KeyCache
  private readonly times = new PartitionTimes()
  private readonly retentionsMs = new Map<number, number>()
  /** By history, by partition: entries of forgotten keys may have been as new as this. */
  private readonly forgotten = new Map<number, Map<number, number>>()
  /** The last row that was looked at. */
  private cursor = 0

  constructor(cache: KeyCache) {
    this.cache = cache
  }

  start(database: HistoryDatabase): void {
    for (const { historyId, origin, beforeMs } of database.forgotten()) this.remember(historyId, origin, beforeMs)
  }

  /** A history that is in use: keys of others stay. */
  keeps(historyId: number, retentionMs: number): void {
    this.retentionsMs.set(historyId, retentionMs)
  }

  appended(writes: readonly HistoryWrite[]): void {
    this.times.appended(writes)
  }

  /** Up to which time entries of a key that the store does not know may have been forgotten. @param origin the partition that alone feeds the key, if there is one */
  forgottenBeforeMs(historyId: number, origin: number | undefined): number {
    const byOrigin = this.forgotten.get(historyId)
    if (byOrigin === undefined) return -Infinity
    return origin === undefined ? Math.max(...byOrigin.values()) : (byOrigin.get(origin) ?? -Infinity)
  }

  /** Within a transaction that packs so many keys. @returns what is to be done once it is committed */
  sweep(database: HistoryDatabase, packedCount: number): () => void {
    const limit = packedCount * looksPerPack + 1
    const expired: { readonly historyId: number; readonly origin: number; readonly beforeMs: number }[] = []
    let last = 0
    let looked = 0
    for (const { id, historyId, newestMs, origin } of database.keysAfter(this.cursor, limit)) {
      last = id
      looked++
      const retentionMs = this.retentionsMs.get(historyId)
      if (retentionMs === undefined) continue
      const beforeMs = this.times.settledMs(origin) - keptRetentions * retentionMs
      if (newestMs >= beforeMs || this.cache.holds(historyId, database.keyOf(id))) continue
      database.forgetKey(id, { historyId, origin, beforeMs })
      expired.push({ historyId, origin, beforeMs })
    }
    return () => {
      this.cursor = looked < limit ? 0 : last
      for (const { historyId, origin, beforeMs } of expired) this.remember(historyId, origin, beforeMs)
    }
  }

  private remember(historyId: number, origin: number, beforeMs: number): void {
    let byOrigin = this.forgotten.get(historyId)
    if (byOrigin === undefined) {
      byOrigin = new Map()
      this.forgotten.set(historyId, byOrigin)
    }
    byOrigin.set(origin, Math.max(beforeMs, byOrigin.get(origin) ?? -Infinity))
  }
}
