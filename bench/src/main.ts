// `npm run bench [-- NAME…] [--rounds N] [--transactions N] [--minutes N] [--seconds N]`: each benchmark against its limit in the same run; results in bench/results.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startKafka, startRedis } from '@spillway/test/brokers'
import { benchDeliveryCost } from './delivery-cost.ts'
import { benchDrainEmbedded, benchDrainKafka } from './drain.ts'
import { benchFeaturesEmbedded } from './features-embedded.ts'
import { benchFeaturesRead, benchFeaturesRedis } from './features-redis.ts'
import { benchLatency } from './latency.ts'
import { benchOverload } from './overload.ts'
import { benchPredict } from './predict.ts'
import { benchServingBatching } from './serving-batching.ts'
import { benchServingHeartbeat } from './serving-heartbeat.ts'
import { benchServingOpenLoop } from './serving-open-loop.ts'
import { benchServingOverload } from './serving-overload.ts'
import { benchServingPromote } from './serving-promote.ts'
import { benchServingRows } from './serving-rows.ts'
import type { ServingBenchOptions } from './serving-servers.ts'
import { benchServingGrpc, benchServingRest } from './serving-throughput.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string' },
    transactions: { type: 'string', default: '165000' },
    minutes: { type: 'string', default: '10' },
    seconds: { type: 'string' },
  },
})
const rounds = Number(values.rounds ?? 5)
const transactions = Number(values.transactions)

/** Of one contender's round, where none are given. */
const serving = (seconds: number): ServingBenchOptions => ({
  rounds: Number(values.rounds ?? 3),
  seconds: Number(values.seconds ?? seconds),
})

/** What a benchmark runs against, started for it alone. */
interface Server {
  readonly addresses: readonly string[]
  stop(): Promise<void>
}

const kafka = async (): Promise<Server | { readonly skipped: string }> => {
  const broker = await startKafka()
  return 'skipped' in broker ? broker : { addresses: broker.brokers, stop: () => broker.stop() }
}

// As in production: what was acknowledged is on disk within a second.
const redis = async (): Promise<Server | { readonly skipped: string }> => {
  const server = await startRedis({ appendFsync: 'everysec' })
  return 'skipped' in server ? server : { addresses: [server.url], stop: () => server.stop() }
}

const nothing = (): Promise<Server> => Promise.resolve({ addresses: [], stop: () => Promise.resolve() })

const benchmarks: Readonly<
  Record<string, { readonly on: typeof kafka | typeof redis | typeof nothing; run(addresses: readonly string[]): Promise<void> }>
> = {
  'drain-embedded': { on: nothing, run: () => benchDrainEmbedded({ rounds, transactions }) },
  'drain-kafka': { on: kafka, run: (brokers) => benchDrainKafka(brokers, { rounds, transactions }) },
  'delivery-cost': { on: kafka, run: (brokers) => benchDeliveryCost(brokers, { rounds, transactions }) },
  'latency-kafka': { on: kafka, run: (brokers) => benchLatency(brokers, rounds) },
  overload: { on: nothing, run: () => benchOverload(Number(values.seconds ?? 60)) },
  predict: { on: nothing, run: () => benchPredict(rounds) },
  'features-embedded': { on: nothing, run: () => benchFeaturesEmbedded(rounds) },
  'features-redis': { on: redis, run: ([url]) => benchFeaturesRedis(url!, rounds) },
  'features-read': { on: redis, run: ([url]) => benchFeaturesRead(url!, rounds) },
  'serving-grpc': { on: nothing, run: () => benchServingGrpc(serving(3)) },
  'serving-rest': { on: nothing, run: () => benchServingRest(serving(3)) },
  'serving-open-loop': { on: nothing, run: () => benchServingOpenLoop(serving(5)) },
  'serving-rows': { on: nothing, run: () => benchServingRows(serving(3)) },
  'serving-batching': { on: nothing, run: () => benchServingBatching(serving(3)) },
  'serving-heartbeat': { on: nothing, run: () => benchServingHeartbeat(serving(5)) },
  'serving-promote': { on: nothing, run: () => benchServingPromote(serving(10)) },
  'serving-overload': { on: nothing, run: () => benchServingOverload(serving(5)) },
  transforms: {
    on: nothing,
    run: () => inProcessOfItsOwn(['--max-semi-space-size=1', join(import.meta.dirname, 'transforms.ts'), String(rounds)]),
  },
  // As the command runs: the flag stands in cli/bin/spillway.mjs.
  soak: { on: nothing, run: () => inProcessOfItsOwn(['--max-semi-space-size=16', join(import.meta.dirname, 'soak.ts'), values.minutes]) },
}

async function inProcessOfItsOwn(args: readonly string[]): Promise<void> {
  const [code] = (await once(spawn(process.execPath, args, { stdio: 'inherit' }), 'exit')) as [number | null]
  if (code !== 0) throw new Error(`the benchmark ended with ${String(code)}`)
}

const chosen = positionals.length === 0 ? Object.keys(benchmarks) : positionals
for (const name of chosen) {
  const benchmark = benchmarks[name]
  if (benchmark === undefined) throw new Error(`there is no benchmark "${name}": choose among ${Object.keys(benchmarks).join(', ')}`)
  console.log(name)
  const server = await benchmark.on()
  if ('skipped' in server) {
    console.log(`  skipped: ${server.skipped}`)
    continue
  }
  try {
    await benchmark.run(server.addresses)
  } finally {
    await server.stop()
  }
}
process.exit(0)
