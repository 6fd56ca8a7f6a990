import { randomUUID } from 'node:crypto'
import { Kafka, logLevel } from 'kafkajs'
import type { CheckedRecord } from './record.ts'

/**
 * All committed records that lie on `topic` now, straight from the broker; none where there is no such topic.
 * @throws where the end is not reached within `timeoutMs`.
 */
export async function readKafka(brokers: readonly string[], topic: string, timeoutMs = 60_000): Promise<CheckedRecord[]> {
  const kafka = new Kafka({ clientId: 'checker', brokers: [...brokers], logLevel: logLevel.NOTHING })
  const admin = kafka.admin()
  try {
    await admin.connect()
    const exists = (await admin.listTopics()).includes(topic)
    const offsets = exists ? await admin.fetchTopicOffsets(topic) : []
    // It commits nothing, so the broker forgets it once it is left.
    const groupId = `checker-${randomUUID()}`
    // What the group has still to reach: the last offset of each partition, be it a record or a transaction's marker.
    const open = new Map(
      offsets.filter(({ low, high }) => BigInt(low) < BigInt(high)).map(({ partition, high }) => [partition, BigInt(high) - 1n]),
    )
    return open.size === 0 ? [] : await consume(kafka, groupId, topic, open, timeoutMs)
  } finally {
    await admin.disconnect()
  }
}

async function consume(
  kafka: Kafka,
  groupId: string,
  topic: string,
  open: Map<number, bigint>,
  timeoutMs: number,
): Promise<CheckedRecord[]> {
  const consumer = kafka.consumer({ groupId, readUncommitted: false, maxWaitTimeInMs: 100 })
  const records: CheckedRecord[] = []
  const ends = new Map(open)
  const done = Promise.withResolvers<void>()
  consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload }) => {
    const end = open.get(payload.partition)
    if (end !== undefined && BigInt(payload.lastOffset) >= end) open.delete(payload.partition)
    if (open.size === 0) done.resolve()
  })
  const timer = setTimeout(done.resolve, timeoutMs)
  try {
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachBatch: ({ batch }) => {
        const end = ends.get(batch.partition) ?? -1n
        for (const { offset, key, value, headers } of batch.messages) {
          if (BigInt(offset) > end) break
          const texts = Object.entries(headers ?? {}).map(([name, held]) => [name, String(Array.isArray(held) ? held.at(-1) : held)])
          records.push({
            partition: batch.partition,
            offset: Number(offset),
            key: key?.toString() ?? '',
            value: value?.toString() ?? '',
            headers: Object.fromEntries(texts) as Record<string, string>,
          })
        }
        return Promise.resolve()
      },
    })
    await done.promise
  } finally {
    clearTimeout(timer)
    await consumer.disconnect()
  }
  if (open.size > 0)
    throw new Error(`topic ${topic}: partitions ${[...open.keys()].join(', ')} were not read to their end within ${timeoutMs} ms`)
  return records
}
