import { MeshError } from '@spillway/core'
import type { Handler, Lag, ProcessOptions, Processor, ProcessorEvent } from '../port.ts'
import { connectPatiently } from './connect.ts'
import { asksToComeAgain, isBrokerAway, isMembershipLost, kafkaError, protocolType } from './errors.ts'
import { Fetcher } from './fetcher.ts'
import { GroupCommit } from './group-commit.ts'
import { type Assignment, GroupMember } from './group-member.ts'
import { GroupOffsets } from './group-offsets.ts'
import type { OpenCluster } from './kafkajs-cluster.ts'
import { PartitionWorker } from './partition-worker.ts'
import { beatsPerTelling, heartbeatIntervalMs, MembershipLoop } from './membership-loop.ts'
import { positionsTopic } from './position-record.ts'
import { partitionCount } from './produce.ts'
import { equalPartitions } from '../equal-partitions.ts'
import { Reachability } from '../reachability.ts'
import { Slots } from '../slots.ts'
import { TopicIds } from './topic-id.ts'
import type { TopicLimits } from './topic-limits.ts'

export interface KafkaProcessorOptions {
  readonly process: ProcessOptions
  readonly handle: Handler
  readonly open: () => OpenCluster
  readonly sessionTimeoutMs: number
  readonly limits: TopicLimits
  /** Makes the topic of a group's positions where there is none. */
  ensurePositions(topic: string, partitions: number): Promise<void>
  /** Told once, when it has been drained. */
  onDrained(processor: Processor): void
}

const defaultDrainGraceMs = 10_000

/** A member of a consumer group, with a worker on each partition that it owns. */
export class KafkaProcessor implements Processor {
  readonly #options: KafkaProcessorOptions
  readonly #reading: OpenCluster
  readonly #membership: OpenCluster
  readonly #writing: OpenCluster
  /** A connection serves one request after the other: positions of several partitions are looked up side by side. */
  readonly #finding: readonly OpenCluster[]
  readonly #topicIds = new TopicIds()
  readonly #transactions: GroupCommit
  readonly #workers = new Map<string, PartitionWorker>()
  /** Of workers whose partition has gone: another on the same one begins when they have left it. */
  readonly #leaving = new Map<string, Promise<void>>()
  readonly #groupOffsets: GroupOffsets
  readonly #fetcher: Fetcher
  readonly #slots: Slots
  readonly #broker: Reachability
  /** Ends waiting for coordinators. */
  readonly #stop = new AbortController()
  readonly #joined = Promise.withResolvers<void>()
  #member: GroupMember | undefined
  #owned: readonly number[] = []
  #failedTellings = 0
  #membershipLoop: MembershipLoop | undefined
  #drained: Promise<void> | undefined

