import { setImmediate as nextTurn, setTimeout as wait } from 'node:timers/promises'
import { type Batch, sliceBatch } from '@spillway/core'
import { FeatureEngine, type FeaturePlan, RedisHistoryStore } from '@spillway/features'
import { loadPipeline } from '@spillway/mesh'
import { Redis } from 'ioredis'
import { fileURLToPath } from 'node:url'
import { type FeatureSlice, SliceFeed } from './feature-slices.ts'
import { alternate, percentile, writeResult } from './rounds.ts'

const prefix = 'bench:{features}:'
const historyDays = 37
const daysARound = 3
/** Time, offset, origin and one value, unpacked. */
const rawEntryBytes = 8 + 8 + 4 + 8

async function fraudPlan(): Promise<FeaturePlan> {
  return (await loadPipeline(fileURLToPath(new URL('../../examples/fraud/pipeline.yaml', import.meta.url)))).features
}

interface Filled {
  readonly engine: FeatureEngine
  readonly store: RedisHistoryStore
  readonly feed: SliceFeed
  readonly redis: Redis
  readonly plan: FeaturePlan
}

/** A store with 37 days of history. */
async function filled(url: string): Promise<Filled> {
  const redis = new Redis(url)
  const store = new RedisHistoryStore({ url, prefix })
  await store.start(AbortSignal.timeout(30_000))
  const plan = await fraudPlan()
  const engine = new FeatureEngine({ plan, store })
  const feed = new SliceFeed()
  for (const { batch, input } of feed.untilDay(historyDays)) await engine.compute(batch, input, 'stream')
  return { engine, store, feed, redis, plan }
}

async function forget({ redis, store }: Filled): Promise<void> {
  await store.drain()
  const keys = await keysOf(redis)
  for (let start = 0; start < keys.length; start += 1000) await redis.unlink(keys.slice(start, start + 1000))
  redis.disconnect()
}

async function keysOf(redis: Redis): Promise<string[]> {
  const keys: string[] = []
  for await (const found of redis.scanStream({ match: `${prefix}*`, count: 1000 }) as AsyncIterable<string[]>) keys.push(...found)
  return keys
}

/** Slices of 1,000 against the bare commands on as many keys: what the server and its client leave room for. */
export async function benchFeaturesRedis(url: string, rounds: number): Promise<void> {
  const run = await filled(url)
  const { engine, feed, redis } = run
  let day = historyDays
  let slices: FeatureSlice[] = []
  let roundTrips = 0
  let sliceCount = 0
  const measured = await alternate(rounds, [
    {
      name: 'features',
      run: async () => {
        day += daysARound
        slices = feed.untilDay(day)
        const calls = await topLevelCalls(redis)
        const seconds = await timed(async () => {
          for (const { batch, input } of slices) await engine.compute(batch, input, 'stream')
        })
        roundTrips += (await topLevelCalls(redis)) - calls
        sliceCount += slices.length
        return rowCount(slices) / seconds
      },
    },
    { name: 'bare MGET and APPEND', run: () => bareRound(redis, slices) },
  ])
  const stored = await storedBytes(run)
  const rate = measured[0]!.median
  const trips = roundTrips / sliceCount
  const ratio = stored.memory / (stored.entries * rawEntryBytes)
  writeResult({
    benchmark: 'features-redis',
    unit: 'events/s',
    setup: `15 fraud features, 5,000 customers and 10,000 terminals, 37 days of history, slices of 1,000 of 8 partitions one after the other, ${daysARound} days of transactions and labels a round, server and engine side by side. Bare: one MGET of a slice's keys and one pipeline of as many APPENDs of 16 bytes, nothing decoded.`,
    figures: measured,
    target: '≥ 25,000 events/s, ≤ 2 round trips a slice, ≤ 2 × history size stored',
    reached: `${Math.round(rate).toLocaleString('en')} events/s, ${trips.toFixed(2)} round trips a slice, ${ratio.toFixed(2)} × history size stored`,
    met: rate >= 25_000 && trips <= 2 && ratio <= 2,
    notes: [
      `history size: ${stored.entries} entries of ${rawEntryBytes} bytes (time, offset, origin, value); the server's own MEMORY USAGE of ${stored.keys} keys is ${Math.round(stored.memory / stored.keys)} bytes a key, the values are ${Math.round(stored.bytes / stored.keys)}`,
    ],
  })
  await forget(run)
}

/** Commands that came over a connection: a script counts once, what it calls does not. */
async function topLevelCalls(redis: Redis): Promise<number> {
  const stats = await redis.info('commandstats')
  const calls = (name: string): number => Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(stats)?.[1] ?? 0)
  return calls('mget') + calls('evalsha') + calls('eval')
}

