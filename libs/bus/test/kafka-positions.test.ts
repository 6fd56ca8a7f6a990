import { randomUUID } from 'node:crypto'
import { createRequire } from 'node:module'
import { connect, type Socket } from 'node:net'
import kafkajs from 'kafkajs'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { sharedKafka } from '../../../test/brokers/shared.ts'
import { isFenced } from '../src/kafka/errors.ts'
import { sendFetch } from '../src/kafka/fetch-request.ts'
import { GroupCommit } from '../src/kafka/group-commit.ts'
import { KafkaBus } from '../src/kafka/kafka-bus.ts'
import { coordinatorTypes, type OpenCluster, openCluster } from '../src/kafka/kafkajs-cluster.ts'
import { repairKafkajs } from '../src/kafka/kafkajs-repairs.ts'
import type { Position } from '../src/kafka/position.ts'
import { readTail } from '../src/kafka/position-log.ts'
import { positionsTopic } from '../src/kafka/position-record.ts'
import { TopicIds } from '../src/kafka/topic-id.ts'
import { TransactionalWriter } from '../src/kafka/transaction.ts'
import type { Attempt, Handler, ProcessOptions, Processor, ProcessorEvent } from '../src/port.ts'
import { copyTo, fill, readAll, until, valuesOf } from './conformance/fixture.ts'

const kafka = await sharedKafka()

