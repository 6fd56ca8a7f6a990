import { join } from 'node:path'
import { KafkaBus } from '@spillway/bus'
import { drainRound, fill } from './drain.ts'
import { partitions, sliceRecords } from './fraud.ts'
import { eventsPerSecond } from './latency.ts'
import { figuresOf } from './own-process.ts'
import { alternate, type Contender, type Figures, figures, writeResult } from './rounds.ts'

const deliveries = ['exactly once', 'at least once'] as const
type Delivery = (typeof deliveries)[number]

/** What the process that runs a contender is started with. */
const nodeArgs: Readonly<Record<Delivery, readonly string[]>> = {
  'exactly once': [],
  'at least once': ['--import', join(import.meta.dirname, 'at-least-once.ts')],
}

const leastShare = 0.7
const mostAddedMs = 15

/** The pipeline as it is against the same one without transactions, which repeats what it did not commit after a crash. */
export async function benchDeliveryCost(
  brokers: readonly string[],
  options: { readonly rounds: number; readonly transactions: number },
): Promise<void> {
  const throughput = await drained(brokers, options)
  const p50s: Record<Delivery, number[]> = { 'exactly once': [], 'at least once': [] }
  const p99s = await alternate(
    options.rounds,
    contenders(', p99', async (delivery) => {
      const printed = await figuresOf(join(import.meta.dirname, 'delivery-round.ts'), brokers, nodeArgs[delivery])
      const [p50, p99] = printed.slice(-2)
      p50s[delivery].push(p50!)
      return p99!
    }),
  )
  const share = paired('exactly once / at least once', throughput.figures, '', (exactly, atLeast) => exactly / atLeast)
  const added = paired('added p99', p99s, 'ms', (exactly, atLeast) => exactly - atLeast)
  writeResult({
    benchmark: 'delivery-cost',
    unit: 'events/s',
    setup: `The fraud pipeline, all services in one process, links local, models local, ${partitions} partitions, slices of up to ${sliceRecords}, one in work a partition, partitions side by side. Exactly once: outputs and position in one Kafka transaction a slice. At least once: the same but for the writer: outputs by an idempotent producer, acknowledged by all in-sync replicas, then the position, at most once a second and off the outputs' way. Throughput: ${throughput.transactions} transactions and ${throughput.labels} labels waiting. Latency: ${eventsPerSecond} transactions a second, from publish to receipt by a read-committed subscriber. Each round in a process of its own; the share and the added p99 are medians of the rounds' own.`,
    figures: [
      ...throughput.figures,
      share,
      ...p99s.map((each) => ({ ...each, unit: 'ms' })),
      added,
      ...deliveries.map((delivery) => ({ ...figures(`${delivery}, p50`, p50s[delivery]), unit: 'ms' })),
    ],
    target: `≥ ${leastShare * 100} % of the throughput at least once; added p99 at ${eventsPerSecond}/s ≤ ${mostAddedMs} ms`,
    reached: `${(share.median * 100).toFixed(0)} % of the throughput; added p99 ${added.median.toFixed(1)} ms`,
    met: share.median >= leastShare && added.median <= mostAddedMs,
  })
}

async function drained(
  brokers: readonly string[],
  { rounds, transactions }: { readonly rounds: number; readonly transactions: number },
): Promise<{ readonly figures: readonly Figures[]; readonly transactions: number; readonly labels: number }> {
  const run = `delivery-${Date.now()}`
  const topics = { transactions: `${run}-transactions`, labels: `${run}-labels` }
  const bus = new KafkaBus({ brokers })
  const counts = await fill(bus, topics, transactions)
  await bus.drain()
  const drain = (delivery: Delivery): Promise<number> =>
    drainRound(
      { contender: 'pipeline', bus: { kind: 'kafka', brokers }, run: `${run}-${Date.now()}`, topics, ...counts },
      nodeArgs[delivery],
    )
  // Not counted: a broker's first transactions are its slowest.
  for (const delivery of deliveries) await drain(delivery)
  const measured = await alternate(rounds, contenders('', drain))
  return { figures: measured, ...counts }
}

function contenders(what: string, run: (delivery: Delivery) => Promise<number>): readonly Contender[] {
  return deliveries.map((delivery) => ({ name: `${delivery}${what}`, run: () => run(delivery) }))
}

/** Round by round, so that what moves the machine between rounds moves neither. */
function paired(
  name: string,
  [exactly, atLeast]: readonly Figures[],
  unit: string,
  compare: (exactly: number, atLeast: number) => number,
): Figures {
  return {
    ...figures(
      name,
      exactly!.rounds.map((figure, round) => compare(figure, atLeast!.rounds[round]!)),
    ),
    unit,
  }
}
