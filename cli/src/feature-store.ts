import { mkdirSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { EmbeddedHistoryStore, type HistoryStore, RedisHistoryStore } from '@spillway/features'
import type { Telemetry } from '@spillway/telemetry'
import type { BusAddress } from './bus-address.ts'
import type { StoreAddress } from './options.ts'

export interface FeatureStoreOptions {
  /** Names the keys of its histories, where others are in the same store. */
  readonly pipeline: string
  readonly store: StoreAddress
  readonly bus: BusAddress
  /** Where an embedded store without a file of its own lies. */
  readonly dataPath: string
  readonly logger: Telemetry['logger']
}

/**
 * The pipeline's histories, not started yet: in Redis, or in a file, which without a name is the embedded bus's own, so that what is appended is in
 * the log before the slice's commit.
 */
export function featureStore({ pipeline, store, bus, dataPath, logger }: FeatureStoreOptions): HistoryStore {
  if (store.kind === 'redis') return new RedisHistoryStore({ url: store.url, prefix: `spillway:{${pipeline}}:`, logger })
  const path = store.path ?? (bus.kind === 'embedded' ? bus.path : join(dataPath, `${pipeline}.features.db`))
  const shared = bus.kind === 'embedded' && resolve(path) === resolve(bus.path)
  mkdirSync(dirname(path), { recursive: true })
  return new EmbeddedHistoryStore(shared ? { path } : { path, exclusive: true })
}
