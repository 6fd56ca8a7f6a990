import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import { startRedis } from '../../../test/brokers/redis.ts'
import { RedisHistoryStore } from '../src/redis/history-store.ts'
import type { HistorySettings, Owner } from '../src/store.ts'
import { give, newPrefix, openRedisStore } from './redis-fixture.ts'
import { entry, readKey } from './store-conformance.ts'

const history: HistorySettings = { name: 'h', valueCount: 2, retentionMs: 1e9 }
/** Where a server is to be missed soon; elsewhere a slow disk is no fault. */
const timeoutMs = 400

const redis = await startRedis({ withFaults: true })
if ('skipped' in redis) test.skip(`Redis under faults: ${redis.skipped}`, () => {})
else
  describe('Redis under faults', () => {
    const { url } = redis
    const faults = redis.faults!
    const client = new Redis(url)
    client.on('error', () => {}) // It is killed: the commands tell.
    let prefix = ''
    const opened: RedisHistoryStore[] = []
    beforeEach(() => {
      prefix = newPrefix()
    })
    afterEach(async () => {
      await Promise.all(opened.splice(0).map(async (store) => store.drain()))
    })
    afterAll(async () => {
      client.disconnect()
      await redis.stop()
    })

    async function open(options: { readonly timeoutMs?: number } = {}): Promise<RedisHistoryStore> {
      const store = await openRedisStore({ url, prefix, ...options })
      opened.push(store)
      return store
    }

    test('Given a server killed under load and started again, then nothing that was acknowledged is missing, and in between it is said to be away', async () => {
      const store = await open()
      const owners: readonly Owner[] = [0, 1, 2, 3].map((partition) => ({ topic: 't', partition }))
      const acknowledged = owners.map(() => 0)
      const stop = new AbortController()
      const load = Promise.all(
        owners.map(async (owner, at) => {
          for (let n = 0; !stop.signal.aborted; n++) {
            const entries = new Map([0, 1, 2].map((key) => [`k${at}-${key}`, [entry(n * 1000 + key, n * 3 + key, at + 1)]]))
            // Half of it goes to keys that nobody owns.
            await give(store, { history, entries, ...(n % 2 === 0 && { owner }) })
            acknowledged[at] = n + 1
          }
        }),
      )
      const progress = async (): Promise<void> => {
        const before = [...acknowledged]
        await expect.poll(() => acknowledged.every((count, at) => count > before[at]! + 20), { timeout: 20_000 }).toBe(true)
      }
      await progress()
      for (let round = 0; round < 2; round++) {
        await faults.kill()
        await expect
          .poll(async () => store.read([{ history, keys: ['k'] }]).catch((error: { code: string }) => error.code))
          .toBe('UNAVAILABLE')
        await faults.restart()
        await progress()
      }
      stop.abort()
      await load
      for (const [at, count] of acknowledged.entries())
        for (const key of [0, 1, 2]) expect(await readKey(store, `k${at}-${key}`, history)).toHaveLength(count)
    })

    test('Given a server that stands still, then it is said to be away in time, and what waits goes on when it moves again', async () => {
      const store = await open({ timeoutMs })
      const owner = { topic: 't', partition: 0 }
      await give(store, { history, entries: new Map([['k', [entry(1, 1)]]]), owner })
      faults.pause()
      for (let attempt = 0; attempt < 3; attempt++) {
        const startMs = performance.now()
        await expect(store.read([{ history, keys: ['k'] }])).rejects.toMatchObject({ code: 'UNAVAILABLE' })
        await expect(store.append([{ history, key: 'k', entries: [entry(2, 2)], owner }])).rejects.toMatchObject({ code: 'UNAVAILABLE' })
        expect(performance.now() - startMs).toBeLessThan(timeoutMs * 2 + 500)
      }
      const waiting = give(store, { history, entries: new Map([['k', [entry(3, 3)]]]), owner })
      faults.resume()
      await waiting
      // What was under way when it stood still may be done now.
      const times = (await readKey(store, 'k', history)).map(([time]) => time)
      expect(times.filter((time) => time !== 2)).toEqual([1, 3])
    })

    test('Given writes that fail, appends and whole values alike, when they are given again, then each entry is there', async () => {
      const [store, other] = [await open(), await open()]
      const owner = { topic: 't', partition: 0 }
      for (let n = 0; n < 60; n++) {
        const entries = [entry(n * 1000, n)]
        await store.read([{ history, keys: ['k'], owner }])
        await client.config('SET', 'maxmemory', '1')
        await expect(store.append([{ history, key: 'k', entries, owner }])).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED' })
        await client.config('SET', 'maxmemory', '0')
        await give(store, { history, entries: new Map([['k', entries]]), owner })
        expect(await readKey(other, 'k', history)).toHaveLength(n + 1)
      }
    })

    test('Given a server that has lost its data, then nothing is read or written any more, and a new start is another store', async () => {
      const store = await open()
      const owner = { topic: 't', partition: 0 }
      await give(store, { history, entries: new Map([['k', [entry(1, 1)]]]), owner })
      await client.flushall()
      const lost = { code: 'UNAVAILABLE', message: expect.stringContaining('has lost histories') as string }
      await expect(store.read([{ history, keys: ['k'] }])).rejects.toMatchObject(lost)
      await expect(store.append([{ history, key: 'k', entries: [entry(2, 2)], owner }])).rejects.toMatchObject(lost)
      await expect(store.origin('other', 1)).rejects.toMatchObject(lost)
      const next = await open()
      expect(next.identity).not.toBe(store.identity)
      // Another's data is not the lost one's.
      await expect(store.read([{ history, keys: ['k'] }])).rejects.toMatchObject(lost)
      expect(await readKey(next, 'k', history)).toEqual([])
    })

    test('Given a server that comes back without its last writes, then nothing is read from it or written to it', async () => {
      const store = await open()
      const owner = { topic: 't', partition: 0 }
      const write = async (n: number): Promise<void> => give(store, { history, entries: new Map([['k', [entry(n, n)]]]), owner })
      await write(1)
      const [value, writes] = await Promise.all([client.getBuffer(`${prefix}1:k`), client.get(`${prefix}writes`)])
      await write(2)
      // What a server holds that had not yet written the last second to its disk when its machine went.
      await client.set(`${prefix}1:k`, value!)
      await client.set(`${prefix}writes`, writes!)
      const lost = { code: 'UNAVAILABLE', message: expect.stringContaining('stands at write 1, and had acknowledged 2') as string }
      await expect(store.read([{ history, keys: ['k'] }])).rejects.toMatchObject(lost)
      await expect(store.read([{ history, keys: ['other'] }])).rejects.toMatchObject(lost)
    })

    test('A store waits for a server that is away when it starts, until it may not any longer', async () => {
      await faults.kill()
      const hopeless = new RedisHistoryStore({ url, prefix, timeoutMs })
      await expect(hopeless.start(AbortSignal.timeout(200))).rejects.toMatchObject({
        code: 'UNAVAILABLE',
        message: expect.stringContaining('ECONNREFUSED') as string,
      })
      expect(() => hopeless.identity).toThrow(expect.objectContaining({ code: 'UNAVAILABLE' }))
      await hopeless.drain()
      const starting = open()
      await faults.restart()
      expect((await starting).identity).not.toBe('')
    })

    test('A store waits for a server that answers and then stands still when it starts, until it may not any longer', async () => {
      await client.call('CLIENT', 'PAUSE', '60000', 'WRITE')
      const hopeless = new RedisHistoryStore({ url, prefix, timeoutMs })
      await expect(hopeless.start(AbortSignal.timeout(timeoutMs / 2))).rejects.toMatchObject({
        code: 'UNAVAILABLE',
        message: expect.stringContaining(`no answer within ${timeoutMs} ms`) as string,
      })
      await client.config('RESETSTAT')
      const starting = open({ timeoutMs })
      // Each attempt begins with an INFO, and the client sends one when it has connected: with the third one the first attempt has failed.
      let ownInfos = 0
      const infos = async (): Promise<number> => {
        const [, calls] = /cmdstat_info:calls=(\d+)/.exec(await client.info('commandstats')) ?? []
        return Number(calls ?? 0) - ownInfos++
      }
      await expect.poll(infos).toBeGreaterThanOrEqual(3)
      await client.call('CLIENT', 'UNPAUSE')
      expect((await starting).identity).not.toBe('')
    })

    test('A server that does not let us in, or on which histories are not safe, is refused at the start', async () => {
      const refused = async (address = url): Promise<unknown> =>
        openRedisStore({ url: address, prefix }).then(
          () => 'started',
          (error: { code: string; message: string }) => `${error.code}: ${error.message}`,
        )
      await client.config('SET', 'maxmemory', '100mb', 'maxmemory-policy', 'volatile-lru')
      expect(await refused()).toMatch(/^FAILED_PRECONDITION: .*maxmemory-policy volatile-lru.*noeviction/)
      await client.config('SET', 'maxmemory', '0', 'maxmemory-policy', 'noeviction')
      await client.acl('SETUSER', 'guest', 'on', '>secret', '~*', '+info', '+ping')
      expect(await refused(url.replace('//', '//guest:wrong@'))).toMatch(/^UNAUTHENTICATED: .*check the user and the password/)
      expect(await refused(url.replace('//', '//guest:secret@'))).toMatch(/^PERMISSION_DENIED: .*the user needs INFO/)
      expect(await refused(url.replace('127.0.0.1', 'no-such-host.invalid'))).toMatch(
        /^UNAVAILABLE: .*no-such-host.invalid.* does not exist/,
      )
      await client.acl('DELUSER', 'guest')
      const store = await open()
      await client.config('SET', 'requirepass', 'secret')
      expect(await refused()).toMatch(/^UNAUTHENTICATED: .*give the password/)
      await client.config('SET', 'requirepass', '')
      await client.config('SET', 'maxmemory', '1')
      await expect(store.append([{ history, key: 'k', entries: [entry(1, 1)] }])).rejects.toMatchObject({
        code: 'RESOURCE_EXHAUSTED',
        retryable: true,
      })
      await client.config('SET', 'maxmemory', '0')
      await store.append([{ history, key: 'k', entries: [entry(1, 1)] }])
    })
  })
