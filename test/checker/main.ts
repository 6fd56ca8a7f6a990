import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { parse } from 'yaml'
import { check, type PipelineFacts } from './check.ts'
import { readGateway } from './read-gateway.ts'
import { readKafka } from './read-kafka.ts'
import { readNats } from './read-nats.ts'
import type { CheckedRecord } from './record.ts'
import { isClean, summary } from './report.ts'
import type { Tier } from './scores.ts'

const usage = `usage: npx node test/checker/main.ts (--kafka HOST:PORT[,HOST:PORT] | --nats HOST:PORT[,HOST:PORT] | --gateway URL) [--pipeline FILE] [--sample N] [--json]

Reads what a run of the fraud pipeline took in and gave out, once it has come to rest, and says what is wrong with it.
Exit code 0: nothing; 1: something; 2: the run could not be read.`

interface PipelineFile {
  readonly pipeline: string
  readonly models?: string
  readonly cascade: {
    readonly tiers: readonly { readonly model: string; readonly accept?: { readonly below?: number; readonly above?: number } }[]
  }
  readonly inputs: Readonly<Record<string, { readonly topic?: string }>>
  readonly outputs?: {
    readonly predictions?: { readonly topic?: string; readonly include?: readonly string[] }
    readonly alerts?: { readonly topic?: string; readonly atLeast?: number }
  }
  readonly deadLetters?: { readonly topic: string }
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      kafka: { type: 'string' },
      nats: { type: 'string' },
      gateway: { type: 'string' },
      pipeline: { type: 'string', default: resolve(import.meta.dirname, '../../examples/fraud/pipeline.yaml') },
      sample: { type: 'string', default: '2000' },
      json: { type: 'boolean', default: false },
    },
  })
  const read = reader(values)
  const file = parse(await readFile(values.pipeline, 'utf8')) as PipelineFile
  const pipeline = facts(file, dirname(values.pipeline))
  const deadLetters = await read(file.deadLetters?.topic ?? `${file.pipeline}.dead-letters`)
  const alerts = await read(file.outputs?.alerts?.topic ?? 'alerts')
  const predictions = await read(file.outputs?.predictions?.topic ?? 'predictions')
  const inputs = {
    [pipeline.transactionsTopic]: await read(pipeline.transactionsTopic),
    [pipeline.labelsTopic]: await read(pipeline.labelsTopic),
  }
  const report = await check({ inputs, predictions, deadLetters, alerts, pipeline, sample: Number(values.sample) })
  process.stdout.write(`${values.json ? JSON.stringify(report, null, 2) : summary(report)}\n`)
  return isClean(report) ? 0 : 1
}

interface Places {
  readonly kafka?: string | undefined
  readonly nats?: string | undefined
  readonly gateway?: string | undefined
}

function reader({ kafka, nats, gateway }: Places): (topic: string) => Promise<CheckedRecord[]> {
  if ([kafka, nats, gateway].filter((place) => place !== undefined).length !== 1) throw new Error(usage)
  if (kafka !== undefined) return (topic) => readKafka(kafka.split(','), topic)
  if (nats !== undefined) return (topic) => readNats(nats.split(','), topic)
  return (topic) => readGateway(gateway!, topic)
}

function facts(file: PipelineFile, directory: string): PipelineFacts {
  return {
    transactionsTopic: file.inputs['transactions']?.topic ?? 'transactions',
    labelsTopic: file.inputs['labels']?.topic ?? 'labels',
    models: resolve(directory, file.models ?? './models'),
    tiers: file.cascade.tiers.map(({ model, accept }): Tier => ({ model, ...accept })),
    alertAtLeast: file.outputs?.alerts?.atLeast ?? 0.5,
    include: file.outputs?.predictions?.include ?? [],
  }
}

try {
  process.exitCode = await main()
} catch (thrown) {
  process.stderr.write(`${thrown instanceof Error ? thrown.message : String(thrown)}\n`)
  process.exitCode = 2
}
