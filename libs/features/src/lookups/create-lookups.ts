import { resolve } from 'node:path'
import { MeshError } from '@spillway/core'
import type { FeaturePlan } from '../plan.ts'
import { FileLookup } from './file-lookup.ts'
import type { PlannedLookup } from './plan.ts'
import { RedisLookup } from './redis-lookup.ts'
import type { LookupLogger, LookupSource } from './source.ts'
import { SqliteLookup } from './sqlite-lookup.ts'

export interface LookupsOptions {
  /** The pipeline file's: relative paths start there. */
  readonly folder: string
  /** The store's server, for Redis lookups without a url of their own. */
  readonly redisUrl?: string | undefined
  readonly logger?: LookupLogger | undefined
}

/**
 * The plan's lookups by title, to be started and drained by the caller; starting one reads and checks its table.
 * @throws MeshError INVALID_ARGUMENT whose `field` is the path within the section
 */
export function createLookups(plan: FeaturePlan, options: LookupsOptions): ReadonlyMap<string, LookupSource> {
  return new Map(plan.lookups.map((lookup) => [lookup.title, sourceOf(lookup, options)]))
}

function sourceOf(lookup: PlannedLookup, { folder, redisUrl, logger }: LookupsOptions): LookupSource {
  const { place, title } = lookup
  switch (place.kind) {
    case 'file':
      return new FileLookup({ lookup, path: resolve(folder, place.file), refreshMs: place.refreshMs, logger })
    case 'table':
      return new SqliteLookup({ lookup, path: resolve(folder, place.file), table: place.table, logger })
    case 'redis': {
      const url = place.url ?? redisUrl
      if (url === undefined)
        throw new MeshError('INVALID_ARGUMENT', 'the histories are in no Redis, so a server is needed: add "url: redis://host:port"', {
          field: `lookups.${title}.redis`,
        })
      return new RedisLookup({ lookup, pattern: place.pattern, url, logger })
    }
    default:
      return place satisfies never
  }
}

/**
 * Reads and checks the plan's table files and SQLite tables, so that a bad one is refused before anything starts; Redis is not asked.
 * @throws MeshError INVALID_ARGUMENT whose `field` is the path within the section, the message naming file and line, or table and key
 */
export async function validateLookups(plan: FeaturePlan, folder: string, signal: AbortSignal): Promise<void> {
  for (const lookup of plan.lookups) {
    if (lookup.place.kind === 'redis') continue
    const source = sourceOf(lookup, { folder })
    try {
      await source.start(signal)
    } finally {
      await source.drain()
    }
  }
}
