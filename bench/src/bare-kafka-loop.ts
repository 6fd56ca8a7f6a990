import kafkajs from 'kafkajs'
import type { FraudTopics } from './fraud.ts'

export interface BareLoopOptions {
  readonly brokers: readonly string[]
  readonly topics: FraudTopics
  readonly output: string
  readonly group: string
  readonly sliceRecords: number
}

export interface BareLoop {
  /** Transactions whose outputs are committed. */
  predicted(): number
  stop(): Promise<void>
}

/**
 * The limit that the mesh on Kafka is held against: kafkajs alone, read, parse, encode, write, one Kafka transaction a slice of a partition,
 * no features, no models. Labels are read and parsed.
 */
export async function bareKafkaLoop(options: BareLoopOptions): Promise<BareLoop> {
  const kafka = new kafkajs.Kafka({ brokers: [...options.brokers], clientId: options.group, logLevel: kafkajs.logLevel.NOTHING, retry: { initialRetryTime: 20 } })
  const admin = kafka.admin()
  await admin.connect()
  await admin.createTopics({ topics: [{ topic: options.output, numPartitions: 8 }] })
  await admin.disconnect()
  const producers = new Map<string, Promise<kafkajs.Producer>>()
  const producerOf = (topic: string, partition: number): Promise<kafkajs.Producer> => {
    const id = `${options.group}-${topic}-${partition}`
    let producer = producers.get(id)
    if (producer === undefined) {
      producer = connect(kafka, id)
      producers.set(id, producer)
    }
    return producer
  }
  const consumer = kafka.consumer({ groupId: options.group, readUncommitted: false, maxWaitTimeInMs: 20, sessionTimeout: 10_000 })
  let predicted = 0
  await consumer.connect()
  await consumer.subscribe({ topics: [options.topics.transactions, options.topics.labels], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    partitionsConsumedConcurrently: 16,
    eachBatch: async ({ batch, heartbeat }) => {
      const producer = await producerOf(batch.topic, batch.partition)
      for (let start = 0; start < batch.messages.length; start += options.sliceRecords) {
        const slice = batch.messages.slice(start, start + options.sliceRecords)
        const isInput = batch.topic === options.topics.transactions
        const messages = slice.map(({ key, value }) => {
          const event = JSON.parse(value!.toString()) as Record<string, unknown>
          return { key, value: isInput ? JSON.stringify({ ...event, score: 0.5, decision: false }) : '', partition: batch.partition }
        })
        const transaction = await producer.transaction()
        if (isInput) await transaction.send({ topic: options.output, messages, acks: -1 })
        const offset = String(BigInt(slice.at(-1)!.offset) + 1n)
        await transaction.sendOffsets({ consumerGroupId: options.group, topics: [{ topic: batch.topic, partitions: [{ partition: batch.partition, offset }] }] })
        await transaction.commit()
        if (isInput) predicted += slice.length
        await heartbeat()
      }
    },
  })
  return {
    predicted: () => predicted,
    stop: async () => {
      await consumer.disconnect()
      for (const producer of producers.values()) await (await producer).disconnect()
    },
  }
}

async function connect(kafka: kafkajs.Kafka, transactionalId: string): Promise<kafkajs.Producer> {
  const producer = kafka.producer({ transactionalId, idempotent: true, maxInFlightRequests: 1, createPartitioner: kafkajs.Partitioners.DefaultPartitioner })
  await producer.connect()
  return producer
}
