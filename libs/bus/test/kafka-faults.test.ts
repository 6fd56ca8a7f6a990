import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { MeshError } from '@spillway/core'
import kafkajs from 'kafkajs'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { startKafka } from '../../../test/brokers/kafka.ts'
import { GroupMember } from '../src/kafka/group-member.ts'
import { KafkaBus } from '../src/kafka/kafka-bus.ts'
import { KafkaProcessor } from '../src/kafka/kafka-processor.ts'
import { type Broker, type OpenCluster, openCluster } from '../src/kafka/kafkajs-cluster.ts'
import { readTail } from '../src/kafka/position-log.ts'
import { positionsTopic } from '../src/kafka/position-record.ts'
import { TopicLimits } from '../src/kafka/topic-limits.ts'
import type { Handler, ProcessOptions, Processor, ProcessorEvent } from '../src/port.ts'
import { recordsOf } from '../src/records.ts'
import { type Copier, copyTo, fill, readAll, until, valuesOf } from './conformance/fixture.ts'

const processor = async (
  on: KafkaBus,
  topic: string,
  group: string,
  handle: Handler,
  options: Partial<ProcessOptions> = {},
): Promise<Processor> => {
  const limits = { from: 'earliest', maxSliceRecords: 50, maxSliceBytes: 1 << 20, concurrency: 4, drainGraceMs: 2000 } as const
  const made = on.process({ topics: [topic], group, ...limits, ...options }, handle)
  await made.start(AbortSignal.timeout(20_000))
  return made
}

const slowly =
  (topic: string): Copier =>
  async (slice, signal) => {
    await new Promise((resolve) => setTimeout(resolve, 2))
    return copyTo(topic)(slice, signal)
  }

