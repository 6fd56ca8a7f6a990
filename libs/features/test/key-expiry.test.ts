import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, describe, expect, test } from 'vitest'
import { type EmbeddedHistoryStore, FeatureEngine, type HistorySettings, type HistoryWrite } from '../src/mod.ts'
import { batchOf, dayMs, hourMs, openStore, plan, vectors } from './fixture.ts'

const folder = mkdtempSync(join(tmpdir(), 'feature-expiry-'))
afterAll(() => rmSync(folder, { recursive: true }))

const history: HistorySettings = { name: 'h', valueCount: 0, retentionMs: 1000 }
/** So small that nearly all keys are only in the file. */
const noCache = 2000

function keysIn(path: string): number {
  const database = new DatabaseSync(path, { readOnly: true })
  try {
    return database.prepare('SELECT count(*) AS n FROM feature_keys').get()!['n'] as number
  } finally {
    database.close()
  }
}

async function countOf(store: EmbeddedHistoryStore, key: string): Promise<number> {
  return (await store.read([{ history, keys: [key] }]))[0]![0]!.count
}

function write(key: string, timeMs: number, offset: number, origin = 1): HistoryWrite {
  return { history, key, entries: [{ timeMs, origin, offset, values: [] }] }
}

describe('Keys that never come back', () => {
  test('are deleted, so that the file stays as large as what its windows may need', async () => {
    const path = join(folder, 'unique.db')
    const store = await openStore(path, noCache)
    let largest = 0
    for (let offset = 0; offset < 40_000; offset += 10) {
      await store.append(Array.from({ length: 10 }, (_, i) => write(`key-${offset + i}`, offset + i, offset + i)))
      if (offset % 5000 === 0) largest = Math.max(largest, keysIn(path))
    }
    expect(largest).toBeLessThan(6000)
    expect(await countOf(store, 'key-10')).toBe(0)
    expect(await countOf(store, 'key-39000')).toBe(1)
    await store.drain()
    const again = await openStore(path, noCache)
    const [unknown, later] = (await again.read([{ history, keys: ['key-10', 'key-39000'] }]))[0]!
    expect(unknown!.forgottenBeforeMs).toBeGreaterThan(30_000)
    expect(unknown!.forgottenBeforeMs).toBeLessThan(38_000)
    expect(later!.count).toBe(1)
    await again.drain()
  })

  test('of a partition that is behind stay, however far another is ahead; so do those of a slice that may be given again', async () => {
    const path = join(folder, 'behind.db')
    const store = await openStore(path, noCache)
    const behind = Array.from({ length: 50 }, (_, i) => write(`behind-${i}`, i, i, 2))
    await store.append(behind)
    for (let offset = 0; offset < 20_000; offset += 10)
      await store.append(Array.from({ length: 10 }, (_, i) => write(`ahead-${offset + i}`, offset + i, offset + i)))
    for (let i = 0; i < 50; i++) expect(await countOf(store, `behind-${i}`)).toBe(1)
    // One slice that spans more than is kept, over and over: what lies before its first row is still needed.
    const far = [write('behind-0', 60, 50, 2), write('behind-far', 1_000_000, 51, 2)]
    for (let time = 0; time < 3000; time++) await store.append(far)
    for (let i = 1; i < 50; i++) expect(await countOf(store, `behind-${i}`)).toBe(1)
    // A later slice of the partition settles it.
    for (let time = 0; time < 3000; time++) await store.append([write('behind-far', 1_000_001 + time, 52 + time, 2)])
    for (let i = 1; i < 50; i++) expect(await countOf(store, `behind-${i}`)).toBe(0)
    await store.drain()
  })
})

test('An event whose window would reach back to where keys were let go is refused, not guessed at', async () => {
  const expiring = plan({
    histories: { customer: { input: 'payments', key: 'customer', values: [] } },
    columns: { n: { window: 'count', history: 'customer', length: '1d' } },
    vector: ['n'],
  })
  const store = await openStore(':memory:', noCache)
  const engine = new FeatureEngine({ plan: expiring, store })
  const { retentionMs } = expiring.histories[0]!
  expect(retentionMs).toBe(8 * dayMs)
  const nowMs = 1000 * dayMs
  // Keys come once each, over sixty days.
  for (let offset = 0; offset < 6000; offset += 20) {
    const events = Array.from({ length: 20 }, (_, i) => ({ customer: `c${offset + i}`, timeMs: nowMs + (offset + i) * (dayMs / 100) }))
    await engine.compute(batchOf('payments', events, offset), 'payments', 'stream')
  }
  const newestMs = nowMs + 60 * dayMs
  const late = [
    { customer: 'c1', timeMs: nowMs + hourMs },
    { customer: 'c1', timeMs: newestMs },
    { customer: 'new', timeMs: newestMs - 10 * dayMs },
    { customer: 'c5999', timeMs: newestMs },
  ]
  expect(await vectors(engine, 'payments', late, { firstOffset: 6000 })).toEqual(['OUT_OF_RANGE', [1], [1], [2]])
  expect(await vectors(engine, 'payments', late.slice(0, 2), 'request')).toEqual(['OUT_OF_RANGE', [2]])
})

test('A store has one identity for as long as its file is there', async () => {
  const path = join(folder, 'identity.db')
  const first = await openStore(path)
  const { identity } = first
  await first.append([write('k', 1, 1)])
  await first.drain()
  expect(() => first.identity).toThrow(expect.objectContaining({ code: 'UNAVAILABLE' }))
  const second = await openStore(path)
  expect(second.identity).toBe(identity)
  await second.drain()
  for (const end of ['', '-wal', '-shm']) rmSync(path + end, { force: true })
  const third = await openStore(path)
  expect(third.identity).not.toBe(identity)
  expect(identity).toMatch(/^[0-9a-f-]{36}$/)
  await third.drain()
})

test('A key of very many entries is packed less often, not with every few that come', async () => {
  const path = join(folder, 'large.db')
  const kept = { ...history, retentionMs: 1e9 }
  const store = await openStore(path)
  const entries = Array.from({ length: 20_000 }, (_, offset) => ({ timeMs: offset * 977, origin: 1, offset, values: [] }))
  await store.append([{ history: kept, key: 'large', entries }])
  for (let offset = 20_000; offset < 30_000; offset += 10)
    await store.append([
      {
        history: kept,
        key: 'large',
        entries: Array.from({ length: 10 }, (_, i) => ({ timeMs: (offset + i) * 977, origin: 1, offset: offset + i, values: [] })),
      },
    ])
  const database = new DatabaseSync(path, { readOnly: true })
  // The last time it was packed is more than a thousand appends' journal ago, or none of it would be there.
  expect(database.prepare('SELECT count(*) AS n FROM feature_journal').get()!['n']).toBeGreaterThan(500)
  database.close()
  await store.drain()
  const again = await openStore(path)
  expect((await again.read([{ history: kept, keys: ['large'] }]))[0]![0]!.count).toBe(30_000)
  await again.drain()
})
