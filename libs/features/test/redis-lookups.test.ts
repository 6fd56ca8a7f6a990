import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { startRedis } from '../../../test/brokers/mod.ts'
import { batchOf, type Payment, vectors } from './fixture.ts'
import { lookupPlan, refusal, startLookups, type StartedLookups } from './lookups-fixture.ts'

const now = Date.parse('2024-05-01T00:00:00Z')
const dayMs = 86_400_000
const redis = await startRedis({ withFaults: true })
if ('skipped' in redis) test.skip(`Redis look-ups: ${redis.skipped}`, () => {})
else
  describe('Redis hashes', () => {
    const { url } = redis
    const faults = redis.faults!
    const writer = new Redis(url, { retryStrategy: () => 20 })
    writer.on('error', () => {}) // While it is away the client reports each attempt.
    const started: StartedLookups[] = []
    afterEach(async () => {
      for (const { drain } of started.splice(0)) await drain()
    })
    afterAll(async () => {
      writer.disconnect()
      await redis.stop()
    })

    async function start(
      settings: Readonly<Record<string, unknown>>,
      columns: Readonly<Record<string, unknown>>,
      options: { readonly redisUrl?: string } = { redisUrl: url },
    ): Promise<StartedLookups> {
      const lookups = { profiles: { key: 'customer', values: { limit: 'number', segment: 'string' }, ...settings } }
      const made = await startLookups(lookupPlan(lookups, columns), { folder: '/', ...options })
      started.push(made)
      return made
    }

    const customers = (...names: readonly string[]): readonly Payment[] => names.map((customer) => ({ customer, timeMs: now }))
    const columns = {
      limit: { lookup: 'profiles', of: 'limit', default: -1 },
      segment: { lookup: 'profiles', of: 'segment', steps: [{ oneHot: ['gold', 'für alle'] }] },
    }

    test('give values by key, as they are at each slice; one without the field, or without a hash, is the default', async () => {
      const prefix = randomUUID()
      const { engine } = await start({ redis: `${prefix}:{key}:now` }, columns)
      await writer.hset(`${prefix}:a:now`, { limit: '0.5', segment: 'gold', more: 'x' })
      await writer.hset(`${prefix}:b:now`, { segment: 'für alle' })
      const events = customers('a', 'b', 'a', 'c', '')
      const expected = [
        [0.5, 1, 0],
        [-1, 0, 1],
        [0.5, 1, 0],
        [-1, 0, 0],
        [-1, 0, 0],
      ]
      expect(await vectors(engine, 'payments', events, { firstOffset: 0 })).toEqual(expected)
      expect(await vectors(engine, 'payments', events, 'request')).toEqual(expected)
      await writer.hset(`${prefix}:c:now`, { limit: '1e3' })
      expect(await vectors(engine, 'payments', customers('c'), 'request')).toEqual([[1000, 0, 0]])
    })

    test('go by several fields together, and say how old they are', async () => {
      const prefix = randomUUID()
      const settings = { redis: `${prefix}:{shop}/{customer}`, key: ['customer', 'shop'], time: 'updated_at', maxAge: '1d' }
      const { engine } = await start(settings, { limit: columns.limit })
      await writer.hset(`${prefix}:1/a`, { limit: 5, updated_at: new Date(now - dayMs).toISOString() })
      await writer.hset(`${prefix}:2/a`, { limit: 6, updated_at: now - dayMs - 1 })
      // Of unknown age.
      await writer.hset(`${prefix}:3/a`, { limit: 7 })
      const events = [1, 2, 3, 4].map((shop) => ({ customer: 'a', shop, timeMs: now }))
      expect(await vectors(engine, 'payments', events, 'request')).toEqual([[5], [-1], [-1], [-1]])
    })

    test('take one round trip a slice', async () => {
      const prefix = randomUUID()
      const { engine } = await start({ redis: `${prefix}:{key}`, url }, { limit: columns.limit }, {})
      await writer.hset(`${prefix}:k77`, { limit: 77 })
      const events = customers(...Array.from({ length: 1000 }, (_, index) => `k${index % 500}`))
      await engine.compute(batchOf('payments', events), 'payments', 'request')
      await writer.config('RESETSTAT')
      const { batch } = await engine.compute(batchOf('payments', events), 'payments', 'request')
      expect((batch.columns.get('features')!.data as Float32Array)[577]).toBe(77)
      expect(await writer.info('commandstats')).toMatch(/cmdstat_hmget:calls=500,/)
      const reads = Number(/total_reads_processed:(\d+)/.exec(await writer.info('stats'))![1])
      // One write of 16 KB or so; the server reads up to 16 KB at a time. The rest are this test's own commands.
      expect(reads).toBeLessThan(10)
    })

    test('that are not what the lookup declares fail the rows that asked for them, and say where they are', async () => {
      const prefix = randomUUID()
      const { engine } = await start({ redis: `${prefix}:{key}` }, { limit: columns.limit })
      await writer.hset(`${prefix}:a`, { limit: 'high' })
      await writer.set(`${prefix}:b`, 'text')
      await writer.hset(`${prefix}:c`, { limit: 3 })
      const { batch, failures } = await engine.compute(batchOf('payments', customers('a', 'b', 'c')), 'payments', 'request')
      expect(batch.rowCount).toBe(1)
      expect(failures.map(({ row, error }) => [row, error.code, error.field, error.message.replace(/at \S+/, 'at …')])).toEqual([
        [
          0,
          'FAILED_PRECONDITION',
          'features.lookups.profiles',
          `${prefix}:a in Redis at … limit is "high": a number within ±3.4028234663852886e+38 (FP32) is expected`,
        ],
        [1, 'FAILED_PRECONDITION', 'features.lookups.profiles', `${prefix}:b in Redis at … is no hash`],
      ])
    })

    test('are not guessed while the server is away or hangs: UNAVAILABLE, and answers when it is back', async () => {
      const prefix = randomUUID()
      await writer.hset(`${prefix}:a`, { limit: 3 })
      const { engine } = await start({ redis: `${prefix}:{key}` }, { limit: columns.limit })
      const seen = async (): Promise<unknown> => (await vectors(engine, 'payments', customers('a'), 'request'))[0]
      expect(await seen()).toEqual([3])
      await faults.kill()
      expect(await refusal(seen())).toMatchObject({ code: 'UNAVAILABLE', retryable: true })
      await faults.restart()
      await expect.poll(async () => seen().catch(() => 'away')).toEqual([3])
      faults.pause()
      const startedMs = performance.now()
      expect(await refusal(seen())).toMatchObject({
        code: 'UNAVAILABLE',
        message: expect.stringContaining('no answer within 2000 ms') as string,
      })
      expect(performance.now() - startedMs).toBeLessThan(5000)
      faults.resume()
      await expect.poll(async () => seen().catch(() => 'away')).toEqual([3])
    })

    test('need a server', async () => {
      const settings = { redis: 'x:{key}' }
      expect(await refusal(start(settings, { limit: columns.limit }, {}))).toMatchObject({
        code: 'INVALID_ARGUMENT',
        field: 'lookups.profiles.redis',
        message: expect.stringContaining('add "url: redis://host:port"') as string,
      })
    })
  })
