import { randomUUID } from 'node:crypto'
import { Kafka, logLevel, Partitioners } from 'kafkajs'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type KafkaBroker, sharedKafka } from '../brokers/mod.ts'
import { readKafka } from './read-kafka.ts'

let broker: KafkaBroker | undefined
let why = ''

beforeAll(async () => {
  const found = await sharedKafka()
  if ('skipped' in found) why = found.skipped
  else broker = found
})

afterAll(() => broker?.stop())

it('reads what was committed, to the end, though the log ends in an aborted transaction', async ({ skip }) => {
  if (broker === undefined) return skip(`no Kafka: ${why}`)
  const topic = `checked-${randomUUID()}`
  const kafka = new Kafka({ clientId: 'test', brokers: [...broker.brokers], logLevel: logLevel.NOTHING, retry: { initialRetryTime: 20 } })
  const admin = kafka.admin()
  await admin.connect()
  await admin.createTopics({ topics: [{ topic, numPartitions: 3 }], waitForLeaders: true })
  const producer = kafka.producer({
    transactionalId: topic,
    idempotent: true,
    maxInFlightRequests: 1,
    createPartitioner: Partitioners.DefaultPartitioner,
  })
  await producer.connect()
  for (const commits of [true, false, true, false]) {
    const transaction = await producer.transaction()
    const messages = [0, 1].map((partition) => ({
      partition,
      key: 'k',
      value: JSON.stringify({ commits }),
      headers: { kept: String(commits) },
    }))
    await transaction.send({ topic, messages })
    await (commits ? transaction.commit() : transaction.abort())
  }
  const records = await readKafka(broker.brokers, topic)
  expect(records).toHaveLength(4)
  expect(records.map(({ partition }) => partition).sort((a, b) => a - b)).toEqual([0, 0, 1, 1])
  expect(records.every(({ key, value, headers }) => key === 'k' && value === '{"commits":true}' && headers?.['kept'] === 'true')).toBe(true)
  expect(await readKafka(broker.brokers, 'no-such-topic')).toEqual([])
  await producer.disconnect()
  await admin.disconnect()
})
