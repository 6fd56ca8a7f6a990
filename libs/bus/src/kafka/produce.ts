import { MeshError } from '@spillway/core'
import type { Records, Write } from '../port.ts'
import { choosePartitions, concatRecords, recordBytesLimit, type RoundRobin, sliceRecords, takeRecords } from '../records.ts'
import { protocolType } from './errors.ts'
import { type Broker, type Cluster, type ProducedTopics, sendProduce } from './kafkajs-cluster.ts'
import { encodeRecordBatch } from './record-batch.ts'

/** What a record takes in a batch beyond its key, value and headers, at most: lengths, deltas and a few headers' lengths (Kafka protocol, Record). */
const recordOverheadBytes = 32

/** Records that go to one partition as one record batch. */
export interface ProduceBatch {
  readonly topic: string
  readonly partition: number
  readonly records: Records
  /** Of each record, its index in the records that it came from. */
  readonly indices: readonly number[]
  readonly bytes: number
}

/** A batch as the broker knows it: sent again with the same sequence it is recognised. */
export interface SequencedBatch {
  readonly batch: ProduceBatch
  readonly firstSequence: number
}

export interface ProducerIdentity {
  readonly producerId: string
  readonly producerEpoch: number
  readonly transactionalId?: string
}

/** The topic's count of partitions. @throws MeshError NOT_FOUND */
export async function partitionCount(cluster: Cluster, topic: string): Promise<number> {
  try {
    await cluster.addMultipleTargetTopics([topic])
    // An answer to an earlier request, by another broker, may have come last: it does not know of the topic.
    if (cluster.findTopicPartitionMetadata(topic).length === 0) await cluster.refreshMetadata()
  } catch (error) {
    if (protocolType(error) !== 'UNKNOWN_TOPIC_OR_PARTITION') throw error
    throw new MeshError('NOT_FOUND', `topic "${topic}" does not exist: create it, or check the name`, { cause: error, field: 'topic' })
  }
  const { length } = cluster.findTopicPartitionMetadata(topic)
  if (length === 0) throw new MeshError('UNAVAILABLE', `the brokers do not tell the partitions of topic "${topic}" yet`)
  return length
}

/** A write's records by partition, in batches that the broker takes: each at most `maxBatchBytes`, a larger record alone. @throws MeshError INVALID_ARGUMENT where the partition is not there. */
export function batchesOf(write: Write, partitions: number, turn: RoundRobin, maxBatchBytes: number): ProduceBatch[] {
  const { topic, partition, records } = write
  if (partition !== undefined && !(partition >= 0 && partition < partitions))
    throw new MeshError('INVALID_ARGUMENT', `topic "${topic}" has no partition ${partition}: it has ${partitions}`, { field: 'partition' })
  if (partition !== undefined) return split(topic, partition, records, range(records.count), maxBatchBytes)
  const chosen = choosePartitions(records, partitions, turn)
  const byPartition = new Map<number, number[]>()
  for (let i = 0; i < chosen.length; i++) {
    const indices = byPartition.get(chosen[i]!)
    if (indices === undefined) byPartition.set(chosen[i]!, [i])
    else indices.push(i)
  }
  return [...byPartition].flatMap(([to, indices]) => split(topic, to, records, indices, maxBatchBytes))
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i)
}

function split(topic: string, partition: number, records: Records, indices: readonly number[], maxBatchBytes: number): ProduceBatch[] {
  const batches: ProduceBatch[] = []
  let start = 0
  let bytes = 0
  const close = (end: number): void => {
    if (end === start) return
    const taken = indices.slice(start, end)
    const [first, last] = [taken[0]!, taken.at(-1)!]
    const consecutive = last - first === taken.length - 1
    batches.push({
      topic,
      partition,
      records: consecutive ? sliceRecords(records, first, last + 1) : takeRecords(records, taken),
      indices: taken,
      bytes,
    })
    start = end
    bytes = 0
  }
  for (let i = 0; i < indices.length; i++) {
    const size = recordBytesLimit(records, indices[i]!) + recordOverheadBytes
    if (bytes + size > maxBatchBytes) close(i)
    bytes += size
  }
  close(indices.length)
  return batches
}

/** The next sequence number of each partition that a producer writes to. */
export class Sequences {
  readonly #next = new Map<string, number>()

