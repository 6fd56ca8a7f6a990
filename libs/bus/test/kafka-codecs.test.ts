import { bytesAt, textColumn } from '@spillway/core'
import kafkajs from 'kafkajs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sharedKafka } from '../../../test/brokers/shared.ts'
import { KafkaBus } from '../src/kafka/kafka-bus.ts'

const kafka = await sharedKafka()
const codecs = ['gzip', 'snappy', 'lz4', 'zstd'] as const
const records = 2000
/** Some that pack well and some that do not, beyond the 32 KiB of a block. */
const values = Array.from({ length: records }, (_, i) => `${i} ${'amount'.repeat(i % 7)} ${Math.sin(i)}`)

describe.skipIf('skipped' in kafka)('A topic whose records are compressed', () => {
  const brokers = 'skipped' in kafka ? [] : [...kafka.brokers]
  const admin = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).admin()
  const bus = new KafkaBus({ brokers })
  beforeAll(async () => {
    await admin.connect()
    await bus.start(AbortSignal.timeout(30_000))
  })
  afterAll(async () => {
    await bus.drain()
    await admin.disconnect()
  })

  // The broker compresses by the topic's setting, whatever the producer sent: its own libraries, as Java clients use them.
  test.each(codecs)('by %s is read as any other', async (codec) => {
    const topic = `compressed-${codec}-${Date.now()}`
    await admin.createTopics({
      topics: [{ topic, numPartitions: 1, configEntries: [{ name: 'compression.type', value: codec }] }],
      waitForLeaders: true,
    })
    await bus.publish(topic, { count: records, values: textColumn(values) })
    const read: string[] = []
    for await (const slice of bus.subscribe({ topic, from: 'earliest', maxSliceRecords: 500, signal: AbortSignal.timeout(20_000) })) {
      for (let i = 0; i < slice.records.count; i++) read.push(Buffer.from(bytesAt(slice.records.values, i)).toString())
      if (read.length >= records) break
    }
    expect(read).toEqual(values)
  })

  test.each([kafkajs.CompressionTypes.Snappy, kafkajs.CompressionTypes.LZ4, kafkajs.CompressionTypes.ZSTD])(
    'by a producer that writes type %s is read as any other',
    async (compression) => {
      const topic = `produced-${compression}-${Date.now()}`
      await admin.createTopics({ topics: [{ topic, numPartitions: 1 }], waitForLeaders: true })
      const producer = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).producer()
      await producer.connect()
      await producer.send({ topic, compression, messages: values.map((value) => ({ value })) })
      await producer.disconnect()
      let read = 0
      for await (const slice of bus.subscribe({ topic, from: 'earliest', maxSliceRecords: 500, signal: AbortSignal.timeout(20_000) })) {
        for (let i = 0; i < slice.records.count; i++) expect(Buffer.from(bytesAt(slice.records.values, i)).toString()).toBe(values[read++])
        if (read >= records) break
      }
    },
  )
})
