import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, describe, expect, test } from 'vitest'
import { EmbeddedHistoryStore, type HistorySettings, type PackedHistory } from '../src/mod.ts'
import { openStore } from './fixture.ts'

const folder = mkdtempSync(join(tmpdir(), 'feature-store-'))
afterAll(() => rmSync(folder, { recursive: true }))

const history: HistorySettings = { name: 'h', valueCount: 2, retentionMs: 100 }

function entry(timeMs: number, offset: number, origin = 1): { timeMs: number; origin: number; offset: number; values: number[] } {
  return { timeMs, origin, offset, values: [timeMs * 10, offset] }
}

function listed({ count, times, origins, offsets, values }: PackedHistory): number[][] {
  return Array.from({ length: count }, (_, i) => [times[i]!, origins[i]!, offsets[i]!, values[2 * i]!, values[2 * i + 1]!])
}

async function readKey(store: EmbeddedHistoryStore, key: string): Promise<number[][]> {
  return listed((await store.read([{ history, keys: [key] }]))[0]![0]!)
}

describe('A key’s entries', () => {
  test('are sorted by time, origin and offset, whatever their order of arrival; adding one twice is adding it once', async () => {
    const store = await openStore()
    const entries = [entry(5, 0), entry(3, 1), entry(5, 0, 2), entry(5, 2), entry(3, 1), entry(9, 3)]
    await store.append([{ history, key: 'k', entries }])
    await store.append([{ history, key: 'k', entries: entries.slice(2, 5) }])
    expect((await readKey(store, 'k')).map(([time, origin, offset]) => [time, origin, offset])).toEqual([
      [3, 1, 1],
      [5, 1, 0],
      [5, 1, 2],
      [5, 2, 0],
      [9, 1, 3],
    ])
    expect(await readKey(store, 'unknown')).toEqual([])
  })

  test('are dropped past retention, counted from what lies before the slice', async () => {
    const store = await openStore(':memory:')
    for (let offset = 0; offset < 1000; offset++) await store.append([{ history, key: 'k', entries: [entry(offset, offset)] }])
    const kept = await readKey(store, 'k')
    expect(kept.length).toBeLessThan(250)
    expect(kept.slice(-100).map(([time]) => time)).toEqual(Array.from({ length: 100 }, (_, i) => 900 + i))
    // A slice that goes far ahead may be given again: what its first row needs stays.
    const far = Array.from({ length: 500 }, (_, i) => entry(1000 + i, 1000 + i))
    for (let again = 0; again < 4; again++) await store.append([{ history, key: 'k', entries: far }])
    expect((await readKey(store, 'k')).some(([time]) => time === 905)).toBe(true)
  })

  test('outlive a cache that is too small for them, and a restart', async () => {
    const path = join(folder, 'small.db')
    let store = await openStore(path, 20_000)
    const keys = Array.from({ length: 300 }, (_, i) => `key-${i}`)
    for (let round = 0; round < 20; round++)
      await store.append(keys.map((key, index) => ({ history, key, entries: [entry(round, round * 1000 + index)] })))
    const check = async (): Promise<void> => {
      const [found] = await store.read([{ history, keys }])
      found!.forEach((packed, index) =>
        expect(listed(packed).map(([, , offset]) => offset)).toEqual(Array.from({ length: 20 }, (_, round) => round * 1000 + index)),
      )
    }
    await check()
    await store.drain()
    await store.drain()
    await expect(store.read([{ history, keys }])).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    store = await openStore(path, 20_000)
    await check()
    await store.drain()
  })
})

test('Origins are numbers from 1, the same after a restart', async () => {
  const path = join(folder, 'origins.db')
  const first = await openStore(path)
  const numbers = await Promise.all([first.origin('a', 0), first.origin('a', 1), first.origin('b', 0)])
  expect(new Set(numbers).size).toBe(3)
  expect(Math.min(...numbers)).toBeGreaterThan(0)
  await first.drain()
  const second = await openStore(path)
  expect(await Promise.all([second.origin('a', 0), second.origin('a', 1), second.origin('b', 0)])).toEqual(numbers)
  await second.drain()
})

test('An exclusive store keeps others off its file', async () => {
  const path = join(folder, 'exclusive.db')
  const holder = new EmbeddedHistoryStore({ path, exclusive: true })
  await holder.start(new AbortController().signal)
  const other = new EmbeddedHistoryStore({ path, exclusive: true })
  await expect(other.start(new AbortController().signal)).rejects.toMatchObject({
    code: 'FAILED_PRECONDITION',
    message: expect.stringContaining('another process') as string,
  })
  await holder.drain()
  await other.start(new AbortController().signal)
  await other.drain()
})

test('A history with another count of values is refused', async () => {
  const store = await openStore()
  await store.append([{ history, key: 'k', entries: [entry(1, 1)] }])
  const path = join(folder, 'values.db')
  const first = await openStore(path)
  await first.append([{ history, key: 'k', entries: [entry(1, 1)] }])
  await first.drain()
  const second = await openStore(path)
  await expect(second.read([{ history: { ...history, valueCount: 1 }, keys: ['k'] }])).rejects.toMatchObject({
    code: 'FAILED_PRECONDITION',
  })
  await second.drain()
})

test('Given a process killed in the middle of its appends, when the store starts again, then all that were acknowledged are there', async () => {
  const path = join(folder, 'killed.db')
  const child = spawn(process.execPath, [join(import.meta.dirname, 'appender.ts'), path], { stdio: ['ignore', 'pipe', 'inherit'] })
  let acknowledged = -1
  for await (const line of createInterface({ input: child.stdout })) {
    acknowledged = Number(line)
    if (acknowledged === 2000) child.kill('SIGKILL')
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  expect(child.signalCode).toBe('SIGKILL')
  expect(acknowledged).toBeGreaterThanOrEqual(2000)
  const store = await openStore(path)
  const keys = Array.from({ length: 10 }, (_, i) => `k${i}`)
  const [found] = await store.read([{ history: { ...history, retentionMs: 1e9 }, keys }])
  const offsets = new Set(found!.flatMap((packed) => listed(packed).map(([, , offset]) => offset)))
  for (let offset = 0; offset <= acknowledged; offset++) expect(offsets.has(offset)).toBe(true)
  await store.drain()
})
