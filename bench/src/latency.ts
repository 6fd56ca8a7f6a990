import { KafkaBus, type Slice } from '@spillway/bus'
import { bytesAt } from '@spillway/core'
import { bareKafkaLoop } from './bare-kafka-loop.ts'
import { fraudEvents, fraudHost, fraudPipeline, partitions, rows, sliceRecords, topicRecords } from './fraud.ts'
import { atRate } from './load.ts'
import { alternate, figures, percentile, writeResult } from './rounds.ts'

export const eventsPerSecond = 1000
const events = 15_000
/** The first seconds are start-up: caches, connections, compilation. */
const warmUp = 5000

type System = 'bare' | 'local' | 'topics'

/** Topics that an event crosses on its way to a prediction. */
const hops: Readonly<Record<System, number>> = { bare: 1, local: 1, topics: 3 }

/** From giving the event to the broker to having its prediction back from the broker, at 1,000 events a second. */
export async function benchLatency(brokers: readonly string[], rounds: number): Promise<void> {
  const p50s: Record<System, number[]> = { bare: [], local: [], topics: [] }
  const contender = (system: System): { name: string; run: () => Promise<number> } => ({
    name: system,
    run: async () => {
      const latencies = await measure(system, brokers)
      p50s[system].push(percentile(latencies, 0.5))
      return percentile(latencies, 0.99)
    },
  })
  const p99s = await alternate(rounds, [contender('bare'), contender('local'), contender('topics')])
  const [bare, local, topics] = p99s.map(({ median }) => median) as [number, number, number]
  const limits = { local: bare * hops.local + 15, topics: bare * hops.topics + 15 }
  writeResult({
    benchmark: 'latency-kafka',
    unit: 'ms p99',
    setup: `${eventsPerSecond} transactions a second, ${partitions} partitions, slices of up to ${sliceRecords}, committed as soon as their outputs are ready; all services in one process; local: all links local; topics: all links topics (${hops.topics} hops for accepted rows). Bare: a kafkajs transactional loop. Clock: publish to receipt of the prediction by a read-committed subscriber.`,
    figures: [...p99s, ...(['bare', 'local', 'topics'] as const).map((system) => figures(`${system} p50`, p50s[system]))],
    target: `p99 ≤ bare p99 × hops + 15 ms: local ${limits.local.toFixed(0)} ms, topics ${limits.topics.toFixed(0)} ms`,
    reached: `local ${local.toFixed(0)} ms, topics ${topics.toFixed(0)} ms, bare ${bare.toFixed(0)} ms`,
    met: local <= limits.local && topics <= limits.topics,
  })
}

/** One run. @returns the latency of each event after the warm-up, ms */
export async function measure(system: System, brokers: readonly string[]): Promise<readonly number[]> {
  const run = `latency-${system}-${Date.now()}`
  const topics = { transactions: `${run}.transactions`, labels: `${run}.labels` }
  const client = new KafkaBus({ brokers, clientId: 'latency' })
  await client.start(AbortSignal.timeout(60_000))
  await client.topics.ensure([topics.transactions, topics.labels, `${run}.predictions`].map((name) => ({ name, partitions })))
  const stop = await startSystem(system, brokers, run, topics)
  const latencies = await play(client, topics.transactions, `${run}.predictions`)
  await stop()
  await client.drain()
  return latencies
}

async function startSystem(
  system: System,
  brokers: readonly string[],
  run: string,
  topics: { transactions: string; labels: string },
): Promise<() => Promise<void>> {
  if (system === 'bare') {
    const loop = await bareKafkaLoop({ brokers, topics, output: `${run}.predictions`, group: run, sliceRecords })
    return () => loop.stop()
  }
  const link = system === 'local' ? 'local' : 'topic'
  const host = fraudHost(await fraudPipeline(run, topics, { features: link, escalations: link, scored: link }), { kind: 'kafka', brokers })
  await host.start(AbortSignal.timeout(60_000))
  return () => host.drain()
}

async function play(client: KafkaBus, input: string, output: string): Promise<readonly number[]> {
  const played = fraudEvents(events)
  const records = topicRecords(played, 'transactions')
  const firstId = played[0]!.transaction.transactionId
  const sentMs = new Float64Array(events)
  const latencies: number[] = []
  const stop = new AbortController()
  const received = (async () => {
    let count = 0
    for await (const slice of client.subscribe({ topic: output, from: 'earliest', maxSliceRecords: 1000, signal: stop.signal })) {
      const nowMs = performance.now()
      for (const id of transactionIds(slice)) if (id - firstId >= warmUp) latencies.push(nowMs - sentMs[id - firstId]!)
      count += slice.records.count
      if (count >= events) return
    }
  })()
  const failures: unknown[] = []
  await atRate(eventsPerSecond, events, (from, to) => {
    sentMs.fill(performance.now(), from, to)
    client.publish(input, rows(records, from, to)).catch((error: unknown) => failures.push(error))
  })
  const timer = setTimeout(() => stop.abort(new Error('predictions are missing')), 60_000)
  await received
  clearTimeout(timer)
  if (failures.length > 0) throw failures[0]
  return latencies
}

function* transactionIds(slice: Slice): Generator<number> {
  for (let record = 0; record < slice.records.count; record++)
    yield (JSON.parse(Buffer.from(bytesAt(slice.records.values, record)).toString()) as { transaction_id: number }).transaction_id
}
