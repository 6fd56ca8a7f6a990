import { MeshError } from '@spillway/core'
import kafkajs, { type Admin, type ITopicConfig, type ITopicMetadata } from 'kafkajs'
import type { TopicAdmin, TopicDescription, TopicSettings } from '../port.ts'
import { backoffMs, pause } from '../backoff.ts'
import { isBrokerAway, kafkaError, protocolType } from './errors.ts'

/** Kafka's own limit of a record batch where a topic sets none (`message.max.bytes`). */
const defaultMaxBatchBytes = 1_048_588

/** How often a request is made while the broker is away: 50 ms to 1 s apart, 4 s in all. */
const attempts = 8
/** The same for a topic that was just made: an overloaded broker has been seen to take more than 4 s to know it, and a process would end for that; 25 s in all. */
const attemptsWhenMade = 30

/** The last record of each partition is enough; a busy partition writes about 10 kB/s, and only whole segments that are closed are compacted. */
const positionsConfig = [
  { name: 'cleanup.policy', value: 'compact' },
  { name: 'segment.bytes', value: String(4 << 20) },
]

export class KafkaTopicAdmin implements TopicAdmin {
  readonly #admin: Admin
  readonly #maxBatchBytes: number

  constructor(admin: Admin, maxBatchBytes: number) {
    this.#admin = admin
    this.#maxBatchBytes = maxBatchBytes
  }

  async ensure(topics: readonly TopicSettings[]): Promise<void> {
    const existing = new Map((await this.list()).map(({ name, partitions }) => [name, partitions]))
    const missing = topics.filter(({ name }) => !existing.has(name))
    if (missing.length > 0) {
      const created = missing.map((settings) => ({
        topic: settings.name,
        numPartitions: settings.partitions,
        configEntries: this.#configEntries(settings),
      }))
      await this.#create(created, `creating topics ${missing.map(({ name }) => name).join(', ')}`)
    }
    for (const { name, partitions } of topics) {
      const found = existing.get(name) ?? (await this.describe(name))?.partitions
      if (found !== partitions)
        throw new MeshError(
          'FAILED_PRECONDITION',
          `topic "${name}" has ${found ?? 'no'} partitions, expected ${partitions}: recreate it, or set partitions to ${found ?? partitions}`,
          { field: 'partitions' },
        )
    }
  }

  /** A topic of a group's positions, with at least as many partitions. @throws MeshError PERMISSION_DENIED where it is missing and may not be made */
  async ensurePositions(topic: string, partitions: number): Promise<void> {
    const what = `making "${topic}", which keeps the group's positions`
    const found = (await this.describe(topic))?.partitions
    if (found === undefined) await this.#create([{ topic, numPartitions: partitions, configEntries: positionsConfig }], what)
    else if (found < partitions) {
      const grow = (): Promise<unknown> => this.#admin.createPartitions({ topicPartitions: [{ topic, count: partitions }] })
      await this.#request(what, grow).catch(async (error: unknown) => {
        // Another process was faster.
        if ((await this.describe(topic))?.partitions !== partitions) throw error
      })
    }
  }

  async #create(topics: ITopicConfig[], what: string): Promise<void> {
    // False where another process was faster; what it made is as good as what was there before.
    await this.#request(what, () => this.#admin.createTopics({ topics, waitForLeaders: true }), true)
    await this.#request(what, () => this.#metadata(topics.map(({ topic }) => topic)), true)
  }

  #configEntries({ retentionMs, retentionBytes }: TopicSettings): { name: string; value: string }[] {
    const entries = [
      { name: 'cleanup.policy', value: 'delete' },
      { name: 'retention.ms', value: String(retentionMs ?? -1) },
      { name: 'retention.bytes', value: String(retentionBytes ?? -1) },
    ]
    // Whole segments are dropped, of a gigabyte where nothing is said: too large for a bound below that to mean anything.
    if (retentionBytes !== undefined && retentionBytes < 4 << 30)
      entries.push({ name: 'segment.bytes', value: String(Math.max(1 << 20, Math.floor(retentionBytes / 4))) })
    if (this.#maxBatchBytes > defaultMaxBatchBytes) entries.push({ name: 'max.message.bytes', value: String(this.#maxBatchBytes) })
    return entries
  }

  async describe(name: string): Promise<TopicDescription | undefined> {
    try {
      const topics = await this.#request(`describing "${name}"`, () => this.#metadata([name]))
      const found = topics.find((topic) => topic.name === name)
      return found === undefined ? undefined : { name, partitions: found.partitions.length }
    } catch (error) {
      if (error instanceof MeshError && error.code === 'NOT_FOUND') return undefined
      throw error
    }
  }

  /** Without Kafka's own. */
  async list(): Promise<readonly TopicDescription[]> {
    const topics = await this.#request('listing topics', () => this.#metadata([]))
    return topics.filter(({ name }) => !name.startsWith('__')).map(({ name, partitions }) => ({ name, partitions: partitions.length }))
  }

  async offsets(name: string): Promise<readonly { readonly partition: number; readonly earliest: bigint; readonly end: bigint }[]> {
    const offsets = await this.#request(`reading the offsets of "${name}"`, () => this.#admin.fetchTopicOffsets(name))
    return offsets
      .map(({ partition, low, high }) => ({ partition, earliest: BigInt(low), end: BigInt(high) }))
      .toSorted((a, b) => a.partition - b.partition)
  }

  /** @param names none: of all topics */
  async #metadata(names: string[]): Promise<readonly ITopicMetadata[]> {
    try {
      return (await this.#admin.fetchTopicMetadata({ topics: names })).topics
    } catch (error) {
      // kafkajs has null where no broker answered (cluster/brokerPool.js, withBroker), and falls over it.
      throw error instanceof TypeError ? new kafkajs.KafkaJSConnectionError('no broker answered') : error
    }
  }

  /** @param created a topic that was just made may be unknown for a moment, until the broker that is asked has heard of it */
  async #request<T>(what: string, request: () => Promise<T>, created = false): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await request()
      } catch (error) {
        const unknown = protocolType(error) === 'UNKNOWN_TOPIC_OR_PARTITION'
        if (unknown && !created) throw new MeshError('NOT_FOUND', `${what}: the topic does not exist`, { cause: error, field: 'topic' })
        if ((!unknown && !isBrokerAway(error)) || attempt === (unknown ? attemptsWhenMade : attempts)) throw kafkaError(error, what)
        await pause(backoffMs(attempt, 1000), new AbortController().signal)
      }
    }
  }
}
