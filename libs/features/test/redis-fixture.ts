import { randomUUID } from 'node:crypto'
import { MeshError } from '@spillway/core'
import { RedisHistoryStore, type RedisHistoryStoreOptions } from '../src/redis/history-store.ts'
import type { HistoryEntry, HistorySettings, HistoryStore, Owner } from '../src/store.ts'

/** Of one test alone. */
export function newPrefix(): string {
  return `test:{${randomUUID()}}:`
}

/** A started store that is drained at the end of the test. */
export async function openRedisStore(options: RedisHistoryStoreOptions): Promise<RedisHistoryStore> {
  const store = new RedisHistoryStore(options)
  await store.start(AbortSignal.timeout(20_000))
  return store
}

export interface Slice {
  readonly history: HistorySettings
  readonly entries: ReadonlyMap<string, readonly HistoryEntry[]>
  readonly owner?: Owner
}

/** A slice as the engine gives it: reads its keys, then writes to them; tried again while the store is away or says that it must be. */
export async function give(store: HistoryStore, { history, entries, owner }: Slice): Promise<void> {
  const owned = owner === undefined ? {} : { owner }
  for (;;) {
    try {
      await store.read([{ history, keys: [...entries.keys()], ...owned }])
      await store.append([...entries].map(([key, of]) => ({ history, key, entries: of, ...owned })))
      return
    } catch (thrown) {
      if (!(thrown instanceof MeshError && thrown.retryable)) throw thrown
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }
}
