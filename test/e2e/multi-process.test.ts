import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Bus, EmbeddedBus, KafkaBus, sliceRecords } from '@spillway/bus'
import { textColumn } from '@spillway/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sharedKafka, sharedRedis } from '../brokers/mod.ts'
import { check } from '../checker/check.ts'
import { readGateway } from '../checker/read-gateway.ts'
import { readKafka } from '../checker/read-kafka.ts'
import { isClean, summary } from '../checker/report.ts'
import {
  brokenEvents,
  type Decision,
  decisions,
  fraudEvents,
  type FraudNames,
  fraudNames,
  pipelineFacts,
  sameDecision,
  topicRecords,
  writePipeline,
} from './fraud-run.ts'
import { freePorts, SpillwayProcess, until } from './processes.ts'

const transactionCount = 20_000
const [kafka, redis] = [await sharedKafka(), await sharedRedis()]

/** Two instances share the state of one Redis; one alone keeps its own. */
type Store = 'embedded' | 'redis'

describe.skipIf('skipped' in kafka)('every service in a process of its own, over Kafka and gRPC', () => {
  const brokers = 'skipped' in kafka ? [] : kafka.brokers
  const folder = mkdtempSync(join(tmpdir(), 'spillway-e2e-'))
  const events = fraudEvents(transactionCount)
  const broken = brokenEvents()
  let singleProcess: ReadonlyMap<string, Decision>

  beforeAll(async () => {
    singleProcess = await runInOneProcess(folder, events)
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
      await publishBacklog(
        new KafkaBus({ brokers, clientId: 'e2e' }),
        names,
        events,
        broken.map(({ value }) => value),
      )
      const mesh = await startServices(pipeline, brokers, links, store, join(folder, names.pipeline))
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
          () => mesh.map((service) => `--- ${service.name}\n${service.output.slice(-1500)}`).join('\n'),
        )
        for (const service of mesh) expect(await service.stop(), service.output.slice(-2000)).toBe(0)
        await checkRun(brokers, names, broken.length, singleProcess)
      } finally {
        for (const service of mesh) await service.stop('SIGKILL')
      }
    },
    400_000,
  )
})

/**
 * Everything waits on its topic before the first service starts: inputs that are there are read within `maxSkew` of each other, while one that
 * is still to come would be taken for an idle one.
 */
async function publishBacklog(
  bus: Bus,
  names: FraudNames,
  events: ReturnType<typeof fraudEvents>,
  broken: readonly string[],
): Promise<void> {
  await bus.start(AbortSignal.timeout(60_000))
  await bus.topics.ensure([names.transactions, names.labels].map((name) => ({ name, partitions: 8 })))
  for (const topic of ['transactions', 'labels'] as const) {
    const records = topicRecords(events, topic)
    for (let start = 0; start < records.count; start += 2000)
      await bus.publish(names[topic], sliceRecords(records, start, Math.min(records.count, start + 2000)))
  }
  if (broken.length > 0)
    await bus.publish(names.transactions, { count: broken.length, keys: textColumn(broken.map(() => '1')), values: textColumn(broken) })
  await bus.drain()
}

async function recordCount(brokers: readonly string[], topic: string): Promise<number> {
  return (await readKafka(brokers, topic)).length
}

async function startServices(
  pipeline: string,
  brokers: readonly string[],
  links: 'topic' | 'grpc',
  store: Store,
  data: string,
): Promise<SpillwayProcess[]> {
  const shared = store === 'redis' && 'url' in redis ? ['--store', redis.url] : []
  const services = [
    'model',
    'postprocessing',
    'cascade-router',
    'preprocessing',
    ...(store === 'redis' ? ['preprocessing'] : []),
    'gateway',
  ]
  const ports = await freePorts(services.length * 2)
  const grpcPort = (service: string): number => ports[services.indexOf(service) * 2 + 1]!
  const peers = services.flatMap((service) => (service === 'gateway' ? [] : ['--peer', `${service}=127.0.0.1:${grpcPort(service)}`]))
  const processes = services.map(
    (service, index) =>
      new SpillwayProcess(
        [
          'serve',
          service,
          '--pipeline',
          pipeline,
          '--bus',
          `kafka://${brokers.join(',')}`,
          '--links',
          links,
          '--data',
          join(data, `${service}-${index}`),
          ...(service === 'preprocessing' ? shared : []),
          '--http-port',
          String(ports[index * 2]),
          '--grpc-port',
          String(ports[index * 2 + 1]),
          ...peers,
        ],
        data.slice(0, data.lastIndexOf('/')),
      ),
  )
  try {
    await Promise.all(processes.map((service) => service.printed(/"msg":"ready"/)))
  } catch (error) {
    for (const service of processes) await service.stop('SIGKILL')
    throw error
  }
  return processes
}

/** Looks at offsets alone, which takes milliseconds: there must be much left to do when the first records are seen. */
async function untilWritten(brokers: readonly string[], topic: string): Promise<void> {
  const bus = new KafkaBus({ brokers, clientId: 'e2e' })
  await bus.start(AbortSignal.timeout(60_000))
  const written = async (): Promise<true | undefined> => ((await bus.topics.offsets(topic)).some(({ end }) => end > 0n) ? true : undefined)
  await until(`the first records of ${topic}`, written, 60_000)
  await bus.drain()
}

async function killAndRestart(mesh: SpillwayProcess[], service: string): Promise<void> {
  const index = mesh.findIndex(({ name }) => name === `serve ${service}`)
  await mesh[index]!.stop('SIGKILL')
  mesh[index] = mesh[index]!.again()
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
async function runInOneProcess(folder: string, events: ReturnType<typeof fraudEvents>): Promise<ReadonlyMap<string, Decision>> {
  const names = fraudNames('fraud-single')
  const pipeline = writePipeline(folder, names)
  const data = join(folder, 'single')
  mkdirSync(data)
  await publishBacklog(new EmbeddedBus({ path: join(data, `${names.pipeline}.db`) }), names, events, [])
  const mesh = new SpillwayProcess(['up', '--pipeline', pipeline, '--data', data, '--http-port', '0', '--grpc-port', '0'], folder)
  try {
    const [, base] = await mesh.printed(/is running: (http:\S+)/)
    await until(
      'the single process to answer every transaction',
      async () => {
        const metrics = await (await fetch(`${base!}/metrics`)).text()
        const match = new RegExp(`messaging_client_sent_messages_total\\{[^}]*"${names.predictions}"[^}]*\\} (\\d+)`).exec(metrics)
        return Number(match?.[1] ?? 0) >= transactionCount ? true : undefined
      },
      120_000,
      () => mesh.output.slice(-2000),
    )
    return decisions(await readGateway(base!, names.predictions, { expected: transactionCount }))
  } finally {
    await mesh.stop()
  }
}
