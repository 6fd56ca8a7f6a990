import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Bus, EmbeddedBus, KafkaBus } from '@spillway/bus'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sharedKafka, sharedRedis } from '../brokers/mod.ts'
import { check } from '../checker/check.ts'
import { readGateway } from '../checker/read-gateway.ts'
import { readKafka } from '../checker/read-kafka.ts'
import { isClean, summary } from '../checker/report.ts'
import { gatewayUrl } from './example-run.ts'
import {
  brokenEvents,
  type Decision,
  decisions,
  type FraudNames,
  fraudNames,
  pipelineFacts,
  publishBacklog,
  sameDecision,
  writePipeline,
} from './fraud-run.ts'
import { drainAll, killAll, killAndRestart, lastWords, startServices } from './mesh-services.ts'
import { metricsOf, sentRecords } from './metrics.ts'
import { SpillwayProcess, until } from './processes.ts'

const transactionCount = 20_000
const [kafka, redis] = [await sharedKafka(), await sharedRedis()]

describe.skipIf('skipped' in kafka)('every service in a process of its own, over Kafka and gRPC', () => {
  const brokers = 'skipped' in kafka ? [] : kafka.brokers
  const folder = mkdtempSync(join(tmpdir(), 'spillway-e2e-'))
  const broken = brokenEvents()
  let singleProcess: ReadonlyMap<string, Decision>

  beforeAll(async () => {
    singleProcess = await runInOneProcess(folder)
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  test.each([
    ['topic', 'embedded', []],
    ['grpc', 'embedded', []],
    ['topic', 'embedded', ['preprocessing', 'cascade-router', 'model', 'postprocessing']],
    ['grpc', 'embedded', ['preprocessing', 'cascade-router', 'postprocessing']],
    ['topic', 'redis', ['preprocessing']],
  ] as const)(
    'with %s links, %s state, kill -9 of %j in the middle: nothing lost, doubled, out of order or other than in one process',
    async (links, store, killed) => {
      if (store === 'redis' && 'skipped' in redis) return console.warn(`SKIPPED: ${redis.skipped}`)
      const names = fraudNames(`fraud-${links}-${store}-${killed.length}-${Date.now()}`)
      const pipeline = writePipeline(folder, names)
      await fill(
        new KafkaBus({ brokers, clientId: 'e2e' }),
        names,
        broken.map(({ value }) => value),
      )
      const mesh = await startServices({
        pipeline,
        bus: `kafka://${brokers.join(',')}`,
        links,
        services: [
          'model',
          'postprocessing',
          'cascade-router',
          'preprocessing',
          ...(store === 'redis' ? ['preprocessing'] : []),
          'gateway',
        ],
        ...(store === 'redis' && 'url' in redis ? { store: redis.url } : {}),
        data: join(folder, names.pipeline),
      })
      try {
        if (killed.length > 0) {
          await untilWritten(brokers, names.predictions)
          for (const service of killed) await killAndRestart(mesh, service)
          expect(await recordCount(brokers, names.predictions), 'predictions at the last kill').toBeLessThan(transactionCount)
        }
        await until(
          'every transaction to be answered',
          async () => {
            const [predicted, dead] = await Promise.all([names.predictions, names.deadLetters].map((topic) => recordCount(brokers, topic)))
            return predicted! >= transactionCount && dead! >= broken.length ? true : undefined
          },
          240_000,
          () => lastWords(mesh),
        )
        expect(await drainAll(mesh)).toEqual([])
        await checkRun(brokers, names, broken.length, singleProcess)
      } finally {
        await killAll(mesh)
      }
    },
    400_000,
  )
})

async function fill(bus: Bus, names: FraudNames, broken: readonly string[]): Promise<void> {
  await bus.start(AbortSignal.timeout(60_000))
  await publishBacklog(bus, names, transactionCount, broken)
  await bus.drain()
}

async function recordCount(brokers: readonly string[], topic: string): Promise<number> {
  return (await readKafka(brokers, topic)).length
}

/** Looks at offsets alone, which takes milliseconds: there must be much left to do when the first records are seen. */
async function untilWritten(brokers: readonly string[], topic: string): Promise<void> {
  const bus = new KafkaBus({ brokers, clientId: 'e2e' })
  await bus.start(AbortSignal.timeout(60_000))
  const written = async (): Promise<true | undefined> => ((await bus.topics.offsets(topic)).some(({ end }) => end > 0n) ? true : undefined)
  await until(`the first records of ${topic}`, written, 60_000)
  await bus.drain()
}

async function checkRun(
  brokers: readonly string[],
  names: FraudNames,
  brokenCount: number,
  singleProcess: ReadonlyMap<string, Decision>,
): Promise<void> {
  const read = (topic: string): ReturnType<typeof readKafka> => readKafka(brokers, topic)
  const predictions = await read(names.predictions)
  const report = await check({
    inputs: { [names.transactions]: await read(names.transactions), [names.labels]: await read(names.labels) },
    predictions,
    deadLetters: await read(names.deadLetters),
    alerts: await read(names.alerts),
    pipeline: pipelineFacts(names),
    sample: 1000,
  })
  expect(isClean(report), summary(report)).toBe(true)
  expect(report.deadLetters).toBe(brokenCount)
  expect(report.predictions).toBe(transactionCount)
  const own = decisions(predictions)
  const differing = [...singleProcess].filter(([id, decision]) => !sameDecision(own.get(id), decision))
  expect(differing).toEqual([])
  expect(own.size).toBe(singleProcess.size)
}

/** The same events through one process on the embedded bus. @returns its decisions */
async function runInOneProcess(folder: string): Promise<ReadonlyMap<string, Decision>> {
  const names = fraudNames('fraud-single')
  const pipeline = writePipeline(folder, names)
  const data = join(folder, 'single')
  mkdirSync(data)
  await fill(new EmbeddedBus({ path: join(data, `${names.pipeline}.db`) }), names, [])
  const mesh = new SpillwayProcess(['up', '--pipeline', pipeline, '--data', data, '--http-port', '0', '--grpc-port', '0'], folder)
  try {
    const base = await gatewayUrl(mesh)
    await until(
      'the single process to answer every transaction',
      async () => (sentRecords(await metricsOf(base), names.predictions) >= transactionCount ? true : undefined),
      120_000,
      () => mesh.output.slice(-2000),
    )
    return decisions(await readGateway(base, names.predictions, { expected: transactionCount }))
  } finally {
    await mesh.stop()
  }
}
