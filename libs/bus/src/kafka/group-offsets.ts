import { comeAgain } from './come-again.ts'
import { decodeMetadata, encodeMetadata } from './group-metadata.ts'
import { type Broker, type Cluster, coordinatorTypes } from './kafkajs-cluster.ts'
import type { GroupPosition } from './position.ts'

/** As the group knows it: a commit of another's is refused. */
export interface Membership {
  readonly groupGenerationId: number
  readonly memberId: string
}

export interface PlacedOffset {
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
}

/**
 * The group's offsets at its coordinator. They are what tools show as its lag, and what a user sets to have it begin elsewhere; no position rests on
 * them otherwise, so they may come late, or be forgotten.
 */
export class GroupOffsets {
  readonly #cluster: Cluster
  readonly #group: string
  readonly #stamp: string | undefined
  /** What the coordinator has, by `topic/partition`, as far as this process knows. */
  readonly #told = new Map<string, bigint>()
  #coordinator: Broker | undefined

  constructor(cluster: Cluster, group: string, stamp: string | undefined) {
    this.#cluster = cluster
    this.#group = group
    this.#stamp = stamp
  }

  /** Undefined where there is none. To be read when nobody can commit for the partition any more. */
  async committed(topic: string, partition: number, signal: AbortSignal): Promise<GroupPosition | undefined> {
    const topics = [{ topic, partitions: [{ partition }] }]
    const { responses } = await comeAgain(
      async () => this.#ask((coordinator) => coordinator.offsetFetch({ groupId: this.#group, topics })),
      signal,
    )
    const { offset, metadata } = responses[0]!.partitions[0]!
    const place = `${topic}/${partition}`
    this.#told.delete(place)
    if (BigInt(offset) < 0n) return undefined
    const position = { offset: BigInt(offset), ...decodeMetadata(metadata) }
    if (position.isTold) this.#told.set(place, position.offset)
    return position
  }

  /** Tells the coordinator those that it does not have yet, together. @throws where it does not take them */
  async tell(member: Membership, offsets: readonly PlacedOffset[]): Promise<void> {
    const moved = offsets.filter(({ topic, partition, offset }) => this.#told.get(`${topic}/${partition}`) !== offset)
    if (moved.length === 0) return
    const metadata = encodeMetadata(this.#stamp)
    const topics = Array.from(
      Map.groupBy(moved, ({ topic }) => topic),
      ([topic, of]) => ({ topic, partitions: of.map(({ partition, offset }) => ({ partition, offset: String(offset), metadata })) }),
    )
    await this.#ask((coordinator) => coordinator.offsetCommit({ groupId: this.#group, ...member, topics }))
    for (const { topic, partition, offset } of moved) this.#told.set(`${topic}/${partition}`, offset)
  }

  /** After a failure the coordinator is looked for anew: it may be another. */
  async #ask<T>(request: (coordinator: Broker) => Promise<T>): Promise<T> {
    const of = { groupId: this.#group, coordinatorType: coordinatorTypes.group }
    try {
      await this.#cluster.connect()
      return await request((this.#coordinator ??= await this.#cluster.findGroupCoordinator(of)))
    } catch (error) {
      this.#coordinator = undefined
      throw error
    }
  }
}
