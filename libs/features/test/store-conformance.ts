import { describe, expect, test } from 'vitest'
import type { HistoryEntry, HistorySettings, HistoryStore, Owner, PackedHistory } from '../src/store.ts'

/** A place for one store's data. */
export interface StorePlace {
  /** A store on it, started; again on the same data when the one before is drained. */
  open(options?: { readonly cacheBytes?: number }): Promise<HistoryStore>
}

export const history: HistorySettings = { name: 'h', valueCount: 2, retentionMs: 100 }
const longer: HistorySettings = { name: 'longer', valueCount: 2, retentionMs: 1e9 }
const owner: Owner = { topic: 't', partition: 0 }

export function entry(timeMs: number, offset: number, origin = 1): HistoryEntry {
  return { timeMs, origin, offset, values: [timeMs * 10, offset] }
}

/** Time, origin, offset and values of each entry. */
export function listed({ count, times, origins, offsets, values }: PackedHistory): number[][] {
  return Array.from({ length: count }, (_, i) => [times[i]!, origins[i]!, offsets[i]!, values[2 * i]!, values[2 * i + 1]!])
}

export async function readKey(store: HistoryStore, key: string, of: HistorySettings = history): Promise<number[][]> {
  return listed((await store.read([{ history: of, keys: [key] }]))[0]![0]!)
}

/** What every store promises. @param place a new place at each call */
export function describeStore(title: string, place: () => StorePlace): void {
  describe(title, () => {
    describe('A key’s entries', () => {
      test('are sorted by time, origin and offset, whatever their order of arrival; adding one twice is adding it once', async () => {
        const store = await place().open()
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
        await store.drain()
      })

      test.each([
        { whose: 'an owner', owned: { owner } },
        { whose: 'nobody', owned: {} },
      ])('of $whose are dropped past retention, counted from what lies before the slice', async ({ owned }) => {
        const store = await place().open()
        const slice = async (entries: readonly HistoryEntry[]): Promise<void> => {
          await store.read([{ history, keys: ['k'], ...owned }])
          await store.append([{ history, key: 'k', entries, ...owned }])
        }
        for (let offset = 0; offset < 1000; offset++) await slice([entry(offset, offset)])
        const kept = await readKey(store, 'k')
        expect(kept.length).toBeLessThan(250)
        expect(kept.slice(-100).map(([time]) => time)).toEqual(Array.from({ length: 100 }, (_, i) => 900 + i))
        // A slice that goes far ahead may be given again: what its first row needs stays.
        const far = Array.from({ length: 500 }, (_, i) => entry(1000 + i, 1000 + i))
        for (let again = 0; again < 4; again++) await slice(far)
        expect((await readKey(store, 'k')).some(([time]) => time === 905)).toBe(true)
        await store.drain()
      })

      test('outlive a cache that is too small for them, and a restart', async () => {
        const here = place()
        let store = await here.open({ cacheBytes: 20_000 })
        const keys = Array.from({ length: 300 }, (_, i) => `key-${i}`)
        for (let round = 0; round < 20; round++) {
          await store.read([{ history, keys, owner }])
          await store.append(keys.map((key, index) => ({ history, key, entries: [entry(round, round * 1000 + index)], owner })))
        }
        const check = async (): Promise<void> => {
          const [found] = await store.read([{ history, keys, owner }])
          found!.forEach((packed, index) =>
            expect(listed(packed).map(([, , offset]) => offset)).toEqual(Array.from({ length: 20 }, (_, round) => round * 1000 + index)),
          )
        }
        await check()
        await store.drain()
        await store.drain()
        await expect(store.read([{ history, keys }])).rejects.toMatchObject({ code: 'UNAVAILABLE' })
        store = await here.open({ cacheBytes: 20_000 })
        await check()
        await store.drain()
      })

      test('of several keys and histories come in the order that was asked for', async () => {
        const store = await place().open()
        await store.append([
          { history, key: 'a', entries: [entry(1, 1)] },
          { history: longer, key: 'a', entries: [entry(2, 2)] },
          { history: longer, key: 'b', entries: [entry(3, 3)], owner },
        ])
        const found = await store.read([
          { history: longer, keys: ['b', 'none', 'a'], owner },
          { history, keys: ['b', 'a'] },
        ])
        expect(found.map((histories) => histories.map((packed) => listed(packed).map(([time]) => time)))).toEqual([
          [[3], [], [2]],
          [[], [1]],
        ])
        await store.drain()
      })
    })

    test('What an owner reads after the partition was away and came back holds what was written meanwhile', async () => {
      const store = await place().open()
      await store.read([{ history, keys: ['k'], owner }])
      await store.append([{ history, key: 'k', entries: [entry(1, 1)], owner }])
      store.release(owner)
      await store.append([{ history, key: 'k', entries: [entry(2, 2)] }])
      const [found] = await store.read([{ history, keys: ['k'], owner }])
      expect(listed(found![0]!).map(([time]) => time)).toEqual([1, 2])
      await store.drain()
    })

    test('Origins are numbers from 1, the same after a restart, as is the identity', async () => {
      const here = place()
      const first = await here.open()
      const { identity } = first
      expect(identity).not.toBe('')
      const asked = async (store: HistoryStore): Promise<number[]> =>
        Promise.all([store.origin('a', 0), store.origin('a', 1), store.origin('b', 0)])
      const numbers = await asked(first)
      expect(new Set(numbers).size).toBe(3)
      expect(Math.min(...numbers)).toBeGreaterThan(0)
      await first.drain()
      const second = await here.open()
      expect(await asked(second)).toEqual(numbers)
      expect(second.identity).toBe(identity)
      await second.drain()
      const elsewhere = await place().open()
      expect(elsewhere.identity).not.toBe(identity)
      await elsewhere.drain()
    })

    test('A history with another count of values is refused', async () => {
      const here = place()
      const first = await here.open()
      await first.append([{ history, key: 'k', entries: [entry(1, 1)] }])
      await first.drain()
      const second = await here.open()
      await expect(second.read([{ history: { ...history, valueCount: 1 }, keys: ['k'] }])).rejects.toMatchObject({
        code: 'FAILED_PRECONDITION',
      })
      await second.drain()
    })
  })
}
