import { MeshError } from '@spillway/core'
import { type FetchedPartition, sendFetch } from './fetch-request.ts'
import type { Cluster, FetchedMessage } from './kafkajs-cluster.ts'
import { logOffset } from './log-offset.ts'
import { readPosition, type RecordedPosition } from './position-record.ts'
import { visible } from './visible.ts'

/** A position is a record and its transaction's marker: this holds a few, also where some were aborted. */
const firstLook = 16n

/** The end of a partition of positions. */
export interface PositionsTail {
  /** The last that is committed; undefined where there is none. */
  readonly recorded: RecordedPosition | undefined
  /** Who may still commit one: who wrote the last, unless as its last, and whoever has a transaction open. */
  readonly writers: ReadonlySet<string>
  /** Whether some record is not decided yet. */
  readonly isOpen: boolean
  /** The offset of the last record, whatever became of it; -1 where none was seen. */
  readonly lastRecord: bigint
  /** Where the next record lands, if nobody else writes. */
  readonly end: bigint
}

interface Place {
  readonly topic: string
  readonly partition: number
}

/** Reads backwards from the end: one look, mostly. @throws where its leader is not ready */
export async function readTail(cluster: Cluster, place: Place): Promise<PositionsTail> {
  const [start, stable] = await Promise.all([logOffset(cluster, place, 'earliest'), logOffset(cluster, place, 'latest')])
  let recorded: RecordedPosition | undefined
  let lastRecord = -1n
  for (let from = stable, back = firstLook; recorded === undefined && from > start; back *= 2n) {
    from = stable - back > start ? stable - back : start
    const found = await decided(cluster, place, { from, end: stable })
    recorded = found.committed && readPosition(found.committed, nameOf(place))
    lastRecord = found.lastRecord
  }
  const open = await undecided(cluster, place, stable)
  const writers = new Set<string>()
  for (const { owner } of open.positions) if (owner !== undefined) writers.add(owner)
  if (recorded?.owner !== undefined && !recorded.isLeft) writers.add(recorded.owner)
  return { recorded, writers, isOpen: open.positions.length > 0, lastRecord: open.lastRecord ?? lastRecord, end: open.end }
}

/** Of what has been decided in a range: the last that was committed, and where the last record lies. */
async function decided(
  cluster: Cluster,
  place: Place,
  { from, end }: { readonly from: bigint; readonly end: bigint },
): Promise<{ readonly committed: FetchedMessage | undefined; readonly lastRecord: bigint }> {
  let committed: FetchedMessage | undefined
  let lastRecord = -1n
  for (let at = from; at < end;) {
    const { messages, aborted, next, lastStableOffset } = await fetchAt(cluster, place, at, false)
    // A leader that has just been elected may not know yet how far its log is committed; one that throttles us gives nothing.
    if (lastStableOffset < end) throw notReady(place, end)
    committed = visible(messages, aborted, at).findLast(({ offset }) => BigInt(offset) < end) ?? committed
    lastRecord = lastOf(messages.filter(({ offset }) => BigInt(offset) < end)) ?? lastRecord
    // Compaction may have left nothing at the end.
    if (next === undefined || next <= at) break
    at = next
  }
  return { committed, lastRecord }
}

/** Of what has been written since: records of which some are not decided, and where they end. */
async function undecided(
  cluster: Cluster,
  place: Place,
  from: bigint,
): Promise<{ readonly positions: readonly RecordedPosition[]; readonly lastRecord: bigint | undefined; readonly end: bigint }> {
  const positions: RecordedPosition[] = []
  let lastRecord: bigint | undefined
  for (let at = from; ;) {
    const { messages, next, highWatermark } = await fetchAt(cluster, place, at, true)
    if (highWatermark < at) throw notReady(place, at)
    const since = messages.filter(({ offset, isControlRecord }) => !isControlRecord && BigInt(offset) >= at)
    for (const message of since) positions.push(readPosition(message, nameOf(place)))
    lastRecord = lastOf(since) ?? lastRecord
    if (next !== undefined && next > at) at = next
    else if (at < highWatermark) throw notReady(place, highWatermark)
    if (at >= highWatermark) return { positions, lastRecord, end: at }
  }
}

type Fetched = Exclude<FetchedPartition, { readonly error: unknown }>

async function fetchAt(cluster: Cluster, place: Place, from: bigint, uncommitted: boolean): Promise<Fetched> {
  const { topic, partition } = place
  const leader = cluster.findTopicPartitionMetadata(topic).find(({ partitionId }) => partitionId === partition)?.leader
  const broker = await cluster.findBroker({ nodeId: String(leader ?? -1) })
  const limits = { maxWaitMs: 0, maxBytes: 1 << 20, maxBytesPerPartition: 1 << 20 }
  const [fetched] = await sendFetch(broker, { ...limits, uncommitted, partitions: [{ topic, partition, from }] })
  if (fetched === undefined) throw notReady(place, from)
  if ('error' in fetched) throw fetched.error
  return fetched
}

function lastOf(messages: readonly FetchedMessage[]): bigint | undefined {
  const last = messages.findLast(({ isControlRecord }) => !isControlRecord)
  return last === undefined ? undefined : BigInt(last.offset)
}

function nameOf({ topic, partition }: Place): string {
  return `"${topic}"/${partition}`
}

function notReady({ topic, partition }: Place, end: bigint): MeshError {
  return new MeshError('UNAVAILABLE', `the leader of partition ${partition} of "${topic}" does not give its records up to ${end} yet`)
}
