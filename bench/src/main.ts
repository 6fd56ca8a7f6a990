// `npm run bench [-- NAME…] [--rounds N] [--transactions N] [--minutes N]`: each benchmark against its limit in the same run; results in bench/results.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startKafka } from '@spillway/test/brokers'
import { benchDrainEmbedded, benchDrainKafka } from './drain.ts'
import { benchLatency } from './latency.ts'
import { benchPredict } from './predict.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    transactions: { type: 'string', default: '165000' },
    minutes: { type: 'string', default: '10' },
  },
})
const rounds = Number(values.rounds)
const transactions = Number(values.transactions)

const benchmarks: Readonly<Record<string, { readonly kafka: boolean; run(brokers: readonly string[]): Promise<void> }>> = {
  'drain-embedded': { kafka: false, run: () => benchDrainEmbedded({ rounds, transactions }) },
  'drain-kafka': { kafka: true, run: (brokers) => benchDrainKafka(brokers, { rounds, transactions }) },
  'latency-kafka': { kafka: true, run: (brokers) => benchLatency(brokers, rounds) },
  predict: { kafka: false, run: () => benchPredict(rounds) },
  // As the command runs: the flag stands in cli/bin/spillway.mjs.
  soak: { kafka: false, run: () => inProcessOfItsOwn(['--max-semi-space-size=16', join(import.meta.dirname, 'soak.ts'), values.minutes]) },
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
  if (!benchmark.kafka) {
    await benchmark.run([])
    continue
  }
  const kafka = await startKafka()
  if ('skipped' in kafka) {
    console.log(`  skipped: ${kafka.skipped}`)
    continue
  }
  try {
    await benchmark.run(kafka.brokers)
  } finally {
    await kafka.stop()
  }
}
process.exit(0)
