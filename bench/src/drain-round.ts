// One round of a drain, in a process of its own: prints events (transactions and labels) a second. Started by drain.ts.
import { EmbeddedBus, type Outputs, type Slice } from '@spillway/bus'
import { textColumn, textValues } from '@spillway/core'
import { setTimeout as wait } from 'node:timers/promises'
import { bareKafkaLoop } from './bare-kafka-loop.ts'
import { fraudHost, fraudPipeline, type FraudTopics, sliceRecords } from './fraud.ts'

interface Round {
  readonly contender: 'pipeline' | 'bare'
  readonly bus: { readonly kind: 'kafka'; readonly brokers: readonly string[] } | { readonly kind: 'embedded'; readonly path: string }
  readonly run: string
  readonly topics: FraudTopics
  readonly transactions: number
  readonly labels: number
}

const round = JSON.parse(process.argv[2]!) as Round
const events = round.transactions + round.labels
const limitMs = 120_000

/** Waits until `done` says so. @returns ms since the first sign of progress */
async function timed(progress: () => number, done: number): Promise<number> {
  const limit = performance.now() + limitMs
  while (progress() === 0) {
    if (performance.now() > limit) throw new Error('nothing was processed')
    await wait(1)
  }
  const startedMs = performance.now()
  const atStart = progress()
  while (progress() < done) {
    if (performance.now() > limit) throw new Error(`${progress()} of ${done} were processed in time`)
    await wait(5)
  }
  // What had been done when the clock started does not count.
  return ((performance.now() - startedMs) * done) / (done - atStart)
}

async function pipelineRound(): Promise<number> {
  const host = fraudHost(await fraudPipeline(round.run, round.topics), round.bus)
  const before = performance.now()
  await host.start(AbortSignal.timeout(60_000))
  const answered = (): number => {
    const { outputsOut, eventsIn } = host.metrics.status()
    const predictions = outputsOut.find(({ sink }) => sink === `${round.run}.predictions`)?.rows ?? 0
    return predictions + (eventsIn.find(({ topic }) => topic === round.topics.labels)?.rows ?? 0)
  }
  const elapsedMs = await timed(answered, events)
  const status = host.metrics.status()
  const batches = (await host.telemetry.registry.metrics())
    .split('\n')
    .filter((line) => line.startsWith('spillway_stage_duration_seconds_count'))
  console.error(batches.join('\n'))
  console.error(
    JSON.stringify({
      startMs: Math.round(performance.now() - before - elapsedMs),
      deadLetters: status.deadLetters,
      tiers: status.tiers,
      rssMiB: Math.round(process.memoryUsage().rss / 2 ** 20),
      cpu: process.cpuUsage(),
    }),
  )
  await host.drain()
  return events / (elapsedMs / 1000)
}

async function bareEmbeddedRound(path: string): Promise<number> {
  const bus = new EmbeddedBus({ path })
  await bus.start(AbortSignal.timeout(60_000))
  await bus.topics.ensure([{ name: `${round.run}.predictions`, partitions: 8 }])
  let done = 0
  const processor = bus.process(
    {
      topics: [round.topics.transactions, round.topics.labels],
      group: round.run,
      from: 'earliest',
      maxSliceRecords: sliceRecords,
      maxSliceBytes: 1_000_000,
      concurrency: 16,
    },
    async (slice: Slice): Promise<Outputs> => {
      const parsed = textValues(slice.records.values).map((text) => JSON.parse(text) as Record<string, unknown>)
      done += parsed.length
      if (slice.topic === round.topics.labels) return { writes: [] }
      const values = parsed.map((event) => JSON.stringify({ ...event, score: 0.5, decision: false }))
      return {
        writes: [
          {
            topic: `${round.run}.predictions`,
            partition: slice.partition,
            records: { count: values.length, keys: slice.records.keys!, values: textColumn(values) },
          },
        ],
      }
    },
  )
  await processor.start(AbortSignal.timeout(60_000))
  const elapsedMs = await timed(() => done, events)
  await processor.drain()
  await bus.drain()
  return events / (elapsedMs / 1000)
}

async function bareKafkaRound(brokers: readonly string[]): Promise<number> {
  const loop = await bareKafkaLoop({ brokers, topics: round.topics, output: `${round.run}.predictions`, group: round.run, sliceRecords })
  const elapsedMs = await timed(() => loop.processed(), events)
  await loop.stop()
  return events / (elapsedMs / 1000)
}

const { bus } = round
const perSecond =
  round.contender === 'pipeline'
    ? await pipelineRound()
    : bus.kind === 'kafka'
      ? await bareKafkaRound(bus.brokers)
      : await bareEmbeddedRound(bus.path)
console.log(perSecond)
process.exit(0)
