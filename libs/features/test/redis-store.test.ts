import fc from 'fast-check'
import { Redis, ReplyError } from 'ioredis'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { sharedRedis } from '../../../test/brokers/shared.ts'
import { redisError, whileRunning } from '../src/redis/errors.ts'
import { RedisHistoryStore, type RedisHistoryStoreOptions } from '../src/redis/history-store.ts'
import type { HistoryEntry, HistorySettings, Owner } from '../src/store.ts'
import { give, newPrefix, openRedisStore } from './redis-fixture.ts'
import { describeStore, entry, listed, readKey } from './store-conformance.ts'

const history: HistorySettings = { name: 'h', valueCount: 2, retentionMs: 1e9 }
const owner: Owner = { topic: 't', partition: 0 }

const redis = await sharedRedis()
if ('skipped' in redis) test.skip(`Redis store: ${redis.skipped}`, () => {})
else
  describe('Redis', () => {
    const { url } = redis
    const client = new Redis(url)
    const opened: RedisHistoryStore[] = []
    afterEach(async () => {
      await Promise.all(opened.splice(0).map(async (store) => store.drain()))
    })
    afterAll(async () => {
      client.disconnect()
      await redis.stop()
    })

    async function open(options: Partial<RedisHistoryStoreOptions> & { readonly prefix: string }): Promise<RedisHistoryStore> {
      const store = await openRedisStore({ url, ...options })
      opened.push(store)
      return store
    }

    /** The stored key of a history's key: the first history that a prefix knows is number 1. */
    const stored = (prefix: string, key: string): string => `${prefix}1:${key}`

    describeStore('The Redis store', () => {
      const prefix = newPrefix()
      return { open: async (options = {}) => open({ prefix, ...options }) }
    })

    test('Given keys of an owner, when slices come, then the first costs one read and one write, and those after it one write', async () => {
      const prefix = newPrefix()
      const store = await open({ prefix })
      const keys = Array.from({ length: 500 }, (_, index) => `k${index}`)
      const slice = (time: number): ReadonlyMap<string, readonly HistoryEntry[]> =>
        new Map(keys.map((key, at) => [key, [entry(time, 1000 * time + at)]]))
      await give(store, { history, entries: slice(0), owner: { topic: 't', partition: 9 } })
      const seen: string[] = []
      const monitor = await client.monitor()
      const watch = (_time: string, args: readonly string[], source: string): void => {
        if (source !== 'lua' && args.some((arg) => arg.includes(prefix))) seen.push(args[0]!.toLowerCase())
      }
      monitor.on('monitor', watch)
      for (let time = 1; time <= 3; time++) await give(store, { history, entries: slice(time), owner })
      // A key that nobody owns is read each time.
      for (let time = 4; time <= 5; time++) await give(store, { history, entries: slice(time) })
      await client.get(`${prefix}end`)
      await expect.poll(() => seen.at(-1)).toBe('get')
      monitor.disconnect()
      expect(seen).toEqual(['mget', 'evalsha', 'evalsha', 'evalsha', 'mget', 'evalsha', 'mget', 'evalsha', 'get'])
      expect(await readKey(store, 'k7', history)).toHaveLength(6)
    })

    test('Given a slice that is given again, then nothing is written to keys that hold it', async () => {
      const prefix = newPrefix()
      const store = await open({ prefix })
      const entries = new Map([['k', [entry(1, 1), entry(2, 2)]]])
      for (const owned of [{ owner }, {}]) {
        await give(store, { history, entries, ...owned })
        const length = await client.strlen(stored(prefix, 'k'))
        await give(store, { history, entries, ...owned })
        expect(await client.strlen(stored(prefix, 'k'))).toBe(length)
        await give(store, { history, entries: new Map([['k', [entry(2, 2), entry(3, owned === undefined ? 4 : 3)]]]), ...owned })
      }
      expect((await readKey(store, 'k', history)).map(([time]) => time)).toEqual([1, 2, 3])
    })

    test.each([
      { whose: 'an owner', owned: { owner } },
      { whose: 'nobody', owned: {} },
    ])('A key of $whose does not grow beyond twice what one block of it takes', async ({ owned }) => {
      const prefix = newPrefix()
      const store = await open({ prefix })
      let longest = 0
      for (let offset = 0; offset < 600; offset++) {
        await give(store, {
          history: { ...history, retentionMs: 200_000 },
          entries: new Map([['k', [entry(offset * 1000, offset)]]]),
          ...owned,
        })
        if (offset > 300) longest = Math.max(longest, await client.strlen(stored(prefix, 'k')))
      }
      // 200 to 300 entries at 7 to 10 bytes, and appended blocks of one entry at about 30.
      expect(longest).toBeLessThan(5000)
    })

    test('Given another process that writes to an owner’s key, when the owner writes, then it is told to read again, and reads what both wrote', async () => {
      const prefix = newPrefix()
      const [first, second] = [await open({ prefix }), await open({ prefix })]
      await give(first, { history, entries: new Map([['k', [entry(1, 1)]]]), owner })
      await give(second, { history, entries: new Map([['k', [entry(2, 2)]]]), owner })
      await first.read([{ history, keys: ['k'], owner }])
      await expect(first.append([{ history, key: 'k', entries: [entry(3, 3)], owner }])).rejects.toMatchObject({
        code: 'ABORTED',
        retryable: true,
      })
      const [found] = await first.read([{ history, keys: ['k'], owner }])
      expect(listed(found![0]!).map(([time]) => time)).toEqual([1, 2, 3])
      // Tried again, it holds all, and goes on.
      await first.append([{ history, key: 'k', entries: [entry(3, 3)], owner }])
      await give(first, { history, entries: new Map([['k', [entry(4, 4)]]]), owner })
      expect((await readKey(second, 'k', history)).map(([time]) => time)).toEqual([1, 2, 3, 4])
    })

    test('That somebody else has written shows also in a slice of more keys than memory may hold', async () => {
      const prefix = newPrefix()
      const [small, other] = [await open({ prefix, cacheBytes: 1 }), await open({ prefix })]
      const keys = Array.from({ length: 20 }, (_, i) => `k${i}`)
      await small.read([{ history, keys, owner }])
      await give(other, { history, entries: new Map([['k3', [entry(1, 1)]]]), owner })
      const writes = keys.map((key, i) => ({ history, key, entries: [entry(2, 2 + i)], owner }))
      await expect(small.append(writes)).rejects.toMatchObject({ code: 'ABORTED' })
    })

    test('What nobody owns does not push what is owned out of memory, however much of it is written', async () => {
      const prefix = newPrefix()
      const store = await open({ prefix, cacheBytes: 100_000 })
      await give(store, { history, entries: new Map([['k', [entry(1, 1)]]]), owner })
      for (let n = 0; n < 200; n++) await give(store, { history, entries: new Map([[`others ${n}`, [entry(n, n)]]]) })
      await client.del(stored(prefix, 'k'))
      const [found] = await store.read([{ history, keys: ['k'], owner }])
      expect(listed(found![0]!)).toHaveLength(1)
    })

    test('Given several processes that write to one key at once, then all their entries are there, through every replacement of the value', async () => {
      const prefix = newPrefix()
      const stores = [await open({ prefix }), await open({ prefix }), await open({ prefix })]
      await Promise.all(
        stores.map(async (store, at) => {
          for (let n = 0; n < 300; n++) {
            const entries = [entry(n * 1000 + at, n, at + 1)]
            await store.read([{ history, keys: ['k'] }])
            // Out of step with the others: what one has read the others may have written to.
            for (let turns = (n * (at + 2)) % 5; turns > 0; turns--) await client.ping()
            await store.append([{ history, key: 'k', entries }])
          }
        }),
      )
      expect(await readKey(stores[0]!, 'k', history)).toHaveLength(900)
    })

    test('A value is not replaced where it has been written anew meanwhile, though it is as long as before', async () => {
      const prefix = newPrefix()
      const store = await open({ prefix })
      const many = (from: number): HistoryEntry[] => Array.from({ length: 100 }, (_, i) => entry((from + i) * 977, from + i))
      await give(store, { history, entries: new Map([['k', many(0)]]), owner })
      const value = (await client.getBuffer(stored(prefix, 'k')))!
      value[0]! ^= 1
      await client.set(stored(prefix, 'k'), value)
      await expect(store.append([{ history, key: 'k', entries: many(100), owner }])).rejects.toMatchObject({ code: 'ABORTED' })
      const after = (await client.getBuffer(stored(prefix, 'k')))!
      expect(after.subarray(0, value.length).equals(value)).toBe(true)
      expect(await readKey(store, 'k', history)).toHaveLength(200)
    })

    test('Given a partition that goes while its keys are being read, then what was read is not remembered', async () => {
      const prefix = newPrefix()
      const [store, other] = [await open({ prefix }), await open({ prefix })]
      await store.read([{ history, keys: ['another'], owner }])
      const reading = store.read([{ history, keys: ['k'], owner }])
      store.release(owner)
      await reading
      await give(other, { history, entries: new Map([['k', [entry(1, 1)]]]), owner })
      const [found] = await store.read([{ history, keys: ['k'], owner }])
      expect(listed(found![0]!)).toHaveLength(1)
    })

    test('Any interleaving of two writers, owners or not, ends in the union of what they wrote', async () => {
      const operation = fc.record({
        writer: fc.nat(1),
        kind: fc.constantFrom('read', 'append', 'append', 'release'),
        owned: fc.boolean(),
        together: fc.boolean(),
        key: fc.constantFrom('a', 'b'),
        offsets: fc.uniqueArray(fc.nat(400), { minLength: 1, maxLength: 60 }),
      })
      await fc.assert(
        fc.asyncProperty(fc.array(operation, { minLength: 10, maxLength: 60 }), async (operations) => {
          const prefix = newPrefix()
          const stores = [await openRedisStore({ url, prefix }), await openRedisStore({ url, prefix })]
          const expected = { a: new Set<number>(), b: new Set<number>() }
          let pending: Promise<unknown>[] = []
          for (const { writer, kind, owned, together, key, offsets } of operations) {
            const store = stores[writer]!
            const by = owned ? { owner } : {}
            if (kind === 'release') store.release(owner)
            else if (kind === 'read') pending.push(store.read([{ history, keys: ['a', 'b'], ...by }]))
            else {
              for (const offset of offsets) expected[key as 'a' | 'b'].add(offset)
              const entries = offsets.map((offset) => entry(offset * 977, offset))
              // Told to read again it has written all the same.
              pending.push(
                store
                  .append([{ history, key, entries, ...by }])
                  .catch((error: unknown) => expect(error).toMatchObject({ code: 'ABORTED' })),
              )
            }
            if (!together) {
              await Promise.all(pending)
              pending = []
            }
          }
          await Promise.all(pending)
          for (const key of ['a', 'b'] as const) {
            const found = await readKey(stores[0]!, key, history)
            expect(found.map(([, , offset]) => offset)).toEqual([...expected[key]].sort((a, b) => a - b))
          }
          await Promise.all(stores.map(async (store) => store.drain()))
        }),
        { numRuns: 60 },
      )
    })

    test('A key expires when no window needs it, by the clock, counted from when it was last written', async () => {
      const prefix = newPrefix()
      const store = await open({ prefix, expiryGraceMs: 100_000 })
      const short = { ...history, retentionMs: 50_000 }
      await give(store, { history: short, entries: new Map([['k', [entry(1, 1)]]]), owner })
      const left = async (): Promise<number> => client.pttl(stored(prefix, 'k'))
      expect(await left()).toBeGreaterThan(140_000)
      expect(await left()).toBeLessThanOrEqual(150_000)
      // It is far from its end: left as it is.
      await client.pexpire(stored(prefix, 'k'), 120_000)
      await give(store, { history: short, entries: new Map([['k', [entry(2, 2)]]]), owner })
      expect(await left()).toBeLessThanOrEqual(120_000)
      // Read anew its end is not known, and is set.
      store.release(owner)
      await give(store, { history: short, entries: new Map([['k', [entry(3, 3)]]]), owner })
      expect(await left()).toBeGreaterThan(140_000)
      // A value that is replaced keeps an end.
      await give(store, { history: short, entries: new Map([['k', Array.from({ length: 200 }, (_, i) => entry(10 + i, 10 + i))]]), owner })
      expect(await left()).toBeGreaterThan(140_000)
      // Gone though it is held in memory: the owner finds out when it writes.
      await client.del(stored(prefix, 'k'))
      await give(store, { history: short, entries: new Map([['k', [entry(500, 500)]]]), owner })
      expect(await readKey(store, 'k', short)).toHaveLength(1)
    })

    test('Watermarks of all lanes are told to everybody who feeds the same histories', async () => {
      const prefix = newPrefix()
      const [first, second] = [(await open({ prefix })).watermarks(['h', 'i']), (await open({ prefix })).watermarks(['i', 'h'])]
      const one = { lane: 'a/0', watermarkMs: 1_600_000_000_123.5, idle: false, beat: 1 }
      const other = { lane: 'b/7', watermarkMs: -Infinity, idle: true, beat: 12 }
      expect(await first.exchange([one])).toEqual([one])
      expect(new Set(await second.exchange([other]))).toEqual(new Set([one, other]))
      expect(new Set(await first.exchange([]))).toEqual(new Set([one, other]))
      // What is history in others is not in one that a changed definition has just begun.
      expect(await (await open({ prefix })).watermarks(['h', 'j']).exchange([])).toEqual([])
    })

    test('What cannot be a history is named, and fails its key alone', async () => {
      const prefix = newPrefix()
      const store = await open({ prefix })
      await give(store, { history, entries: new Map([['good', [entry(1, 1)]]]) })
      for (const value of ['not a history at all', 'short']) {
        await client.set(stored(prefix, 'broken'), value)
        await expect(store.read([{ history, keys: ['broken'] }])).rejects.toMatchObject({
          code: 'DATA_LOSS',
          message: expect.stringContaining('history h of broken') as string,
        })
      }
      await client.lpush(stored(prefix, 'list'), 'x')
      await expect(store.append([{ history, key: 'list', entries: [entry(1, 1)] }])).rejects.toMatchObject({
        code: 'FAILED_PRECONDITION',
        message: expect.stringContaining('something else writes keys with this prefix') as string,
      })
      expect(await readKey(store, 'good', history)).toHaveLength(1)
    })

    test('A server that no longer has the keys, as a node of a cluster may, makes slices wait: no row is given up for it', () => {
      for (const refusal of ['MOVED 3999 127.0.0.1:6381', 'CROSSSLOT Keys in request', 'NOPERM this user', 'NOAUTH Authentication'])
        expect(whileRunning(redisError(new ReplyError(refusal), 'localhost:6379'))).toMatchObject({ code: 'UNAVAILABLE', retryable: true })
      expect(whileRunning(redisError(new ReplyError('WRONGTYPE Operation'), 'localhost:6379')).retryable).toBe(false)
    })

    test('An address that is none is refused', () => {
      for (const wrong of ['localhost:6379', 'http://localhost', 'redis://'])
        expect(() => new RedisHistoryStore({ url: wrong, prefix: 'p:' })).toThrow(
          expect.objectContaining({ code: 'INVALID_ARGUMENT', field: 'url' }),
        )
    })
  })