const kafka = await startKafka({ withFaults: true })
if ('skipped' in kafka) test.skip(`Kafka under faults: ${kafka.skipped}`, () => {})
else
  describe('Kafka under faults', { timeout: 60_000 }, () => {
    const { brokers } = kafka
    const faults = kafka.faults!
    const partitions = 4
    let bus: KafkaBus
    let ends: (() => Promise<unknown>)[] = []

    const startBus = async (): Promise<KafkaBus> => {
      const started = new KafkaBus({ brokers, sessionTimeoutMs: 2000 })
      await started.start(AbortSignal.timeout(20_000))
      ends.push(() => started.drain())
      return started
    }
    const topics = async (label: string): Promise<[string, string]> => {
      await bus.topics.ensure([`${label}-in`, `${label}-out`].map((name) => ({ name, partitions })))
      return [`${label}-in`, `${label}-out`]
    }
    /** Kept alive until the test ends. */
    const copier = async (...args: readonly string[]): Promise<{ readonly child: ChildProcess; said(line: string): boolean }> => {
      const child = spawn(process.execPath, [join(import.meta.dirname, 'kafka-copier.ts'), brokers.join(','), ...args], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const lines: string[] = []
      createInterface(child.stdout).on('line', (line) => lines.push(line))
      ends.push(async () => child.kill('SIGKILL'))
      await until(() => lines.includes('started'), 'the copier to start')
      return { child, said: (line) => lines.includes(line) }
    }
    const written = async (topic: string): Promise<bigint> => (await bus.topics.offsets(topic)).reduce((sum, { end }) => sum + end, 0n)
    const expectExactly = async (topic: string, count: number): Promise<void> => {
      const rows = await readAll(bus, topic)
      for (let partition = 0; partition < partitions; partition++)
        expect(valuesOf(rows.filter((row) => row.partition === partition))).toEqual(
          Array.from({ length: count }, (_, i) => `p${partition}-${i}`),
        )
    }
    /** Whose the first partition is, by its last position. */
    const ownerOf = async (group: string, topic: string): Promise<string> => {
      const opened = openCluster(new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING }))
      const { cluster } = opened
      await cluster.connect()
      await cluster.addMultipleTargetTopics([positionsTopic(group, topic)])
      const { recorded } = await readTail(cluster, { topic: positionsTopic(group, topic), partition: 0 })
      await opened.close()
      return recorded!.owner!
    }
    const retries = (events: readonly ProcessorEvent[]): MeshError[] =>
      events.flatMap((event) => (event.kind === 'retrying' ? [event.error] : []))
    beforeAll(async () => {
      bus = await startBus()
      ends = []
    })
    afterEach(async () => {
      for (const end of ends.toReversed()) await end()
      ends = []
    })
    afterAll(async () => {
      await bus.drain()
      await kafka.stop()
    })

    test('a process killed in the middle: the next one goes on, each record once', async () => {
      const [input, output] = await topics('killed')
      await fill(bus, input, partitions, 3000)
      const first = await copier('killed', input, output)
      await until(async () => (await written(output)) > 2000n, 'some output')
      first.child.kill('SIGKILL')
      await once(first.child, 'exit')
      expect(await written(output)).toBeLessThan(12_000n)
      const second = await copier('killed', input, output)
      await until(() => second.said('done'), 'the second to finish', 40_000)
      await expectExactly(output, 3000)
    })

    test('instances that join, leave and are killed under load: each record once, in order', async () => {
      const [input, output] = await topics('rebalanced')
      let sent = 0
      const publish = async (): Promise<void> => {
        await fill(bus, input, partitions, 100, sent)
        sent += 100
      }
      const [one, two] = [await startBus(), await startBus()]
      const first = await processor(one, input, 'rebalanced', slowly(output))
      for (let i = 0; i < 5; i++) await publish()
      const doomed = await copier('rebalanced', input, output)
      let handled = 0
      const second = await processor(two, input, 'rebalanced', (slice, signal) => (handled++, slowly(output)(slice, signal)))
      await until(async () => {
        await publish()
        return handled > 10
      }, 'the second to have work')
      doomed.child.kill('SIGKILL')
      for (let i = 0; i < 5; i++) await publish()
      await first.drain()
      await publish()
      await until(async () => {
        const lags = await second.lags()
        return lags.length === partitions && lags.every(({ committedOffset }) => committedOffset === BigInt(sent))
      }, 'the one that is left to finish')
      await second.drain()
      await expectExactly(output, sent)
    })

    test('a process paused past its session that wakes with a slice in hand: its commit fails and says so, nothing of it is seen', async () => {
      const [input, output] = await topics('zombie')
      await fill(bus, input, partitions, 100)
      const gate = join(mkdtempSync(join(tmpdir(), 'zombie-')), 'gate')
      const args = [brokers.join(','), 'zombie', input, output, gate]
      const child = spawn(process.execPath, [join(import.meta.dirname, 'kafka-zombie.ts'), ...args], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      ends.push(async () => child.kill('SIGKILL'))
      const lines: string[] = []
      createInterface(child.stdout).on('line', (line) => lines.push(line))
      await until(() => lines.includes('holding'), 'the zombie to have a slice')
      child.kill('SIGSTOP')
      const next = await processor(await startBus(), input, 'zombie', copyTo(output))
      const all = async (count: bigint): Promise<void> =>
        until(async () => {
          const lags = await next.lags()
          return lags.length === partitions && lags.every(({ committedOffset }) => committedOffset === count)
        }, 'the next owner to finish')
      await all(100n)
      writeFileSync(gate, '')
      child.kill('SIGCONT')
      await until(() => lines.some((line) => line.includes('nothing of this slice was committed')), 'the zombie to fail')
      child.kill('SIGKILL')
      await once(child, 'exit')
      await fill(bus, input, partitions, 10, 100)
      await all(110n)
      expect(lines.find((line) => line.includes('nothing of this slice was committed'))).toContain('ABORTED')
      expect((await readAll(bus, output)).filter(({ headers }) => headers?.['by'] === 'zombie')).toEqual([])
      await expectExactly(output, 110)
    })

    test('fenced by another that its group knows nothing of: says so, asks its group, goes on, each record once', async () => {
      const [input, output] = await topics('fenced')
      const events: ProcessorEvent[] = []
      const running = await processor(await startBus(), input, 'fenced', slowly(output), { onEvent: (event) => events.push(event) })
      await fill(bus, input, partitions, 200)
      const usurper = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING }).producer({
        transactionalId: `fenced-${await ownerOf('fenced', input)}-0`,
        idempotent: true,
        maxInFlightRequests: 1,
      })
      await usurper.connect()
      await (await usurper.transaction()).abort()
      await usurper.disconnect()
      await fill(bus, input, partitions, 200, 200)
      await until(
        async () => (await running.lags()).filter(({ committedOffset }) => committedOffset === 400n).length === partitions,
        'all to be committed',
      )
      expect(events.map(({ kind }) => kind)).not.toContain('revoked')
      expect(retries(events).map(({ code }) => code)).toContain('ABORTED')
      await expectExactly(output, 400)
    })

    test('partitions that move between processes that run are left in order: nobody is fenced, each record once', async () => {
      const [input, output] = await topics('moving')
      const events: ProcessorEvent[] = []
      const onEvent = (event: ProcessorEvent): void => void events.push(event)
      const running = await processor(await startBus(), input, 'moving', slowly(output), { onEvent })
      let sent = 0
      const stop = new AbortController()
      const publishing = (async () => {
        for (; !stop.signal.aborted; sent += 20) await fill(bus, input, partitions, 20, sent)
      })()
      for (let round = 1; round <= 3; round++) {
        const soFar = await written(output)
        const other = await processor(await startBus(), input, 'moving', slowly(output), { onEvent })
        await until(() => events.filter(({ kind }) => kind === 'revoked').length >= round, 'partitions to move')
        await until(async () => (await written(output)) > soFar + 200n, 'both to write')
        await other.drain()
        await until(async () => (await running.lags()).length === partitions, 'them to come back')
      }
      stop.abort()
      await publishing
      await until(async () => (await readAll(bus, output)).length >= sent * partitions, 'all to be committed')
      await expectExactly(output, sent)
      expect(retries(events).map(({ message }) => message)).toEqual([])
    })

    test('a full slice is handled while the one before is committed', async () => {
      const [input, output] = await topics('overlap')
      await fill(bus, input, 1, 1000)
      const copy = copyTo(output)
      const slices: bigint[] = []
      const handle: Handler = async (slice) => {
        slices.push(slice.offsets[0]!)
        // It cannot be committed. Not the first: that is waited for, since it says that whoever had the partition before did not die over it.
        if (slices.length === 2) faults.pause()
        return copy(slice)
      }
      const running = await processor(bus, input, 'overlap', handle)
      ends.push(() => running.drain())
      try {
        await until(() => slices.length > 2, 'the slice behind the one that cannot be committed')
      } finally {
        faults.resume()
      }
      await until(async () => (await written(output)) >= 1000n, 'all records')
      expect(new Set(slices).size).toBe(slices.length)
    })

    test('drained while it joins anew: begins none of the partitions that the join brings', async () => {
      const [input, output] = await topics('drained-joining')
      const client = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING })
      const joins: number[] = []
      let answered = Promise.resolve()
      /** Joins wait for `answered`, as they do for members that are slow to join. */
      const open = (): OpenCluster => {
        const opened = openCluster(client)
        const { cluster } = opened
        const find = cluster.findGroupCoordinator.bind(cluster)
        cluster.findGroupCoordinator = async (of) => {
          const broker = await find(of)
          const joinGroup = async (request: Parameters<Broker['joinGroup']>[0]): ReturnType<Broker['joinGroup']> => {
            const at = joins.push(0) - 1
            await answered
            const joined = await broker.joinGroup(request)
            joins[at] = joined.members.length
            return joined
          }
          return new Proxy(broker, { get: (target, name, self) => (name === 'joinGroup' ? joinGroup : Reflect.get(target, name, self)) })
        }
        return opened
      }
      const events: ProcessorEvent[] = []
      const assigned = (): number => events.flatMap((event) => (event.kind === 'assigned' ? event.partitions : [])).length
      const admin = client.admin()
      const draining = new KafkaProcessor({
        process: {
          topics: [input],
          group: 'drained-joining',
          from: 'earliest',
          concurrency: 4,
          maxSliceRecords: 50,
          maxSliceBytes: 1 << 20,
          onEvent: (event) => events.push(event),
        },
        handle: copyTo(output),
        open,
        sessionTimeoutMs: 2000,
        limits: new TopicLimits(admin, { maxRecordBytes: 1_000_000, maxBatchBytes: 1_001_024 }),
        ensurePositions: async (topic, count) => bus.topics.ensure([{ name: topic, partitions: count }]),
        onDrained: () => {},
      })
      ends.push(() => draining.drain())
      await draining.start(AbortSignal.timeout(20_000))
      const others = openCluster(client)
      ends.push(() => others.close())
      const timeouts = { sessionTimeoutMs: 20_000, rebalanceTimeoutMs: 20_000 }
      const other = new GroupMember(others.cluster, { group: 'drained-joining', topics: [input], partitions, ...timeouts })
      expect(await other.join([])).toMatchObject({ partitions: { length: 2 }, moving: { length: 2 } })
      await until(() => events.some(({ kind }) => kind === 'revoked'), 'the other to have its half')
      const { promise, resolve } = Promise.withResolvers<void>()
      answered = promise
      const before = { joins: joins.length, assigned: assigned() }
      await other.leave()
      await until(() => joins.length > before.joins, 'it to join anew')
      const drained = draining.drain()
      resolve()
      await drained
      // The group was its own again: it was given all of it.
      expect(joins.at(-1)).toBe(1)
      expect(assigned()).toBe(before.assigned)
    })

    test('records of overlapping aborted transactions are not seen', async () => {
      const [, output] = await topics('aborted')
      const client = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING })
      const producers = ['a', 'b', 'c'].map((name) =>
        client.producer({ transactionalId: `overlap-${name}`, idempotent: true, maxInFlightRequests: 1 }),
      )
      for (const producer of producers) await producer.connect()
      const [a, b, c] = await Promise.all(producers.map(async (producer) => producer.transaction()))
      const send = async (to: typeof a, value: string): Promise<unknown> => to!.send({ topic: output, messages: [{ value, partition: 0 }] })
      await send(a, 'aborted a1')
      await send(b, 'aborted b1')
      await send(c, 'kept c1')
      await b!.abort()
      await send(a, 'aborted a2')
      await c!.commit()
      await a!.abort()
      for (const producer of producers) await producer.disconnect()
      await bus.publish(output, recordsOf([{ key: 'k', value: 'kept d' }]))
      expect(valuesOf(await readAll(bus, output)).toSorted()).toEqual(['kept c1', 'kept d'])
    })

    test('a broker killed and started again: what runs goes on, what starts meanwhile waits, each record once', async () => {
      const [input, output] = await topics('outage')
      const events: ProcessorEvent[] = []
      const running = await processor(await startBus(), input, 'outage', slowly(output), { onEvent: (event) => events.push(event) })
      let sent = 0
      const stop = new AbortController()
      const publishing = (async () => {
        while (!stop.signal.aborted) {
          await fill(bus, input, partitions, 20, sent)
          sent += 20
        }
      })()
      await until(async () => (await written(output)) > 200n, 'some output')
      await faults.kill()
      const late = new KafkaBus({ brokers })
      ends.push(() => late.drain())
      await expect(new KafkaBus({ brokers }).start(AbortSignal.timeout(500))).rejects.toMatchObject({ code: 'UNAVAILABLE' })
      const starting = late.start(AbortSignal.timeout(40_000))
      await until(() => events.some(({ kind }) => kind === 'disconnected'), 'the processor to say so')
      await faults.restart()
      await starting
      const before = sent
      await until(() => sent > before + 100, 'publishing to go on')
      stop.abort()
      await publishing
      await until(
        async () => (await running.lags()).filter(({ committedOffset }) => committedOffset === BigInt(sent)).length === partitions,
        'all to be committed',
      )
      expect(events.map(({ kind }) => kind)).toEqual(expect.arrayContaining(['disconnected', 'connected']))
      await expectExactly(output, sent)
    })
  })
