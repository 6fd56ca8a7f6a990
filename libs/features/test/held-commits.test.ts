import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { EmbeddedHistoryStore } from '../src/embedded/history-store.ts'
import type { HistorySettings } from '../src/store.ts'

const folder = mkdtempSync(join(tmpdir(), 'spillway-held-'))
afterAll(() => rmSync(folder, { recursive: true }))

const history: HistorySettings = { name: 'customer', valueCount: 1, retentionMs: 1e9 }

async function open(path: string): Promise<EmbeddedHistoryStore> {
  const store = new EmbeddedHistoryStore({ path, commits: 'asked', exclusive: true })
  await store.start(new AbortController().signal)
  return store
}

async function append(store: EmbeddedHistoryStore, first: number, count: number): Promise<void> {
  const origin = await store.origin('transactions', 0)
  for (let offset = first; offset < first + count; offset++)
    await store.append([{ history, key: `${offset % 3}`, entries: [{ timeMs: offset, origin, offset, values: [offset] }] }])
}

async function counts(store: EmbeddedHistoryStore): Promise<number[]> {
  const [found] = await store.read([{ history, keys: ['0', '1', '2'] }])
  return found!.map(({ count }) => count)
}

it('goes back to the last commit, note and histories at once, where the process ends before the next', async () => {
  const path = join(folder, 'asked.db')
  const first = await open(path)
  expect(first.note).toBeUndefined()
  await append(first, 0, 90)
  first.commit('one')
  await append(first, 90, 300)
  expect(await counts(first)).toEqual([130, 130, 130])
  await first.drain()
  const second = await open(path)
  expect(second.note).toBe('one')
  expect(await counts(second)).toEqual([30, 30, 30])
  await append(second, 90, 30)
  second.commit('two')
  await second.drain()
  const third = await open(path)
  expect([third.note, await counts(third)]).toEqual(['two', [40, 40, 40]])
  await third.drain()
})

it('commits by itself where commits are not asked for', async () => {
  const store = new EmbeddedHistoryStore({ path: ':memory:' })
  await store.start(new AbortController().signal)
  expect(() => store.commit('note')).toThrow(/each append of this store is committed by itself/)
  await store.drain()
})
