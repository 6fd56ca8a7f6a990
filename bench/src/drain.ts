import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Bus, EmbeddedBus, KafkaBus } from '@spillway/bus'
import { fraudEvents, type FraudTopics, partitions, publishAll, sliceRecords, topicRecords } from './fraud.ts'
import { figuresOf } from './own-process.ts'
import { alternate, type Contender, format, writeResult } from './rounds.ts'

type DrainBus = { readonly kind: 'kafka'; readonly brokers: readonly string[] } | { readonly kind: 'embedded'; readonly path: string }

export interface DrainOptions {
  readonly rounds: number
  readonly transactions: number
}

/** Drains the same backlog through the fraud pipeline and through a bare loop, each round in a process of its own. */
export async function benchDrainKafka(brokers: readonly string[], options: DrainOptions): Promise<void> {
  const topics = { transactions: `bench-${Date.now()}-transactions`, labels: `bench-${Date.now()}-labels` }
  const bus = new KafkaBus({ brokers })
  const counts = await fill(bus, topics, options.transactions)
  await bus.drain()
  const figures = await alternate(options.rounds, contenders({ kind: 'kafka', brokers }, topics, counts))
  const [pipeline, bare] = figures
  const ratio = pipeline!.median / bare!.median
  writeResult({
    benchmark: 'drain-kafka',
    unit: 'events/s',
    setup: `${counts.transactions} transactions and ${counts.labels} labels waiting on ${partitions} partitions; all services in one process, links local, models local; slices of ${sliceRecords}, one Kafka transaction a slice, exactly once. Bare: kafkajs alone reads, parses, encodes and writes the same slices in the same transactions.`,
    figures,
    target: '≥ 50 % of the bare loop',
    reached: `${(ratio * 100).toFixed(0)} % of the bare loop`,
    met: ratio >= 0.5,
  })
}

export async function benchDrainEmbedded(options: DrainOptions): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'spillway-drain-'))
  const path = join(folder, 'bus.db')
  const topics = { transactions: 'transactions', labels: 'labels' }
  const bus = new EmbeddedBus({ path })
  const counts = await fill(bus, topics, options.transactions)
  await bus.drain()
  try {
    const figures = await alternate(options.rounds, contenders({ kind: 'embedded', path }, topics, counts))
    const [pipeline, bare] = figures
    const ratio = pipeline!.median / bare!.median
    writeResult({
      benchmark: 'drain-embedded',
      unit: 'events/s',
      setup: `${counts.transactions} transactions and ${counts.labels} labels waiting on ${partitions} partitions of the embedded bus; all services in one process, links local, models local; slices of ${sliceRecords}, a SQL transaction for what is ready in one turn of the event loop. Bare: a parse–encode loop on the same bus.`,
      figures,
      target: '≥ 50 % of the bare loop and ≥ 30,000 events/s',
      reached: `${(ratio * 100).toFixed(0)} % of the bare loop, ${format(pipeline!.median)} events/s`,
      met: ratio >= 0.5 && pipeline!.median >= 30_000,
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

interface Counts {
  readonly transactions: number
  readonly labels: number
}

/** Publishes the backlog that each round drains. @returns how many events it holds */
export async function fill(bus: Bus, topics: FraudTopics, transactions: number): Promise<Counts> {
  await bus.start(AbortSignal.timeout(60_000))
  await bus.topics.ensure([topics.transactions, topics.labels].map((name) => ({ name, partitions })))
  const events = fraudEvents(transactions)
  const labels = topicRecords(events, 'labels')
  await publishAll(bus, topics.transactions, topicRecords(events, 'transactions'))
  await publishAll(bus, topics.labels, labels)
  return { transactions, labels: labels.count }
}

function contenders(bus: DrainBus, topics: FraudTopics, counts: Counts): readonly Contender[] {
  return (['pipeline', 'bare'] as const).map((contender) => ({
    name: contender,
    run: () => drainRound({ contender, bus, run: `${contender}-${Date.now()}`, topics, ...counts }),
  }))
}

/** Runs drain-round.ts in a process of its own. @returns events a second */
export async function drainRound(round: object, nodeArgs: readonly string[] = []): Promise<number> {
  return (await figuresOf(join(import.meta.dirname, 'drain-round.ts'), [JSON.stringify(round)], nodeArgs)).at(-1)!
}
