import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { EmbeddedBus } from '@spillway/bus'
import { check } from '../checker/check.ts'
import type { CheckedRecord } from '../checker/record.ts'
import type { Report } from '../checker/report.ts'
import { fraudFolder, type FraudNames, pipelineFacts } from './fraud-run.ts'
import { metricsOf, sentRecords, untilAtRest } from './metrics.ts'
import { anyPorts, repositoryRoot, SpillwayProcess, type TestProcess } from './processes.ts'
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
  return sentRecords(await metricsOf(base), names.predictions)
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
  const mesh = new SpillwayProcess(['up', '--pipeline', pipeline, '--data', data, ...anyPorts], repositoryRoot)
  try {
    const base = await gatewayUrl(mesh)
    // Transactions and labels, and the second tier's topic; and for each of the two segments the letters that are given back to it.
    await untilAtRest(async () => [await metricsOf(base)], { lagCount: 5 * 8 })
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