  constructor(options: KafkaProcessorOptions) {
    const { topics, concurrency, maxSliceBytes } = options.process
    if (topics.length === 0) throw new MeshError('INVALID_ARGUMENT', 'a processor needs a topic to read', { field: 'topics' })
    this.#options = options
    this.#broker = new Reachability(
      (event) => this.#event(event),
      (error) => kafkaError(error, `group "${options.process.group}"`),
    )
    this.#reading = options.open()
    this.#membership = options.open()
    this.#writing = options.open()
    this.#finding = Array.from({ length: Math.max(1, Math.min(concurrency, 4)) }, () => options.open())
    this.#transactions = new GroupCommit({
      cluster: this.#writing.cluster,
      group: options.process.group,
      batchBytes: (topic) => options.limits.batchBytes(topic),
      signal: this.#stop.signal,
    })
    this.#groupOffsets = new GroupOffsets(this.#finding[0]!.cluster, options.process.group, options.process.stamp)
    this.#slots = new Slots(concurrency)
    this.#fetcher = new Fetcher(this.#reading.cluster, {
      // What a partition that has just been taken over may wait for, and a drain. Requests that bring nothing cost the broker, and us, most of what an idle mesh takes.
      maxWaitMs: 100,
      maxBytesPerPartition: Math.min(1 << 20, Math.max(1 << 16, maxSliceBytes)),
      maxBytes: 4 << 20,
      onFailure: (error) => this.#broker.away(error),
      onSuccess: () => this.#broker.back(),
    })
  }

  async start(signal: AbortSignal): Promise<void> {
    const { sessionTimeoutMs } = this.#options
    const { topics, group } = this.#options.process
    try {
      const reading = this.#reading.cluster
      const partitions = await connectPatiently(
        reading,
        signal,
        async () => {
          const found = equalPartitions(topics, await Promise.all(topics.map((topic) => partitionCount(reading, topic))))
          for (const topic of topics) await this.#options.ensurePositions(positionsTopic(group, topic), found)
          return found
        },
        (error) => this.#broker.away(error),
      )
      this.#broker.back()
      this.#member = new GroupMember(this.#membership.cluster, {
        group,
        topics,
        partitions,
        sessionTimeoutMs,
        rebalanceTimeoutMs: sessionTimeoutMs,
      })
      this.#membershipLoop = new MembershipLoop({
        member: this.#member,
        broker: this.#broker,
        owned: () => this.#owned,
        own: (assignment) => this.#own(assignment),
        tell: () => this.#tellGroup(),
        isDraining: () => this.#drained !== undefined,
      })
      this.#membershipLoop.start()
      await untilAborted(
        this.#joined.promise.then(() => Promise.all([...this.#workers.values()].map((worker) => worker.found))),
        signal,
      )
    } catch (error) {
      await this.drain()
      throw error
    }
  }

  async lags(): Promise<readonly Lag[]> {
    const byTopic = Map.groupBy(this.#workers.values(), (worker) => worker.topic)
    if (byTopic.size === 0) return []
    const request = Array.from(byTopic, ([topic, workers]) => ({
      topic,
      partitions: workers.map(({ partition }) => ({ partition })),
      fromBeginning: false,
    }))
    try {
      const ends = await this.#reading.cluster.fetchTopicsOffset(request)
      return ends.flatMap(({ topic, partitions }) =>
        partitions.flatMap(({ partition, offset }) => {
          const worker = this.#workers.get(`${topic}/${partition}`)
          return worker === undefined ? [] : [{ topic, partition, committedOffset: worker.committedOffset, endOffset: BigInt(offset) }]
        }),
      )
    } catch (error) {
      throw kafkaError(error, 'reading the ends of partitions')
    }
  }

  async drain(): Promise<void> {
    return (this.#drained ??= this.#drain())
  }

  async #drain(): Promise<void> {
    const graceMs = this.#options.process.drainGraceMs ?? defaultDrainGraceMs
    await Promise.all([...this.#workers.values()].map(async (worker) => worker.finish(graceMs)))
    await Promise.all(this.#leaving.values())
    this.#stop.abort()
    await this.#membershipLoop?.stop()
    this.#joined.resolve()
    const fetched = this.#fetcher.stop()
    await this.#tellGroup()
    // A member that cannot say goodbye is missed at the end of its session.
    await this.#member?.leave().catch((error: unknown) => this.#broker.away(error))
    await fetched
    await Promise.all([this.#reading, this.#membership, this.#writing, ...this.#finding].map(async (open) => open.close()))
    this.#options.onDrained(this)
  }

  /** Tells the group how far its partitions are, where that is news: for tools, so a failure is nothing that a slice waits for, and the next time makes up for it. */
  async #tellGroup(): Promise<void> {
    const member = this.#member?.membership
    if (member === undefined) return
    const offsets = [...this.#workers.values()].map((worker) => worker.recorded).filter((offset) => offset !== undefined)
    try {
      await this.#groupOffsets.tell(member, offsets)
      this.#failedTellings = 0
    } catch (error) {
      // Of a rebalance or a lost membership the next heartbeat hears too; a coordinator that is not ready yet is asked the next time.
      if (isMembershipLost(error) || protocolType(error) === 'REBALANCE_IN_PROGRESS' || asksToComeAgain(error)) return
      if (isBrokerAway(error)) return this.#broker.away(error)
      if (++this.#failedTellings > 1) return
      const { topic, partition } = offsets[0]!
      const delayMs = heartbeatIntervalMs * beatsPerTelling
      this.#event({ kind: 'retrying', topic, partition, attempt: 1, delayMs, error: kafkaError(error, 'telling the group its offsets') })
    }
  }

  /**
   * Workers for what is newly owned, an end to what is not. A worker that stays is left to its work: what another would have begun
   * on its partition meanwhile has fenced it.
   */
  #own({ partitions, moving }: Assignment): void {
    const { topics } = this.#options.process
    const pairs = (numbers: readonly number[]): { topic: string; partition: number }[] =>
      topics.flatMap((topic) => numbers.map((partition) => ({ topic, partition })))
    const revoked = pairs(this.#owned.filter((partition) => !partitions.includes(partition)))
    const assigned = pairs(partitions.filter((partition) => !this.#owned.includes(partition)))
    this.#owned = partitions
    for (const { topic, partition } of revoked) {
      const place = `${topic}/${partition}`
      const left = this.#workers
        .get(place)!
        .leave()
        .finally(() => this.#leaving.delete(place))
      this.#leaving.set(place, left)
      this.#workers.delete(place)
    }
    if (revoked.length > 0) this.#event({ kind: 'revoked', partitions: revoked })
    for (const { topic, partition } of assigned) this.#begin(topic, partition, moving.includes(partition))
    if (assigned.length > 0) this.#event({ kind: 'assigned', partitions: assigned })
    this.#joined.resolve()
  }

  #begin(topic: string, partition: number, isMoving: boolean): void {
    const { process, handle, limits } = this.#options
    const worker = new PartitionWorker({
      topic,
      partition,
      isMoving,
      process,
      handle,
      slots: this.#slots,
      fetcher: this.#fetcher,
      reading: this.#finding[partition % this.#finding.length]!.cluster,
      topicIds: this.#topicIds,
      transactions: this.#transactions,
      limits,
      groupOffsets: this.#groupOffsets,
      tellGroup: async (offset) => {
        const member = this.#member?.membership
        if (member === undefined) throw new MeshError('ABORTED', 'this process has left its group')
        await this.#groupOffsets.tell(member, [offset])
      },
      confirmOwnership: async () => this.#membershipLoop?.confirm(),
      onAway: (error) => this.#broker.away(error),
      onBack: () => this.#broker.back(),
      onEvent: (event) => this.#event(event),
    })
    const place = `${topic}/${partition}`
    this.#workers.set(place, worker)
    // One that is still leaving writes its last position: found before that, ours would not be the last.
    const leaving = this.#leaving.get(place)
    if (leaving === undefined) worker.start()
    else void leaving.then(() => worker.start())
  }

  #event(event: ProcessorEvent): void {
    this.#options.process.onEvent?.(event)
  }
}

async function untilAborted(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  const aborted = Promise.withResolvers<never>()
  const refuse = (): void =>
    aborted.reject(new MeshError('UNAVAILABLE', 'the Kafka group could not be joined in time', { cause: signal.reason }))
  if (signal.aborted) refuse()
  signal.addEventListener('abort', refuse, { once: true })
  try {
    await Promise.race([work, aborted.promise])
  } finally {
    signal.removeEventListener('abort', refuse)
  }
}
