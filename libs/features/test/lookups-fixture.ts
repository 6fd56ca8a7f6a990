import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MeshError } from '@spillway/core'
import { expect } from 'vitest'
import { createLookups, FeatureEngine, type FeaturePlan, type LookupLogger, type LookupSource } from '../src/mod.ts'
import { openStore, type Payment, plan, vectors } from './fixture.ts'

export const now: number = Date.parse('2024-05-01T00:00:00Z')
export const shops: readonly Payment[] = [7, 8, 9].map((shop) => ({ shop, timeMs: now }))
export const merchants = { file: './merchants.csv', key: 'shop', values: { risk: 'number', category: 'string' } } as const
export const risk = { lookup: 'merchants', of: 'risk' } as const

/** A test's temporary folder of table files, and what it started to look up in them. */
export class LookupFolder {
  readonly path: string = mkdtempSync(join(tmpdir(), 'lookups-'))
  readonly #drains: (() => Promise<void>)[] = []

  write(name: string, content: string | Uint8Array): string {
    const path = join(this.path, name)
    writeFileSync(path, content)
    return path
  }

  /** Drained with the folder. */
  async start(of: FeaturePlan, logger?: LookupLogger): Promise<FeatureEngine> {
    const { engine, drain } = await startLookups(of, { folder: this.path, ...(logger && { logger }) })
    this.#drains.push(drain)
    return engine
  }

  /** The vector of each event, which is the same in the stream and in a call. */
  async lookedUp(
    lookups: Readonly<Record<string, unknown>>,
    columns: Readonly<Record<string, unknown>>,
    events: readonly Payment[],
  ): Promise<(readonly number[] | string)[]> {
    const engine = await this.start(lookupPlan(lookups, columns))
    const streamed = await vectors(engine, 'payments', events, { firstOffset: 0 })
    expect(await vectors(engine, 'payments', events, 'request')).toEqual(streamed)
    return streamed
  }

  async remove(): Promise<void> {
    for (const drain of this.#drains.splice(0)) await drain()
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