  /** The batch's first sequence; the next batch's follows it. Wraps as Apache Kafka's DefaultRecordBatch.incrementSequence. */
  take(batch: ProduceBatch): SequencedBatch {
    const name = `${batch.topic}/${batch.partition}`
    const firstSequence = this.#next.get(name) ?? 0
    const next = firstSequence + batch.records.count
    this.#next.set(name, next > 0x7fffffff ? next - 0x80000000 : next)
    return { batch, firstSequence }
  }

  /** Undoes `take`, last first, for a batch that is certainly not in the log. */
  giveBack({ batch, firstSequence }: SequencedBatch): void {
    this.#next.set(`${batch.topic}/${batch.partition}`, firstSequence)
  }
}

/** Writes batches, at most one of each partition, and gives each one's base offset. Rejects where any was refused; others may then be in the log. */
export async function produce(cluster: Cluster, identity: ProducerIdentity, batches: readonly SequencedBatch[]): Promise<bigint[]> {
  const byLeader = new Map<number, SequencedBatch[]>()
  for (const sequenced of batches) {
    const { topic, partition } = sequenced.batch
    const leader = cluster.findTopicPartitionMetadata(topic).find(({ partitionId }) => partitionId === partition)?.leader
    if (leader === undefined || leader < 0) throw new MeshError('UNAVAILABLE', `partition ${partition} of "${topic}" has no leader`)
    const led = byLeader.get(leader)
    if (led === undefined) byLeader.set(leader, [sequenced])
    else led.push(sequenced)
  }
  const baseOffsets = new Map<string, bigint>()
  await Promise.all(
    [...byLeader].map(async ([leader, led]) => {
      const broker = await cluster.findBroker({ nodeId: String(leader) })
      for (const { topicName, partitions } of (await produceTo(broker, identity, led)).topics)
        for (const { partition, baseOffset } of partitions) baseOffsets.set(`${topicName}/${partition}`, BigInt(baseOffset))
    }),
  )
  return batches.map(({ batch }) => baseOffsets.get(`${batch.topic}/${batch.partition}`)!)
}

function produceTo(broker: Broker, identity: ProducerIdentity, batches: readonly SequencedBatch[]): Promise<ProducedTopics> {
  const { producerEpoch, transactionalId = null } = identity
  const producer = { producerId: BigInt(identity.producerId), producerEpoch, transactional: transactionalId !== null }
  const nowMs = Date.now()
  const encoded = batches.map(({ batch, firstSequence }) => ({
    topic: batch.topic,
    partition: batch.partition,
    records: encodeRecordBatch(batch.records, { ...producer, firstSequence }, nowMs),
  }))
  return sendProduce(broker, { transactionalId, timeoutMs: 30_000, batches: encoded })
}

/** As few batches as their topics' limits allow, each partition's records in their order. One that stays alone is given as it is. */
export function merged(batches: readonly ProduceBatch[], maxBatchBytes: (topic: string) => number): ProduceBatch[] {
  const result: ProduceBatch[] = []
  for (const of of Map.groupBy(batches, ({ topic, partition }) => `${topic}/${partition}`).values()) {
    const limit = maxBatchBytes(of[0]!.topic)
    let [start, bytes] = [0, 0]
    for (const [i, batch] of of.entries()) {
      if (i > start && bytes + batch.bytes > limit) {
        result.push(mergedBatch(of.slice(start, i), bytes))
        ;[start, bytes] = [i, 0]
      }
      bytes += batch.bytes
    }
    result.push(mergedBatch(of.slice(start), bytes))
  }
  return result
}

/** Batches of one partition as one, whose `indices` say nothing where there are several. */
export function mergedBatch(batches: readonly ProduceBatch[], bytes: number): ProduceBatch {
  const [first] = batches as [ProduceBatch]
  if (batches.length === 1) return first
  return {
    topic: first.topic,
    partition: first.partition,
    records: concatRecords(batches.map(({ records }) => records)),
    indices: [],
    bytes,
  }
}

/** The batches in rounds, so that a round has one of each partition at most and keeps their order. */
export function rounds(batches: readonly ProduceBatch[]): ProduceBatch[][] {
  const seen = new Map<string, number>()
  const result: ProduceBatch[][] = []
  for (const batch of batches) {
    const name = `${batch.topic}/${batch.partition}`
    const round = seen.get(name) ?? 0
    seen.set(name, round + 1)
    ;(result[round] ??= []).push(batch)
  }
  return result
}
