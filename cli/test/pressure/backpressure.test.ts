import { setTimeout as wait } from 'node:timers/promises'
import { bytesAt } from '@spillway/core'
import { expect, test } from 'vitest'
import type { Host } from '../../src/host.ts'
import { serviceNames } from '../../src/options.ts'
import { HeavyServer } from './heavy-server.ts'
import { endsWithTest, eventOf, modelFolder, type Prediction, publish, startHost, sure, twoTiers, unsure } from './two-tiers.ts'

const perSecond = 1000
const seconds = 6
const count = perSecond * seconds
/** One in so many goes to the heavy tier. */
const escalatedEach = 4
const mib = 2 ** 20

/** What came out, by event number: its tier, and how long after it was published. */
function collect(host: Host, sentMs: Float64Array): { readonly answers: Map<number, { tier: string; tookMs: number }> } {
  const answers = new Map<number, { tier: string; tookMs: number }>()
  const stop = new AbortController()
  endsWithTest({ drain: async () => stop.abort() })
  void (async () => {
    for await (const { records } of host.bus.subscribe({
      topic: 'predictions',
      from: 'earliest',
      maxSliceRecords: 1000,
      signal: stop.signal,
    }))
      for (let row = 0; row < records.count; row++) {
        const { n, tier } = JSON.parse(Buffer.from(bytesAt(records.values, row)).toString()) as Prediction
        expect(answers.has(n)).toBe(false)
        answers.set(n, { tier, tookMs: performance.now() - sentMs[n]! })
      }
  })()
  return { answers }
}

async function playSteadily(host: Host, sentMs: Float64Array, everySecond: () => void): Promise<void> {
  const startMs = performance.now()
  for (let sent = 0; sent < count;) {
    const due = Math.min(count, Math.floor(((performance.now() - startMs) / 1000) * perSecond) + 1)
    if (due > sent) {
      const events = Array.from({ length: due - sent }, (_, i) => {
        const n = sent + i
        return eventOf(n, `user-${n % 50}`, n % escalatedEach === 0 ? unsure : sure)
      })
      sentMs.fill(performance.now(), sent, due)
      await publish(host.bus, events)
      if (Math.floor(due / perSecond) > Math.floor(sent / perSecond)) everySecond()
      sent = due
    }
    await wait(5)
  }
}

function p99(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length * 0.99)]!
}

test('while the heavy model answers nothing, accepted rows keep their latency over a topic, little is held, and all is made up for afterwards', async () => {
  const heavy = new HeavyServer()
  const pipeline = twoTiers(await modelFolder(), await heavy.start(), 'placement: { escalations: topic }')
  endsWithTest({ drain: () => heavy.stop() })
  const host = await startHost(pipeline, serviceNames)
  const sentMs = new Float64Array(count)
  const { answers } = collect(host, sentMs)
  heavy.hold()
  const heldMiB: number[] = []
  await playSteadily(host, sentMs, () => heldMiB.push(process.memoryUsage().rss / mib))
  const accepted = count - count / escalatedEach
  await expect.poll(() => answers.size, { timeout: 20_000 }).toBe(accepted)
  const latencies = [...answers.values()].map(({ tookMs }) => tookMs)
  // A row that waited for the heavy model would have taken seconds.
  expect(p99(latencies)).toBeLessThan((seconds * 1000) / 2)
  expect(heldMiB.at(-1)! - heldMiB[1]!).toBeLessThan(150)
  // A slice of each partition waits at the model; the rest of the backlog stays on the topic.
  expect(heavy.mostInFlight).toBeLessThanOrEqual(pipeline.partitions)
  const metrics = await host.telemetry.registry.metrics()
  const age = Number(/spillway_queue_age_seconds\{queue="segment cascade-router.tier-2"\} (\S+)/.exec(metrics)?.[1])
  const depth = Number(/spillway_queue_depth\{queue="segment cascade-router.tier-2"\} (\S+)/.exec(metrics)?.[1])
  expect(age).toBeGreaterThan(1)
  expect(depth).toBeGreaterThan(0)
  expect(depth).toBeLessThanOrEqual(pipeline.partitions)
  heavy.delayMs = 50
  heavy.release()
  await expect.poll(() => answers.size, { timeout: 60_000 }).toBe(count)
  expect([...answers].filter(([n, { tier }]) => (n % escalatedEach === 0 ? 'heavy' : 'cheap') !== tier)).toEqual([])
  await expect
    .poll(
      async () => /spillway_queue_depth\{queue="segment cascade-router.tier-2"\} (\S+)/.exec(await host.telemetry.registry.metrics())?.[1],
    )
    .toBe('0')
})
