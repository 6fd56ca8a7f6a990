import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MeshError } from '@spillway/core'
import { createLookups, FeatureEngine, type FeaturePlan, type LookupLogger, type LookupSource } from '../src/mod.ts'
import { openStore, plan } from './fixture.ts'

/** A temporary folder with these files. */
export class LookupFolder {
  readonly path: string = mkdtempSync(join(tmpdir(), 'lookups-'))

  write(name: string, content: string | Uint8Array): string {
    const path = join(this.path, name)
    writeFileSync(path, content)
    return path
  }

  remove(): void {
    rmSync(this.path, { recursive: true })
  }
}

export interface StartedLookups {
  readonly engine: FeatureEngine
  readonly sources: ReadonlyMap<string, LookupSource>
  readonly drain: () => Promise<void>
}

export async function startLookups(
  of: FeaturePlan,
  options: { readonly folder: string; readonly redisUrl?: string; readonly logger?: LookupLogger },
): Promise<StartedLookups> {
  const sources = createLookups(of, options)
  const drain = async (): Promise<void> => {
    for (const source of sources.values()) await source.drain()
  }
  try {
    for (const source of sources.values()) await source.start(AbortSignal.timeout(20_000))
  } catch (thrown) {
    await drain()
    throw thrown
  }
  return { engine: new FeatureEngine({ plan: of, store: await openStore(), lookups: sources }), sources, drain }
}

/** A plan whose vector is all of its columns. */
export function lookupPlan(lookups: Readonly<Record<string, unknown>>, columns: Readonly<Record<string, unknown>>): FeaturePlan {
  return plan({ lookups, columns, vector: Object.keys(columns) })
}

/** What a promise rejects with. */
export async function refusal(promise: Promise<unknown>): Promise<MeshError> {
  try {
    await promise
  } catch (thrown) {
    if (thrown instanceof MeshError) return thrown
    throw thrown
  }
  throw new Error('it was accepted')
}
