import { MeshError } from '@spillway/core'
import { sendFetch } from './fetch-request.ts'
import type { Cluster, FetchedMessage } from './kafkajs-cluster.ts'
import { readPosition, type RecordedPosition } from './position-record.ts'
import { visible } from './visible.ts'

/** A position is a record and its transaction's marker: this holds a few, also where some were aborted. */
const firstLook = 16n

export interface LastPosition {
  /** Undefined where the partition has none. */
  readonly recorded: RecordedPosition | undefined
  /** Where the next record goes, if nobody else writes there. */
  readonly end: bigint
}

/**
 * The last committed record of a partition of positions, found from its end backwards: one look, mostly. To be called when its only writer has no
 * transaction open, so that all before the end is decided. @throws where its leader is not ready
 */
export async function lastPosition(cluster: Cluster, topic: string, partition: number): Promise<LastPosition> {
  const [start, end] = await Promise.all([endOf(cluster, topic, partition, true), endOf(cluster, topic, partition, false)])
  for (let from = end, back = firstLook; from > start; back *= 2n) {
    from = end - back > start ? end - back : start
    const message = await lastVisible(cluster, { topic, partition, from, end })
    if (message !== undefined) return { recorded: readPosition(message, `"${topic}"/${partition}`), end }
  }
  return { recorded: undefined, end }
}

/** The cluster reads committed records: its latest offset is the last stable one. */
async function endOf(cluster: Cluster, topic: string, partition: number, fromBeginning: boolean): Promise<bigint> {
  const [found] = await cluster.fetchTopicsOffset([{ topic, partitions: [{ partition }], fromBeginning }])
  return BigInt(found!.partitions[0]!.offset)
}

interface Range {
  readonly topic: string
  readonly partition: number
  readonly from: bigint
  readonly end: bigint
}

async function lastVisible(cluster: Cluster, { topic, partition, from, end }: Range): Promise<FetchedMessage | undefined> {
  const leader = cluster.findTopicPartitionMetadata(topic).find(({ partitionId }) => partitionId === partition)?.leader
  const broker = await cluster.findBroker({ nodeId: String(leader ?? -1) })
  const limits = { maxWaitMs: 0, maxBytes: 1 << 20, maxBytesPerPartition: 1 << 20 }
  let last: FetchedMessage | undefined
  for (let at = from; at < end;) {
    const [fetched] = await sendFetch(broker, { ...limits, partitions: [{ topic, partition, from: at }] })
    if (fetched !== undefined && 'error' in fetched) throw fetched.error
    // A leader that has just been elected may not know yet how far its log is committed; one that throttles us gives nothing.
    if (fetched === undefined || fetched.lastStableOffset < end)
      throw new MeshError('UNAVAILABLE', `the leader of partition ${partition} of "${topic}" does not give its records up to ${end} yet`)
    last = visible(fetched.messages, fetched.aborted, at).findLast(({ offset }) => BigInt(offset) < end) ?? last
    // Compaction may have left nothing at the end.
    if (fetched.next === undefined || fetched.next <= at) break
    at = fetched.next
  }
  return last
}
