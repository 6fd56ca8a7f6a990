import { randomUUID } from 'node:crypto'
import kafkajs from 'kafkajs'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { sharedKafka } from '../../../test/brokers/shared.ts'
import { sendFetch } from '../src/kafka/fetch-request.ts'
import { GroupCommit } from '../src/kafka/group-commit.ts'
import { GroupMember } from '../src/kafka/group-member.ts'
import { KafkaBus } from '../src/kafka/kafka-bus.ts'
import { KafkaProcessor } from '../src/kafka/kafka-processor.ts'
import { type FetchedMessage, type OpenCluster, openCluster } from '../src/kafka/kafkajs-cluster.ts'
import { repairKafkajs } from '../src/kafka/kafkajs-repairs.ts'
import { readTail } from '../src/kafka/position-log.ts'
import { positionsTopic } from '../src/kafka/position-record.ts'
import { TopicLimits } from '../src/kafka/topic-limits.ts'
import type { Handler, ProcessorEvent } from '../src/port.ts'
import { recordsOf } from '../src/records.ts'
import { copyTo, fill, gate, keysByPartition, readAll, sliceRows, until, valuesOf } from './conformance/fixture.ts'

const kafka = await sharedKafka()

describe.skipIf('skipped' in kafka)('Partitions of one process on Kafka', () => {
  const partitions = 2
  const brokers = 'skipped' in kafka ? [] : [...kafka.brokers]
  const client = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING })
  let bus: KafkaBus
  let looking: OpenCluster
  let [group, input, output] = ['', '', '']
  let ends: (() => Promise<unknown>)[] = []

  beforeAll(async () => {
    repairKafkajs()
    bus = new KafkaBus({ brokers, sessionTimeoutMs: 6000 })
    await bus.start(AbortSignal.timeout(30_000))
    looking = openCluster(client)
    await looking.cluster.connect()
  })
  afterAll(async () => {
    await bus.drain()
    await looking.close()
    if (!('skipped' in kafka)) await kafka.stop()
  })
  beforeEach(async () => {
    const id = randomUUID().slice(0, 8)
    ;[group, input, output] = [`group-${id}`, `in-${id}`, `out-${id}`]
    await bus.topics.ensure([input, output].map((name) => ({ name, partitions })))
  })
  afterEach(async () => {
    for (const end of ends.toReversed()) await end()
    ends = []
  })

  const process = () =>
    ({ topics: [input], group, from: 'earliest', maxSliceRecords: 50, maxSliceBytes: 1 << 20, concurrency: partitions }) as const
  /** All that was written there, of a small log: the markers of its last transaction may still be on their way. */
  const log = async (topic: string, partition: number): Promise<readonly FetchedMessage[]> => {
    const { cluster } = looking
    await cluster.addMultipleTargetTopics([topic])
    const broker = await cluster.findBroker({ nodeId: String(cluster.findTopicPartitionMetadata(topic)[partition]!.leader) })
    const limits = { maxWaitMs: 0, maxBytes: 1 << 20, maxBytesPerPartition: 1 << 20 }
    const [fetched] = await sendFetch(broker, { ...limits, uncommitted: true, partitions: [{ topic, partition, from: 0n }] })
    if (fetched === undefined || 'error' in fetched) throw new Error(`cannot read "${topic}"/${partition}`, { cause: fetched?.error })
    return fetched.messages.filter(({ isControlRecord }) => !isControlRecord)
  }
  /** Whose transaction a value came in: a process's take turns. */
  const producerOf = async (partition: number, value: string): Promise<string> =>
    (await log(output, partition)).findLast((message) => message.value?.toString() === value)!.batchContext.producerId

  /** Ends the transactions of whoever has the first partition: its next commit fails. */
  const fenceOwner = async (): Promise<void> => {
    const { cluster } = looking
    const topic = positionsTopic(group, input)
    await cluster.addMultipleTargetTopics([topic])
    let owner: string | undefined
    const isDecided = async (): Promise<boolean> =>
      (owner = (await readTail(cluster, { topic, partition: 0 })).recorded?.owner) !== undefined
    await until(isDecided, 'the first position')
    const another = new GroupCommit({ cluster, group, batchBytes: () => 1_000_000, signal: AbortSignal.timeout(20_000) })
    await another.fence(owner!)
  }

  test('are committed together, but for a slice whose commit has failed: that is committed alone, once', async () => {
    let met = gate()
    let waiting = 0
    let fence: (() => Promise<void>) | undefined
    /** Both answer at a time. */
    const meeting: Handler = async (slice, signal) => {
      const meet = met
      if (++waiting % partitions === 0) {
        await fence?.()
        fence = undefined
        met = gate()
        meet.open()
      }
      await meet.opened
      return copyTo(output)(slice, signal)
    }
    const running = bus.process(process(), meeting)
    ends.push(() => running.drain())
    await running.start(AbortSignal.timeout(30_000))
    const wereTogether = async (round: number): Promise<boolean> => {
      await fill(bus, input, partitions, 1, round)
      const isDone = async (): Promise<boolean> =>
        (await running.lags()).filter(({ committedOffset }) => committedOffset === BigInt(round + 1)).length === partitions
      await until(isDone, `round ${round}`)
      const [first, second] = await Promise.all([0, 1].map(async (partition) => producerOf(partition, `p${partition}-${round}`)))
      return first === second
    }
    expect(await wereTogether(0)).toBe(true)
    fence = fenceOwner
    expect(await wereTogether(1)).toBe(false)
    expect(waiting).toBe(3 * partitions)
    expect(await wereTogether(2)).toBe(true)
  })

  test('one that comes back to the process while it still leaves it is begun when it has left', async () => {
    const coming = 1
    const [keyOfStaying] = keysByPartition(partitions) as [string, string]
    const lateOutput = `${output}-late`
    const answer = gate()
    let isWaiting = false
    const open = (): OpenCluster => {
      const opened = openCluster(client)
      const { cluster } = opened
      const [known, refresh] = [cluster.findTopicPartitionMetadata.bind(cluster), cluster.refreshMetadata.bind(cluster)]
      // Who does not know this topic is told of it late: the slice has its outputs, and asks where they are to go, when its partition is taken.
      let isToWait = false
      cluster.findTopicPartitionMetadata = (topic) => {
        const found = known(topic)
        isToWait = topic === lateOutput && found.length === 0
        return found
      }
      cluster.refreshMetadata = async () => {
        isWaiting ||= isToWait
        if (isToWait) await answer.opened
        return refresh()
      }
      return opened
    }
    const calls: number[] = []
    const handle: Handler = async (slice, signal) => {
      calls.push(slice.partition)
      return copyTo(slice.partition === coming ? lateOutput : output)(slice, signal)
    }
    const events: ProcessorEvent[] = []
    const processor = new KafkaProcessor({
      process: { ...process(), onEvent: (event) => void events.push(event) },
      handle,
      open,
      sessionTimeoutMs: 6000,
      limits: new TopicLimits(client.admin(), { maxRecordBytes: 1_000_000, maxBatchBytes: 1_001_024 }),
      ensurePositions: async (topic, count) => bus.topics.ensure([{ name: topic, partitions: count }]),
      onDrained: () => {},
    })
    ends.push(() => processor.drain())
    await processor.start(AbortSignal.timeout(30_000))
    ends.push(() => Promise.resolve(answer.open()))
    await bus.topics.ensure([{ name: lateOutput, partitions }])
    const isAt = (partition: number, offset: number) => async (): Promise<boolean> =>
      (await processor.lags()).some((lag) => lag.partition === partition && lag.committedOffset === BigInt(offset))
    const times = (kind: 'assigned' | 'revoked'): number =>
      events.filter((event) => event.kind === kind && event.partitions.some(({ partition }) => partition === coming)).length

    await fill(bus, input, partitions, 10)
    await until(() => isWaiting, 'the slice whose outputs wait')
    const others = openCluster(client)
    ends.push(() => others.close())
    const timeouts = { sessionTimeoutMs: 20_000, rebalanceTimeoutMs: 20_000 }
    const other = new GroupMember(others.cluster, { group, topics: [input], partitions, ...timeouts })
    expect(await other.join([])).toEqual({ partitions: [coming], moving: [coming] })
    await until(() => times('revoked') === 1, 'it to lose the partition')
    await other.leave()
    await until(() => times('assigned') === 2, 'it to get the partition back')
    // Long enough for the other one to be taken over many times.
    for (let sent = 10; sent < 30; sent++) {
      await bus.publish(input, recordsOf([{ key: keyOfStaying, value: `p0-${sent}` }]))
      await until(isAt(0, sent + 1), `offset ${sent + 1} of the partition that stays`)
    }
    expect(calls.filter((partition) => partition === coming)).toHaveLength(1)
    answer.open()
    await until(isAt(coming, 10), 'the partition that came back')
    await processor.drain()

    const positions = (await log(positionsTopic(group, input), coming)).map(
      ({ value }) => JSON.parse(value!.toString()) as { offset: string; left?: boolean },
    )
    expect(positions.map(({ offset, left = false }) => [Number(offset), left])).toEqual([
      [0, false],
      [0, true],
      [0, false],
      [10, false],
      [10, true],
    ])
    expect(valuesOf(await readAll(bus, lateOutput))).toEqual(Array.from({ length: 10 }, (_, i) => `p1-${i}`))
    expect(events.map(({ kind }) => kind)).toEqual(['assigned', 'revoked', 'assigned'])
  })

  test('that were idle while a commit of another has failed are left in order all the same: who takes them over fences nobody', async () => {
    const [keyOfStaying] = keysByPartition(partitions) as [string, string]
    const hold = gate()
    const events: ProcessorEvent[] = []
    const held: number[] = []
    const handle: Handler = async (slice, signal) => {
      if (valuesOf(sliceRows(slice)).includes('held')) {
        held.push(slice.partition)
        await hold.opened
      }
      return copyTo(output)(slice, signal)
    }
    const running = bus.process({ ...process(), onEvent: (event) => void events.push(event) }, handle)
    ends.push(() => running.drain())
    await running.start(AbortSignal.timeout(30_000))
    ends.push(() => Promise.resolve(hold.open()))
    const isAt = (offset: number) => async (): Promise<boolean> =>
      (await running.lags()).some((lag) => lag.partition === 0 && lag.committedOffset === BigInt(offset))
    const publish = (value: string): Promise<unknown> => bus.publish(input, recordsOf([{ key: keyOfStaying, value }]))

    await fenceOwner()
    await publish('fenced')
    await until(isAt(1), 'the slice whose commit has failed')
    expect(events.filter(({ kind }) => kind === 'retrying')).toHaveLength(1)

    await publish('held')
    await until(() => held.length === 1, 'a slice in hand')
    const other = new KafkaBus({ brokers, sessionTimeoutMs: 6000 })
    await other.start(AbortSignal.timeout(30_000))
    ends.push(() => other.drain())
    await other.process(process(), copyTo(output)).start(AbortSignal.timeout(30_000))
    hold.open()
    await until(isAt(2), 'the slice in hand')
    const positions = (await log(positionsTopic(group, input), 1)).map(
      ({ value }) => JSON.parse(value!.toString()) as { owner: string; left?: boolean },
    )
    const [before, , after] = positions.map(({ owner }) => owner)
    expect(positions.map(({ owner, left = false }) => [owner, left])).toEqual([
      [before, false],
      [before, true],
      [after, false],
    ])
    expect(held).toEqual([0])
    expect(events.filter(({ kind }) => kind === 'retrying')).toHaveLength(1)
  })
})
