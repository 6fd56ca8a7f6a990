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
  /** Records whose transaction is committed. */
  processed(): number
  stop(): Promise<void>
}

/**
 * The limit that the mesh on Kafka is held against: kafkajs alone, read, parse, encode, write, one Kafka transaction a slice of a partition,
 * no features, no models. Labels are read and parsed.
 */
export async function bareKafkaLoop(options: BareLoopOptions): Promise<BareLoop> {
  const kafka = new kafkajs.Kafka({
    brokers: [...options.brokers],
    clientId: options.group,
    logLevel: kafkajs.logLevel.NOTHING,
    retry: { initialRetryTime: 20, maxRetryTime: 200, retries: 50 },
  })
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
  let processed = 0
  /** kafkajs sometimes hands out a partition's batch while the one before is still in work, or twice: one at a time, each offset once. */
  const lanes = new Map<string, { tail: Promise<void>; nextOffset: bigint }>()
  const handle = async (payload: kafkajs.EachBatchPayload, lane: { nextOffset: bigint }): Promise<void> => {
    const { batch } = payload
    const producer = await producerOf(batch.topic, batch.partition)
    const fresh = batch.messages.filter(({ offset }) => BigInt(offset) >= lane.nextOffset)
    const isInput = batch.topic === options.topics.transactions
    for (let start = 0; start < fresh.length; start += options.sliceRecords) {
      const slice = fresh.slice(start, start + options.sliceRecords)
      const messages = slice.map(({ key, value }) => {
        const event = JSON.parse(value!.toString()) as Record<string, unknown>
        return { key, value: isInput ? JSON.stringify({ ...event, score: 0.5, decision: false }) : '', partition: batch.partition }
      })
      const offset = String(BigInt(slice.at(-1)!.offset) + 1n)
      const source = { topic: batch.topic, partitions: [{ partition: batch.partition, offset }] }
      await inTransaction(producer, async (transaction) => {
        if (isInput) await transaction.send({ topic: options.output, messages, acks: -1 })
        await transaction.sendOffsets({ consumerGroupId: options.group, topics: [source] })
      })
      lane.nextOffset = BigInt(offset)
      processed += slice.length
      await payload.heartbeat()
    }
  }
  await consumer.connect()
  await consumer.subscribe({ topics: [options.topics.transactions, options.topics.labels], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    partitionsConsumedConcurrently: 16,
    eachBatch: (payload) => {
      const id = `${payload.batch.topic}/${payload.batch.partition}`
      const lane = lanes.get(id) ?? { tail: Promise.resolve(), nextOffset: 0n }
      lanes.set(id, lane)
      lane.tail = lane.tail.then(() => handle(payload, lane))
      return lane.tail
    },
  })
  return {
    processed: () => processed,
    stop: async () => {
      await consumer.disconnect()
      for (const producer of producers.values()) await (await producer).disconnect()
    },
  }
}

async function connect(kafka: kafkajs.Kafka, transactionalId: string): Promise<kafkajs.Producer> {
  const producer = kafka.producer({
    transactionalId,
    idempotent: true,
    maxInFlightRequests: 1,
    createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
  })
  await producer.connect()
  return producer
}

/** The broker may still be finishing the transaction before (CONCURRENT_TRANSACTIONS), which kafkajs does not wait for at every step. */
async function inTransaction(producer: kafkajs.Producer, work: (transaction: kafkajs.Transaction) => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const transaction = await producer.transaction()
    try {
      await work(transaction)
      await transaction.commit()
      return
    } catch (error) {
      await transaction.abort()
      if (attempt === 20) throw error
    }
  }
}