describe.skipIf('skipped' in kafka)('A Kafka position is a record', () => {
  const brokers = 'skipped' in kafka ? [] : [...kafka.brokers]
  const client = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING })
  const admin = client.admin()
  let bus: KafkaBus
  let open: OpenCluster
  let writing: OpenCluster
  let [group, input, output] = ['', '', '']
  let running: Processor[] = []

  beforeAll(async () => {
    repairKafkajs()
    await admin.connect()
    bus = new KafkaBus({ brokers, sessionTimeoutMs: 6000 })
    await bus.start(AbortSignal.timeout(30_000))
    open = openCluster(client)
    writing = openCluster(client)
    await open.cluster.connect()
  })
  afterAll(async () => {
    await bus.drain()
    await open.close()
    await writing.close()
    await admin.disconnect()
    if (!('skipped' in kafka)) await kafka.stop()
  })
  beforeEach(async () => {
    const id = randomUUID().slice(0, 8)
    ;[group, input, output] = [`group-${id}`, `in-${id}`, `out-${id}`]
    await bus.topics.ensure([input, output].map((name) => ({ name, partitions: 1 })))
  })
  afterEach(async () => {
    await Promise.all(running.map((processor) => processor.drain()))
    running = []
  })

  const start = async (handle: Handler = copyTo(output), options: Partial<ProcessOptions> = {}): Promise<Processor> => {
    const limits = { from: 'earliest', maxSliceRecords: 10, maxSliceBytes: 1 << 20, concurrency: 4 } as const
    const processor = bus.process({ topics: [input], group, ...limits, ...options }, handle)
    running.push(processor)
    await processor.start(AbortSignal.timeout(30_000))
    return processor
  }
  const at = async (processor: Processor, offset: bigint): Promise<void> =>
    until(async () => (await processor.lags())[0]!.committedOffset === offset, `offset ${offset}`)
  /** Answers what is there, up to `count`, and ends in order. */
  const answer = async (count: number): Promise<void> => {
    const processor = await start()
    await at(processor, BigInt(count))
    await processor.drain()
  }
  /** As tools do it for a group without members. */
  const setOffset = async (offset: number, metadata = ''): Promise<void> => {
    const coordinator = await open.cluster.findGroupCoordinator({ groupId: group, coordinatorType: coordinatorTypes.group })
    const topics = [{ topic: input, partitions: [{ partition: 0, offset: String(offset), metadata }] }]
    await coordinator.offsetCommit({ groupId: group, groupGenerationId: -1, memberId: '', topics })
  }
  const groupOffset = async (): Promise<number> => {
    const [found] = await admin.fetchOffsets({ groupId: group, topics: [input] })
    return Number(found!.partitions[0]!.offset)
  }
  /** One a partition, of a process of its own. */
  const writers = (partitions: number, { isMoving = false } = {}): TransactionalWriter[] => {
    const signal = AbortSignal.timeout(20_000)
    const transactions = new GroupCommit({ cluster: writing.cluster, group, batchBytes: () => 1_000_000, signal })
    const shared = { group, topic: input, transactions, reading: open.cluster, topicIds: new TopicIds(), isMoving, signal }
    return Array.from({ length: partitions }, (_, partition) => new TransactionalWriter({ ...shared, partition }))
  }
  const writer = (): TransactionalWriter => writers(1)[0]!
  const soon = (): AbortSignal => AbortSignal.timeout(20_000)
  const to = (offset: bigint): Position => ({ offset, stamp: undefined, note: undefined })
  const takeOver = async (writer: TransactionalWriter, offset: bigint): Promise<void> => {
    await writer.begin()
    await writer.recorded()
    await writer.commit([], to(offset))
  }
  const twoPartitions = async (): Promise<void> => {
    await admin.createPartitions({ topicPartitions: [{ topic: input, count: 2 }] })
    await until(async () => (await bus.topics.describe(input))?.partitions === 2, 'the broker to know both partitions')
    await answer(0)
  }
  const numbers = (first: number, end: number): string[] => Array.from({ length: end - first }, (_, i) => `p0-${first + i}`)

  test('and what the coordinator forgets of the group changes nothing', async () => {
    await fill(bus, input, 1, 25)
    await answer(25)
    await admin.deleteGroups([group])
    expect(await groupOffset()).toBe(-1)
    await fill(bus, input, 1, 5, 25)
    await answer(30)
    expect(valuesOf(await readAll(bus, output))).toEqual(numbers(0, 30))
    expect(await groupOffset()).toBe(30)
  })

  test('nor what it remembers of earlier', async () => {
    await fill(bus, input, 1, 25)
    await answer(25)
    await setOffset(10, 'spillway-told\n')
    await fill(bus, input, 1, 5, 25)
    await answer(30)
    expect(valuesOf(await readAll(bus, output))).toEqual(numbers(0, 30))
  })

  test('of which the group hears within a second or two, though no tool needs to ask', async () => {
    const processor = await start()
    await fill(bus, input, 1, 25)
    await at(processor, 25n)
    await until(async () => (await groupOffset()) === 25, 'the group to be told')
  })

  test('but a user’s offset counts, once', async () => {
    await fill(bus, input, 1, 20)
    await answer(20)
    await setOffset(12)
    await answer(20)
    await answer(20)
    expect(valuesOf(await readAll(bus, output))).toEqual([...numbers(0, 20), ...numbers(12, 20)])
  })

  test('also where the process dies after it has made it the record, before the group is told', async () => {
    await fill(bus, input, 1, 20)
    await answer(20)
    await setOffset(12)
    const dying = writer()
    await dying.begin()
    expect(await dying.recorded()).toMatchObject({ offset: 20n })
    await dying.commit([], { offset: 12n, stamp: undefined, note: undefined })
    await answer(20)
    await answer(20)
    expect(valuesOf(await readAll(bus, output))).toEqual([...numbers(0, 20), ...numbers(12, 20)])
  })

  test('as does where a user has a new group begin', async () => {
    await fill(bus, input, 1, 20)
    await setOffset(12)
    await answer(20)
    expect(valuesOf(await readAll(bus, output))).toEqual(numbers(12, 20))
  })

  test('and the position of an earlier release, which lay in the group, with its stamp and note', async () => {
    await fill(bus, input, 1, 20)
    await setOffset(12, 'spillway-stamp:store\nspillway-note:here')
    const events: ProcessorEvent[] = []
    const other = await start(copyTo(output), { stamp: 'another', onEvent: (event) => void events.push(event) })
    await until(() => events.some(({ kind }) => kind === 'refused'), 'the refusal')
    await other.drain()
    const attempts: Attempt[] = []
    const taking: Handler = async (slice, signal, attempt) => (attempts.push(attempt), copyTo(output)(slice, signal))
    await at(await start(taking, { stamp: 'store' }), 20n)
    expect(attempts[0]).toMatchObject({ takenOver: true, note: 'here' })
    expect(valuesOf(await readAll(bus, output))).toEqual(numbers(12, 20))
  })

  test('whose note is there for the next owner', async () => {
    await answer(0)
    const [dying, next] = [writer(), writer()]
    await dying.begin()
    await dying.recorded()
    await dying.commit([], { offset: 7n, stamp: 'store', note: 'here' })
    await next.begin()
    expect(await next.recorded()).toEqual({ offset: 7n, stamp: 'store', note: 'here' })
    await expect(dying.commit([], { offset: 8n, stamp: 'store', note: undefined })).rejects.toThrow()
  })

  test('found behind any number of transactions that were aborted', async () => {
    await fill(bus, input, 1, 20)
    await answer(20)
    const producer = client.producer({ transactionalId: `${group}-${input}-0`, idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    for (let i = 0; i < 20; i++) {
      const transaction = await producer.transaction()
      await transaction.send({
        topic: positionsTopic(group, input),
        messages: [{ partition: 0, key: 'position', value: '{"offset":"3"}' }],
      })
      await transaction.abort()
    }
    await producer.disconnect()
    const next = writer()
    await next.begin()
    expect(await next.recorded()).toMatchObject({ offset: 20n })
  })

  test('that nobody else may have written beside: what was read is then looked up again, and nothing committed', async () => {
    await fill(bus, input, 1, 20)
    await answer(20)
    const next = writer()
    await next.begin()
    await next.recorded()
    const producer = client.producer()
    await producer.connect()
    await producer.send({ topic: positionsTopic(group, input), messages: [{ partition: 0, key: 'position', value: '{"offset":"25"}' }] })
    await producer.disconnect()
    await expect(next.commit([], { offset: 21n, stamp: undefined, note: undefined })).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await next.begin()
    expect(await next.recorded()).toMatchObject({ offset: 25n })
  })

  test('that the first of two who read the same can commit; the other looks again, and then fences it', async () => {
    await answer(0)
    const [first, second] = [writer(), writer()]
    for (const each of [first, second]) {
      await each.begin()
      expect(await each.recorded()).toMatchObject({ offset: 0n })
    }
    await first.commit([], to(1n))
    await expect(second.commit([], to(2n))).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await first.commit([], to(3n))
    await second.begin()
    expect(await second.recorded()).toMatchObject({ offset: 3n })
    await expect(first.commit([], to(4n))).rejects.toSatisfy(isFenced)
    await second.commit([], to(5n))
    await first.begin()
    expect(await first.recorded()).toMatchObject({ offset: 5n })
  })

  test('of which a process that has left the partition cannot be robbed on another one', async () => {
    await twoPartitions()
    const [[left, kept], next] = [writers(2) as [TransactionalWriter, TransactionalWriter], writer()]
    await takeOver(left, 1n)
    await takeOver(kept, 1n)
    await left.leave(to(7n), soon())
    await next.begin()
    expect(await next.recorded()).toMatchObject({ offset: 7n })
    await next.commit([], to(8n))
    await kept.commit([], to(2n))
    expect(kept.isOpen).toBe(true)
  })

  test('that a process that is about to leave is waited for', async () => {
    await answer(0)
    const [leaving, next] = [writer(), writers(1, { isMoving: true })[0]!]
    await takeOver(leaving, 1n)
    await next.begin()
    const found = next.recorded()
    await leaving.commit([], to(2n))
    await leaving.leave(to(2n), soon())
    expect(await found).toMatchObject({ offset: 2n })
    await next.commit([], to(3n))
  })

  test('and one that has not left it begins anew on the other, where it was', async () => {
    await twoPartitions()
    const [[lost, kept], next] = [writers(2) as [TransactionalWriter, TransactionalWriter], writer()]
    await takeOver(lost, 1n)
    await takeOver(kept, 1n)
    await takeOver(next, 2n)
    await expect(kept.commit([], to(2n))).rejects.toSatisfy(isFenced)
    expect([lost.isOpen, kept.isOpen]).toEqual([false, false])
    // What is another's is not left, nor is that one fenced for it.
    for (const offset of [1n, 2n]) await lost.leave(to(offset), soon())
    await kept.begin()
    expect(await kept.recorded()).toMatchObject({ offset: 1n })
    await kept.commit([], to(2n))
    await next.commit([], to(3n))
  })

  test('that a process can leave in order where only another partition of it was taken, unless it is told that it is too late', async () => {
    await twoPartitions()
    const [[idle, lost], next] = [writers(2) as [TransactionalWriter, TransactionalWriter], writers(2)[1]!]
    await takeOver(idle, 1n)
    await takeOver(lost, 1n)
    await takeOver(next, 2n)
    await expect(lost.commit([], to(2n))).rejects.toSatisfy(isFenced)
    expect(idle.isOpen).toBe(false)
    const isLeft = async (): Promise<boolean> =>
      (await readTail(open.cluster, { topic: positionsTopic(group, input), partition: 0 })).recorded!.isLeft
    await idle.leave(to(1n), AbortSignal.abort())
    expect(await isLeft()).toBe(false)
    await idle.leave(to(1n), soon())
    await until(isLeft, 'the record')
    await next.commit([], to(3n))
  })

  test('which goes together with those of other partitions, and fails with them', async () => {
    await twoPartitions()
    const pair = writers(2)
    for (const each of pair) await takeOver(each, 0n)
    const coordinator = await writing.cluster.findGroupCoordinator({ groupId: group, coordinatorType: coordinatorTypes.transaction })
    const ends = vi.spyOn(coordinator, 'endTxn')
    await Promise.all(pair.map(async (each) => each.commit([], to(5n))))
    expect(ends).toHaveBeenCalledTimes(1)
    ends.mockRestore()
    const next = writer()
    await takeOver(next, 6n)
    const results = await Promise.allSettled(pair.map(async (each) => each.commit([], to(9n))))
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  })

  test('of a topic, and not of one that is made anew with its name', async () => {
    await fill(bus, input, 1, 20)
    await answer(20)
    await admin.deleteTopics({ topics: [input] })
    await until(async () => (await bus.topics.describe(input)) === undefined, 'the topic to be gone')
    await bus.topics.ensure([{ name: input, partitions: 1 }])
    await until(async () => (await groupOffset()) === -1, 'the group to have heard of it')
    await fill(bus, input, 1, 30, 20)
    await answer(30)
    expect(valuesOf(await readAll(bus, output))).toEqual(numbers(0, 50))
  })

  test('on as many partitions as its topic has, also when that has got more', async () => {
    await answer(0)
    await admin.createPartitions({ topicPartitions: [{ topic: input, count: 3 }] })
    const processor = await start()
    expect(await bus.topics.describe(positionsTopic(group, input))).toMatchObject({ partitions: 3 })
    expect(await processor.lags()).toHaveLength(3)
  })

  test('topics are asked for again where no broker has answered, which kafkajs takes for an answer', async () => {
    const { prototype } = createRequire(import.meta.url)('kafkajs/src/cluster/brokerPool.js') as {
      prototype: { withBroker(): Promise<unknown> }
    }
    const asked = vi.spyOn(prototype, 'withBroker').mockResolvedValueOnce(null)
    onTestFinished(() => asked.mockRestore())
    expect(await bus.topics.describe(input)).toEqual({ name: input, partitions: 1 })
    expect(asked).toHaveBeenCalledTimes(2)
  })

  test('fetches that find a connection closed open it once, and close it with the rest', async () => {
    const sockets: Socket[] = []
    const counted = new kafkajs.Kafka({
      brokers,
      logLevel: kafkajs.logLevel.NOTHING,
      socketFactory: ({ host, port, onConnect }) => {
        const socket = connect(port, host, onConnect)
        sockets.push(socket)
        return socket
      },
    })
    const side = openCluster(counted)
    const { cluster } = side
    await cluster.connect()
    await cluster.addMultipleTargetTopics([input])
    const broker = await cluster.findBroker({ nodeId: String(cluster.findTopicPartitionMetadata(input)[0]!.leader) })
    const fetch = { maxWaitMs: 0, maxBytes: 1 << 20, maxBytesPerPartition: 1 << 20, partitions: [{ topic: input, partition: 0, from: 0n }] }
    const [first, second] = await Promise.all([sendFetch(broker, fetch), sendFetch(broker, fetch)])
    expect(first).toEqual(second)
    await side.close()
    await until(() => sockets.every(({ closed }) => closed), `${sockets.length} sockets to close`)
  })
})
