import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { EmbeddedBus } from '@spillway/bus'
import { check } from '../checker/check.ts'
import type { CheckedRecord } from '../checker/record.ts'
import type { Report } from '../checker/report.ts'
import { fraudFolder, type FraudNames, pipelineFacts } from './fraud-run.ts'
import { repositoryRoot, SpillwayProcess, type TestProcess, until } from './processes.ts'
import { readBus } from './read-bus.ts'

/** The example's pipeline file as it is. */
const names: FraudNames = {
  pipeline: 'fraud',
  transactions: 'transactions',
  labels: 'labels',
  predictions: 'predictions',
  alerts: 'alerts',
  deadLetters: 'fraud.dead-letters',
}

/** `Pipeline "fraud" is running: <url>` */
export async function gatewayUrl(mesh: TestProcess): Promise<string> {
  return (await mesh.printed(/is running: (http:\S+)/))[1]!
}

/** Predictions that the process has made since its start. */
export async function predictionCount(base: string): Promise<number> {
  const metrics = await (await fetch(`${base}/metrics`)).text()
  return Number(/messaging_client_sent_messages_total\{[^}]*"predictions"[^}]*\} (\d+)/.exec(metrics)?.[1] ?? 0)
}

export interface RestedRun {
  readonly report: Report
  /** Ids of the transactions as they lie on their topic. */
  readonly transactionIds: readonly number[]
  readonly deadLetters: readonly CheckedRecord[]
}

/** Lets the pipeline answer what earlier runs left on its topics, with nothing new coming in, and has the whole checked. */
export async function restAndCheck(data: string): Promise<RestedRun> {
  const pipeline = join(fraudFolder, 'pipeline.yaml')
  const ports = ['--http-port', '0', '--grpc-port', '0', '--model-http-port', '0', '--model-grpc-port', '0']
  const mesh = new SpillwayProcess(['up', '--pipeline', pipeline, '--data', data, ...ports], repositoryRoot)
  try {
    await atRest(await gatewayUrl(mesh))
    const code = await mesh.stop('SIGINT')
    if (code !== 0) throw new Error(`spillway up ended with ${String(code)}:\n${mesh.output.slice(-2000)}`)
  } finally {
    await mesh.stop('SIGKILL')
  }
  const bus = new EmbeddedBus({ path: join(data, 'fraud.db') })
  await bus.start(AbortSignal.timeout(10_000))
  try {
    const transactions = await readBus(bus, names.transactions)
    const deadLetters = await readBus(bus, names.deadLetters)
    const report = await check({
      inputs: { [names.transactions]: transactions, [names.labels]: await readBus(bus, names.labels) },
      predictions: await readBus(bus, names.predictions),
      alerts: await readBus(bus, names.alerts),
      deadLetters,
      pipeline: pipelineFacts(names),
      sample: 2000,
    })
    const transactionIds = transactions.map(({ value }) => (JSON.parse(value) as { transaction_id: number }).transaction_id)
    return { report, transactionIds, deadLetters }
  } finally {
    await bus.drain()
    rmSync(data, { recursive: true, force: true })
  }
}

/** Lags are read once a second, a group at a time: no lag for longer than that, and nothing has come between two groups' readings. */
async function atRest(base: string): Promise<void> {
  let sinceMs = Infinity
  await until(
    'the pipeline to answer what lies on its topics',
    async () => {
      const metrics = await (await fetch(`${base}/metrics`)).text()
      const lags = [...metrics.matchAll(/^spillway_consumer_lag_records\{.*\} (\d+)$/gm)].map(([, lag]) => Number(lag))
      // transactions and labels, and the second tier's topic; and for each of the two segments the letters that are given back to it
      const still = lags.length === 5 * 8 && lags.every((lag) => lag === 0)
      if (!still) sinceMs = Infinity
      else if (sinceMs === Infinity) sinceMs = performance.now()
      return performance.now() - sinceMs > 1500 ? true : undefined
    },
    60_000,
  )
}
