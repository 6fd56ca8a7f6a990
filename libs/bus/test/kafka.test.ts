import kafkajs from 'kafkajs'
import { afterAll, beforeAll, test } from 'vitest'
import { sharedKafka } from '../../../test/brokers/shared.ts'
import { KafkaBus } from '../src/kafka/kafka-bus.ts'
import { repairKafkajs } from '../src/kafka/kafkajs-repairs.ts'
import { busConformance } from './conformance.ts'

const kafka = await sharedKafka()
if ('skipped' in kafka) test.skip(`Kafka bus: ${kafka.skipped}`, () => {})
else {
  afterAll(() => kafka.stop())
  repairKafkajs()
  const admin = new kafkajs.Kafka({ brokers: [...kafka.brokers], logLevel: kafkajs.logLevel.NOTHING }).admin()
  beforeAll(() => admin.connect())
  afterAll(() => admin.disconnect())

  const startBus = async (): Promise<KafkaBus> => {
    const bus = new KafkaBus({ brokers: kafka.brokers, sessionTimeoutMs: 6000 })
    await bus.start(AbortSignal.timeout(10_000))
    return bus
  }
  busConformance('kafka', async () => {
    const buses = [await startBus()]
    return {
      bus: buses[0]!,
      secondInstance: async () => {
        buses.push(await startBus())
        return buses.at(-1)!
      },
      dropBefore: async (topic, partition, offset) => {
        // deleteTopicRecords looks in metadata that only another request loads.
        await admin.fetchTopicOffsets(topic)
        await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(offset) }] })
      },
      movePosition: async (group, topic, partition, offset) => {
        // As a tool does it for a group that has members, which the admin's request is refused for.
        const client = new kafkajs.Kafka({ brokers: [...kafka.brokers], logLevel: kafkajs.logLevel.NOTHING })
        const producer = client.producer({ transactionalId: `move-${group}`, idempotent: true, maxInFlightRequests: 1 })
        await producer.connect()
        const transaction = await producer.transaction()
        await transaction.sendOffsets({ consumerGroupId: group, topics: [{ topic, partitions: [{ partition, offset: String(offset) }] }] })
        await transaction.commit()
        await producer.disconnect()
      },
      close: async () => {
        await Promise.all(buses.map((bus) => bus.drain()))
      },
    }
  })
}
