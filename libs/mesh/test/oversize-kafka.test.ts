import { randomUUID } from 'node:crypto'
import { KafkaBus, recordsOf } from '@spillway/bus'
import { type Batch, systemClock, text, withColumns } from '@spillway/core'
import { decodeFrame } from '@spillway/wire'
import kafkajs from 'kafkajs'
import { describe, expect, test } from 'vitest'
import { startKafka } from '../../../test/brokers/kafka.ts'
import { parsePipeline } from '../src/mod.ts'
import { Segment } from '../src/segment.ts'
import type { Sink } from '../src/sinks.ts'
import { EventSource } from '../src/sources.ts'
import { metrics, never, runnerOf, telemetry } from './fixture.ts'

const kafka = await startKafka()
if ('skipped' in kafka) test.skip(`oversize over Kafka: ${kafka.skipped}`, () => {})
else
  describe('outputs over a limit of their topic’s own, which is smaller than the bus’s', { timeout: 60_000 }, () => {
    test('frames are split, an edge event is a dead letter, and the partition goes on', async () => {
      const prefix = `oversize-${randomUUID().slice(0, 8)}`
      const topic = (name: string): string => `${prefix}-${name}`
      const admin = new kafkajs.Kafka({ brokers: [...kafka.brokers], logLevel: kafkajs.logLevel.NOTHING }).admin()
      await admin.connect()
      const configEntries = [{ name: 'max.message.bytes', value: '20000' }]
      const small = ['frames', 'predictions', 'dead-letters'].map((name) => ({ topic: topic(name), numPartitions: 1, configEntries }))
      await admin.createTopics({ topics: [...small, { topic: topic('events'), numPartitions: 1 }], waitForLeaders: true })
      await admin.disconnect()
      const bus = new KafkaBus({ brokers: kafka.brokers })
      await bus.start(AbortSignal.timeout(20_000))
      const pipeline = parsePipeline(
        `{ pipeline: test, partitions: 1, inputs: { events: { topic: ${topic('events')}, key: name, fields: { name: string, x: number } } },
           cascade: { tiers: [{ model: m }] }, deadLetters: { topic: ${topic('dead-letters')} } }`,
        'oversize.yaml',
      )
      // Each row 500 bytes, but one that no record of its topic takes: 100 of them are more than a batch of it, too.
      const outputs = (batch: Batch): Batch =>
        withColumns(batch, [['event', text(batch.meta.keys.map((key) => key.padEnd(key === 'large' ? 30_000 : 500, '.')))]])
      const segment = new Segment({
        plan: {
          name: 'segment',
          service: 'preprocessing',
          group: prefix,
          sources: [{ topic: topic('events'), stage: 'stage', input: 'events' }],
        },
        pipeline,
        bus,
        entries: new Map([
          [
            topic('events'),
            {
              source: new EventSource(pipeline, pipeline.inputs.get('events')!, 'stage'),
              runner: runnerOf(
                (batch) => ({
                  outputs: new Map([
                    ['predictions', outputs(batch)],
                    ['frames', outputs(batch)],
                  ]),
                  failures: [],
                }),
                { predictions: { kind: 'sink', sink: topic('predictions') }, frames: { kind: 'sink', sink: topic('frames') } },
              ),
              answers: true,
            },
          ],
        ]),
        sinks: new Map<string, Sink>([
          [topic('predictions'), { kind: 'events', type: 'test.prediction', answers: true }],
          [topic('frames'), { kind: 'frames', answers: false }],
        ]),
        telemetry,
        metrics,
        clock: systemClock,
      })
      await segment.start(never)
      const names = Array.from({ length: 100 }, (_, i) => (i === 50 ? 'large' : `row-${i}`))
      const given = [...names, 'last'].map((name) => ({ key: 'k', value: JSON.stringify({ name, x: 1 }) }))
      await bus.publish(topic('events'), recordsOf(given))
      const read = async (name: string): Promise<{ readonly value: Uint8Array; readonly headers: unknown }[]> => {
        const until = new Map((await bus.topics.offsets(topic(name))).map(({ partition, end }) => [partition, end]))
        const found: { value: Uint8Array; headers: unknown }[] = []
        for await (const { records } of bus.subscribe({
          topic: topic(name),
          from: 'earliest',
          until,
          maxSliceRecords: 1000,
          signal: AbortSignal.timeout(20_000),
        }))
          for (let i = 0; i < records.count; i++)
            found.push({
              value: records.values.bytes.subarray(records.values.offsets[i], records.values.offsets[i + 1]),
              headers: records.headers?.[i],
            })
        return found
      }
      await expect.poll(() => segment.lags[0]?.committedOffset, { timeout: 30_000 }).toBe(101n)
      await segment.drain()
      const good = [...names, 'last'].filter((name) => name !== 'large')
      expect((await read('predictions')).map(({ value }) => Buffer.from(value).toString().replace(/\.+$/, ''))).toEqual(good)
      const frames = (await read('frames')).map(({ value }) => decodeFrame(value).batch)
      expect(frames.length).toBeGreaterThan(3)
      expect(frames.flatMap(({ meta }) => [...meta.keys])).toEqual(good)
      const letters = await read('dead-letters')
      // Too large for both topics: it is one letter, and the frames that could be written are without it as well.
      expect(letters.map(({ headers }) => headers)).toEqual([
        expect.objectContaining({ 'spillway-code': 'OUT_OF_RANGE', 'spillway-stage': `sink ${topic('predictions')}` }),
      ])
      await bus.drain()
      await kafka.stop()
    })
  })