function rowCount(slices: readonly FeatureSlice[]): number {
  return slices.reduce((sum, { batch }) => sum + batch.rowCount, 0)
}

async function timed(work: () => Promise<void>): Promise<number> {
  const startMs = performance.now()
  await work()
  return (performance.now() - startMs) / 1000
}

async function bareRound(redis: Redis, slices: readonly FeatureSlice[]): Promise<number> {
  const stored = (await keysOf(redis)).filter((key) => /\d+:\d+$/.test(key))
  const entry = Buffer.alloc(16)
  let at = 0
  const seconds = await timed(async () => {
    for (const { input, batch } of slices) {
      const keys = new Set(Array.from({ length: batch.rowCount }, () => stored[(at += 7919) % stored.length]!))
      // A label's slice reads nothing: its terminals are the writer's own.
      if (input === 'transactions') await redis.mgetBuffer([...keys])
      const writes = redis.pipeline()
      for (const key of keys) writes.append(`bare:${key}`, entry)
      await writes.exec()
    }
  })
  const bare: string[] = stored.map((key) => `bare:${key}`)
  for (let start = 0; start < bare.length; start += 1000) await redis.unlink(bare.slice(start, start + 1000))
  return rowCount(slices) / seconds
}

/** What the server holds, by its own reckoning, and how many entries that is. */
async function storedBytes({ redis, store, plan }: Filled): Promise<{
  readonly keys: number
  readonly memory: number
  readonly bytes: number
  readonly entries: number
}> {
  const everyKey = Array.from({ length: 10_000 }, (_, key) => String(key))
  const histories = await store.read(plan.histories.map((history) => ({ history, keys: everyKey })))
  const entries = histories.flat().reduce((sum, { count }) => sum + count, 0)
  const keys = (await keysOf(redis)).filter((key) => /\d+:\d+$/.test(key))
  let [memory, bytes] = [0, 0]
  for (let start = 0; start < keys.length; start += 1000) {
    const asked = redis.pipeline()
    for (const key of keys.slice(start, start + 1000)) asked.memory('USAGE', key).strlen(key)
    for (const [index, [error, answer]] of (await asked.exec())!.entries()) {
      if (error !== null) throw error
      if (index % 2 === 0) memory += Number(answer)
      else bytes += Number(answer)
    }
  }
  return { keys: keys.length, memory, bytes, entries }
}

/** One event's features, read as of its time, at a steady rate: open loop. */
export async function benchFeaturesRead(url: string, rounds: number): Promise<void> {
  const run = await filled(url)
  const perSecond = 500
  const seconds = 10
  const transactions = run.feed.untilDay(historyDays + 1).filter(({ input }) => input === 'transactions')
  const events = transactions.flatMap(({ batch }) => Array.from({ length: batch.rowCount }, (_, row) => sliceBatch(batch, row, row + 1)))
  const read = await alternate(rounds, [
    {
      name: 'features, p99',
      run: () => openLoop(perSecond, seconds, events, (event) => run.engine.compute(event, 'transactions', 'request')),
    },
    { name: 'GET of one key, p99', run: () => openLoop(perSecond, seconds, events, () => run.redis.getBuffer(`${prefix}id`)) },
  ])
  writeResult({
    benchmark: 'features-read',
    unit: 'ms',
    setup: `15 features of one transaction as of its time, 37 days of history, ${perSecond}/s for ${seconds} s a round whatever the answers take, server and reader side by side. GET: the bare client at the same rate.`,
    figures: read,
    target: 'p99 ≤ 3 ms at 500/s',
    reached: `p99 ${read[0]!.median.toFixed(2)} ms`,
    met: read[0]!.median <= 3,
  })
  await forget(run)
}

/** @returns p99 in ms, from when each call was due */
async function openLoop(
  perSecond: number,
  seconds: number,
  events: readonly Batch[],
  call: (event: Batch) => Promise<unknown>,
): Promise<number> {
  const total = perSecond * seconds
  const latencies: number[] = []
  const calls: Promise<void>[] = []
  const measure = async (event: Batch, dueMs: number): Promise<void> => {
    await call(event)
    latencies.push(performance.now() - dueMs)
  }
  const startMs = performance.now()
  for (let sent = 0; sent < total; sent++) {
    const dueMs = startMs + (sent / perSecond) * 1000
    // A timer is a millisecond late and more: the last stretch is gone turn by turn of the event loop.
    while (performance.now() < dueMs) await (dueMs - performance.now() > 2.5 ? wait(1) : nextTurn())
    calls.push(measure(events[sent % events.length]!, dueMs))
  }
  await Promise.all(calls)
  return percentile(latencies, 0.99)
}
