import { DiscardPolicy, JetStreamApiError, RetentionPolicy, StorageType } from '@nats-io/jetstream'
import type { KV } from '@nats-io/kv'
import { nanos } from '@nats-io/transport-node'
import { MeshError } from '@spillway/core'
import type { TopicAdmin, TopicDescription, TopicSettings } from '../port.ts'
import { backoffMs, pause } from '../backoff.ts'
import { apiCodes, isConflict, isServerAway, natsError } from './errors.ts'
import type { NatsLink } from './link.ts'
import { escapeName, streamOf, subjectOf, unescapeName } from './names.ts'

export interface TopicsOptions {
  readonly duplicateWindowMs: number
  readonly replicas: number
}

/** How long a request is made again while the server is away. */
const patienceMs = 10_000

/** Topics: an entry in a bucket says how many partitions each has, and each partition is a stream. */
export class NatsTopics implements TopicAdmin {
  readonly #link: () => NatsLink
  readonly #bucket: () => KV
  readonly #options: TopicsOptions
  readonly #known = new Map<string, number>()

  /** `link` and `bucket` throw where the bus is not started. */
  constructor(link: () => NatsLink, bucket: () => KV, options: TopicsOptions) {
    this.#link = link
    this.#bucket = bucket
    this.#options = options
  }

  async ensure(topics: readonly TopicSettings[]): Promise<void> {
    for (const settings of topics) {
      const { name, partitions } = settings
      await this.#attempt(`creating topic "${name}"`, async () => this.#enter(settings))
      const found = (await this.describe(name))?.partitions
      if (found !== partitions)
        throw new MeshError(
          'FAILED_PRECONDITION',
          `topic "${name}" has ${found ?? 'no'} partitions, expected ${partitions}: recreate it, or set partitions to ${found ?? partitions}`,
          { field: 'partitions' },
        )
      // All of them each time: whoever was here before may have ended half way.
      const missing = Array.from({ length: partitions }, (_, partition) => partition)
      await this.#attempt(`creating topic "${name}"`, async () =>
        Promise.all(missing.map(async (partition) => this.#ensureStream(settings, partition))),
      )
    }
  }

  /** The first to enter a topic decides. */
  async #enter({ name, partitions }: TopicSettings): Promise<void> {
    const key = escapeName(name)
    if ((await this.#bucket().get(key)) !== null) return
    try {
      await this.#bucket().create(key, JSON.stringify({ partitions }))
    } catch (error) {
      if (!isConflict(error)) throw error
    }
  }

  async #ensureStream({ name, retentionMs, retentionBytes }: TopicSettings, partition: number): Promise<void> {
    const { duplicateWindowMs, replicas } = this.#options
    const { streams } = this.#link().manager
    try {
      await streams.info(streamOf(name, partition))
      return
    } catch (error) {
      if (!(error instanceof JetStreamApiError) || error.code !== apiCodes.streamNotFound) throw error
    }
    try {
      await streams.add({
        name: streamOf(name, partition),
        subjects: [subjectOf(name, partition)],
        description: `Spillway: partition ${partition} of topic ${name}`,
        retention: RetentionPolicy.Limits,
        discard: DiscardPolicy.Old,
        storage: StorageType.File,
        num_replicas: replicas,
        // The server takes no window longer than what it retains.
        duplicate_window: nanos(Math.min(duplicateWindowMs, retentionMs ?? Infinity)),
        ...(retentionMs !== undefined && { max_age: nanos(retentionMs) }),
        ...(retentionBytes !== undefined && { max_bytes: retentionBytes }),
      })
    } catch (error) {
      // Another process was faster.
      if (!(error instanceof JetStreamApiError) || error.code !== apiCodes.streamNameInUse) throw error
    }
  }

  async describe(name: string): Promise<TopicDescription | undefined> {
    const entry = await this.#attempt(`describing "${name}"`, async () => this.#bucket().get(escapeName(name)))
    if (entry === null || entry.operation !== 'PUT') {
      this.#known.delete(name)
      return undefined
    }
    const { partitions } = entry.json<{ partitions: number }>()
    this.#known.set(name, partitions)
    return { name, partitions }
  }

  async list(): Promise<readonly TopicDescription[]> {
    const names: string[] = []
    await this.#attempt('listing topics', async () => {
      for await (const key of await this.#bucket().keys()) names.push(unescapeName(key))
    })
    const described = await Promise.all(names.map(async (name) => this.describe(name)))
    return described.filter((topic) => topic !== undefined)
  }

  async offsets(name: string): Promise<readonly { readonly partition: number; readonly earliest: bigint; readonly end: bigint }[]> {
    const partitions = Array.from({ length: await this.partitions(name) }, (_, partition) => partition)
    return Promise.all(partitions.map(async (partition) => this.ends(name, partition)))
  }

  /** @throws MeshError NOT_FOUND where the stream is not there */
  async ends(name: string, partition: number): Promise<{ readonly partition: number; readonly earliest: bigint; readonly end: bigint }> {
    const { state } = await this.#attempt(`reading the offsets of "${name}"`, async () =>
      this.#link().manager.streams.info(streamOf(name, partition)),
    )
    return { partition, earliest: BigInt(Math.max(state.first_seq, 1) - 1), end: BigInt(state.last_seq) }
  }

  /** How many partitions the topic has: a count never changes, so it is asked for once. @throws MeshError NOT_FOUND */
  async partitions(name: string): Promise<number> {
    const partitions = this.#known.get(name) ?? (await this.describe(name))?.partitions
    if (partitions === undefined)
      throw new MeshError('NOT_FOUND', `topic "${name}" does not exist: create it, or check the name`, { field: 'topic' })
    return partitions
  }

  /** Again and again while the server is away, for a while. */
  async #attempt<T>(what: string, request: () => Promise<T>): Promise<T> {
    const link = this.#link()
    const patience = AbortSignal.timeout(patienceMs)
    for (let attempt = 1; ; attempt++) {
      try {
        return await link.request(request)
      } catch (error) {
        if (!isServerAway(error) || patience.aborted) throw natsError(error, what)
        await pause(backoffMs(attempt, 500), patience)
        await link.untilConnected(patience)
      }
    }
  }
}
