import { backoffMs, pause } from '../backoff.ts'
import { protocolType } from './errors.ts'
import type { Cluster, FetchedMessage, FetchedPartition } from './kafkajs-cluster.ts'

/** What a fetch from `from` brought: the visible records (of those before `from`, which a broker may give with the rest of their batch, none), and where to go on. */
export interface Fetched {
  readonly from: bigint
  readonly messages: readonly FetchedMessage[]
  readonly next: bigint
}

/** A partition to be read. */
export interface FetchSource {
  readonly topic: string
  readonly partition: number
  /** Where to read on; undefined where nothing is wanted now. After it turns from undefined, `Fetcher.wake` is to be called. */
  wantedFrom(): bigint | undefined
  /** A result may be of an earlier position than the one now wanted: it is then to be left alone. */
  accept(fetched: Fetched): void
  /** The position is not in the log. */
  outOfRange(position: bigint): void
}

export interface FetcherOptions {
  readonly maxWaitMs: number
  readonly maxBytesPerPartition: number
  readonly maxBytes: number
  /** The broker did not answer as it should; tried again after the back-off. */
  onFailure(error: unknown): void
  onSuccess(): void
}

/** Reads partitions of committed records, one request at a time on each broker, and only for partitions that want more. */
export class Fetcher {
  readonly #cluster: Cluster
  readonly #options: FetcherOptions
  readonly #sources = new Set<FetchSource>()
  readonly #loops = new Map<string, Promise<void>>()
  readonly #stop = new AbortController()
  #wakers: (() => void)[] = []

  constructor(cluster: Cluster, options: FetcherOptions) {
    this.#cluster = cluster
    this.#options = options
  }

  add(source: FetchSource): void {
    this.#sources.add(source)
    this.#ensureLoops()
    this.wake()
  }

  remove(source: FetchSource): void {
    this.#sources.delete(source)
    this.wake()
  }

  /** A source wants something now. */
  wake(): void {
    const wakers = this.#wakers
    this.#wakers = []
    for (const waker of wakers) waker()
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    this.wake()
    await Promise.all(this.#loops.values())
  }

  /** The partition's leader; while it has none any broker, which will say so. */
  #leaderOf(source: FetchSource): string {
    const leader = this.#cluster
      .findTopicPartitionMetadata(source.topic)
      .find(({ partitionId }) => partitionId === source.partition)?.leader
    return leader !== undefined && leader >= 0 ? String(leader) : (this.#cluster.getNodeIds()[0] ?? '0')
  }

  #ensureLoops(): void {
    for (const source of this.#sources) {
      const node = this.#leaderOf(source)
      if (!this.#loops.has(node)) this.#loops.set(node, this.#loop(node))
    }
  }

  async #loop(node: string): Promise<void> {
    const { signal } = this.#stop
    let failures = 0
    while (!signal.aborted) {
      const led = [...this.#sources].filter((source) => this.#leaderOf(source) === node)
      if (led.length === 0) break
      const wanted = led.map((source) => ({ source, from: source.wantedFrom() })).filter((want): want is Want => want.from !== undefined)
      if (wanted.length === 0) {
        await new Promise<void>((resolve) => this.#wakers.push(resolve))
        continue
      }
      try {
        await this.#fetch(node, wanted)
        failures = 0
        this.#options.onSuccess()
      } catch (error) {
        if (signal.aborted) break
        if (this.#outOfRange(error, wanted)) continue
        this.#options.onFailure(error)
        await pause(backoffMs(++failures, 1000), signal)
        await this.#cluster.refreshMetadata().catch((error: unknown) => this.#options.onFailure(error))
        if (!signal.aborted) this.#ensureLoops()
      }
    }
    this.#loops.delete(node)
    if (!signal.aborted) this.#ensureLoops()
  }

  async #fetch(node: string, wanted: readonly Want[]): Promise<void> {
    const broker = await this.#cluster.findBroker({ nodeId: node })
    const { maxWaitMs, maxBytes, maxBytesPerPartition } = this.#options
    const byTopic = Map.groupBy(wanted, ({ source }) => source.topic)
    const { responses } = await broker.fetch({
      replicaId: -1,
      isolationLevel: 1,
      maxWaitTime: maxWaitMs,
      minBytes: 1,
      maxBytes,
      topics: Array.from(byTopic, ([topic, wants]) => ({
        topic,
        partitions: wants.map(({ source, from }) => ({
          partition: source.partition,
          fetchOffset: String(from),
          maxBytes: maxBytesPerPartition,
        })),
      })),
    })
    for (const { topicName, partitions } of responses)
      for (const fetched of partitions) {
        if (fetched.messages.length === 0) continue
        const want = byTopic.get(topicName)?.find(({ source }) => source.partition === fetched.partition)
        if (want !== undefined) want.source.accept(visible(fetched, want.from))
      }
  }

  #outOfRange(error: unknown, wanted: readonly Want[]): boolean {
    if (protocolType(error) !== 'OFFSET_OUT_OF_RANGE') return false
    const { topic, partition } = error as { readonly topic: string; readonly partition: number }
    const want = wanted.find(({ source }) => source.topic === topic && source.partition === partition)
    want?.source.outOfRange(want.from)
    return want !== undefined
  }
}

interface Want {
  readonly source: FetchSource
  readonly from: bigint
}

/**
 * Leaves out control records and those of aborted transactions. A transaction's records are aborted from its first offset to its producer's next
 * control record (Kafka protocol, Fetch: aborted_transactions). The broker lists them by where they ended, so they are put in order first:
 * kafkajs's own filter does not, and lets records of overlapping aborted transactions through.
 */
function visible({ messages, abortedTransactions }: Pick<FetchedPartition, 'messages' | 'abortedTransactions'>, from: bigint): Fetched {
  const { batchContext } = messages.at(-1)!
  const next = BigInt(batchContext.firstOffset) + BigInt(batchContext.lastOffsetDelta) + 1n
  const first = messages[0]!
  const aborted = (abortedTransactions ?? []).toSorted((a, b) => Number(BigInt(a.firstOffset) - BigInt(b.firstOffset)))
  if (aborted.length === 0 && BigInt(first.offset) >= from)
    return { from, messages: messages.filter((message) => !message.isControlRecord), next }
  const open = new Set<string>()
  let entered = 0
  const kept = messages.filter((message) => {
    const offset = BigInt(message.offset)
    for (; entered < aborted.length && BigInt(aborted[entered]!.firstOffset) <= offset; entered++) open.add(aborted[entered]!.producerId)
    const { producerId, inTransaction } = message.batchContext
    if (message.isControlRecord) open.delete(producerId)
    else if (offset >= from && !(inTransaction && open.has(producerId))) return true
    return false
  })
  return { from, messages: kept, next }
}
