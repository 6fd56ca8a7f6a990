import { randomUUID } from 'node:crypto'
import { RedisHistoryStore, type RedisHistoryStoreOptions } from '../src/mod.ts'

/** Of one test alone. */
export function newPrefix(): string {
  return `test:{${randomUUID()}}:`
}

export async function openRedisStore(options: RedisHistoryStoreOptions): Promise<RedisHistoryStore> {
  const store = new RedisHistoryStore(options)
  await store.start(AbortSignal.timeout(20_000))
  return store
}
