import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KafkaBus, type Slice } from '@spillway/bus'
import { bytesAt } from '@spillway/core'
import { decodeFrame } from '@spillway/wire'
import { Kafka, logLevel } from 'kafkajs'
import { afterAll, describe, expect, test } from 'vitest'
import { sharedKafka, sharedRedis } from '../brokers/mod.ts'
import { readKafka } from '../checker/read-kafka.ts'
import { type FraudNames, fraudNames, writePipeline } from '../e2e/fraud-run.ts'
import { freePorts } from '../brokers/ports.ts'
import { SpillwayProcess, until } from '../e2e/processes.ts'
import { handbookDays, handbookFolder, readDay, recentDays } from './handbook-data.ts'
import { labelEvents, publishEvents, tooLateEach, transactionEvents } from './handbook-events.ts'
import { compareWithReference, comparisonText } from './reference.ts'

/**
 * The reference's features out of the mesh itself: transactions and labels as two topics of eight partitions, two preprocessing processes on one Redis,
 * of which one is held up again and again and the other is killed in the middle.
 */
const folder = handbookFolder()
const days = process.env['SPILLWAY_HANDBOOK_ALL'] === '1' ? handbookDays(folder) : recentDays(folder)
const [kafka, redis] = [await sharedKafka(), await sharedRedis()]

if (days.length === 0) console.warn(`SKIPPED: no reference data in ${folder} (SPILLWAY_HANDBOOK names another folder)`)

describe.skipIf(days.length === 0 || 'skipped' in kafka || 'skipped' in redis)('the reference data through the mesh', () => {
  const brokers = 'skipped' in kafka ? [] : kafka.brokers
  const store = 'skipped' in redis ? '' : redis.url
  const work = mkdtempSync(join(tmpdir(), 'spillway-handbook-'))
  afterAll(() => rmSync(work, { recursive: true, force: true }))

  test('Given two instances on Redis, one held up and one killed, then every transaction has the features that pandas computed', async () => {
    const names = fraudNames(`handbook-${Date.now()}`)
    const pipeline = writePipeline(work, names)
    const read = days.map((name) => readDay(folder, name))
    const bus = new KafkaBus({ brokers, clientId: 'handbook' })
    await bus.start(AbortSignal.timeout(60_000))
    await bus.topics.ensure([names.transactions, names.labels].map((name) => ({ name, partitions: 8 })))
    const published =
      (await publishEvents(bus, names.transactions, transactionEvents(read))) + (await publishEvents(bus, names.labels, labelEvents(read)))
    const startedMs = Date.now()
    const instances = await startInstances(pipeline, brokers, store, work)
    try {
      await processAll(brokers, names, published, instances)
      const seconds = (Date.now() - startedMs) / 1000
      console.info(`${published} events in ${seconds.toFixed(0)} s, ${Math.round(published / seconds)} a second`)
      for (const instance of instances) expect(await instance.stop(), instance.output.slice(-2000)).toBe(0)
      const { vectors, doubled } = await readVectors(bus, `${names.pipeline}.features`)
      expect(doubled).toEqual([])
      const comparison = compareWithReference(folder, read, await vectorNames(pipeline), (transaction) => vectors.get(transaction))
      console.info(comparisonText('mesh on Kafka and Redis', comparison))
      expect(comparison.unexplained.slice(0, 5)).toEqual([])
      expect(comparison.missing.slice(0, 5)).toEqual([])
      expect(comparison.ties.size).toBeLessThanOrEqual(8)
      expect(comparison.compared).toBeGreaterThan(190_000)
      const dead = await readKafka(brokers, names.deadLetters)
      expect(dead.length).toBe(2 * tooLateEach)
      for (const { headers } of dead) expect(headers?.['spillway-code']).toBe('OUT_OF_RANGE')
    } finally {
      for (const instance of instances) await instance.stop('SIGKILL')
      await bus.drain()
    }
  }, 900_000)
})

async function startInstances(pipeline: string, brokers: readonly string[], store: string, work: string): Promise<SpillwayProcess[]> {
  const ports = await freePorts(4)
  const instances = [0, 1].map(
    (index) =>
      new SpillwayProcess(
        [
          'serve',
          'preprocessing',
          '--pipeline',
          pipeline,
          '--links',
          'topic',
          '--bus',
          `kafka://${brokers.join(',')}`,
          '--store',
          store,
          '--data',
          join(work, `instance-${index}`),
          '--http-port',
          String(ports[2 * index]),
          '--grpc-port',
          String(ports[2 * index + 1]),
        ],
        work,
      ),
  )
  await Promise.all(instances.map((instance) => instance.printed(/"msg":"ready"/)))
  return instances
}

/** Waits until the group has read all, stopping the first instance for a second in four, and killing the second once in the middle. */
async function processAll(brokers: readonly string[], names: FraudNames, published: number, instances: SpillwayProcess[]): Promise<void> {
  const admin = new Kafka({ clientId: 'handbook', brokers: [...brokers], logLevel: logLevel.NOTHING }).admin()
  await admin.connect()
  const topics = [names.transactions, names.labels]
  const committed = async (): Promise<number> => {
    const offsets = await admin.fetchOffsets({ groupId: `${names.pipeline}.preprocessing`, topics })
    return offsets.flatMap(({ partitions }) => partitions).reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0)
  }
  let ticks = 0
  const held = setInterval(() => {
    const [slow] = instances
    if (slow!.ended) return
    slow!.child.kill(ticks++ % 4 === 0 ? 'SIGSTOP' : 'SIGCONT')
  }, 1000)
  const detail = (): string => instances.map(({ name, output }) => `--- ${name}\n${output.slice(-2000)}`).join('\n')
  try {
    await until('half of the events to be done', async () => ((await committed()) >= published / 2 ? true : undefined), 400_000, detail)
    await instances[1]!.stop('SIGKILL')
    instances[1] = instances[1]!.again()
    await until('all events to be done', async () => ((await committed()) === published ? true : undefined), 400_000, detail)
  } finally {
    clearInterval(held)
    instances[0]!.child.kill('SIGCONT')
    await admin.disconnect()
  }
}

async function vectorNames(pipeline: string): Promise<readonly string[]> {
  const { loadPipeline } = await import('@spillway/mesh')
  return (await loadPipeline(pipeline)).features.vector.names
}

/** The vectors on a topic of frames by transaction, and transactions that have more than one. */
async function readVectors(
  bus: KafkaBus,
  topic: string,
): Promise<{ readonly vectors: ReadonlyMap<number, Float32Array>; readonly doubled: readonly number[] }> {
  const vectors = new Map<number, Float32Array>()
  const doubled: number[] = []
  const read = ({ records }: Slice): void => {
    for (let record = 0; record < records.count; record++) {
      const { batch } = decodeFrame(bytesAt(records.values, record))
      const { data, shape } = batch.columns.get('features')! as { data: Float32Array; shape: readonly number[] }
      batch.meta.ids.forEach((id, row) => {
        if (vectors.has(Number(id))) doubled.push(Number(id))
        vectors.set(Number(id), data.slice(row * shape[1]!, (row + 1) * shape[1]!))
      })
    }
  }
  const until = new Map((await bus.topics.offsets(topic)).map(({ partition, end }) => [partition, end]))
  for await (const slice of bus.subscribe({ topic, from: 'earliest', maxSliceRecords: 1000, until, signal: new AbortController().signal }))
    read(slice)
  return { vectors, doubled }
}
