import { backoffMs, pause } from '../backoff.ts'
import { isBrokerAway, protocolType } from './errors.ts'
import { sendFetch } from './fetch-request.ts'
import type { Cluster, FetchedMessage } from './kafkajs-cluster.ts'
import { visible } from './visible.ts'

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
  /** How long the broker waits for a first record where every partition is asked for. */
  readonly maxWaitMs: number
  readonly maxBytesPerPartition: number
  readonly maxBytes: number
  /** The broker did not answer as it should, or not for a partition; tried again after the back-off. */
  onFailure(error: unknown): void
  /** The broker answered for every partition. */
  onSuccess(): void
}

const maxBackoffMs = 1000
/** The same where some are not: one that wants more meanwhile is not in the request, and waits for its end. */
const partialWaitMs = 20
/** A loop without work looks again after this long at the latest. */
const maxIdleMs = 60_000

/** Reads partitions of committed records, one request at a time on each broker, and only for partitions that want more. */
export class Fetcher {
  readonly #cluster: Cluster
  readonly #options: FetcherOptions
  readonly #sources = new Set<FetchSource>()
  readonly #loops = new Map<string, Promise<void>>()
  readonly #stop = new AbortController()
  /** Partitions that failed, while their brokers answer for others: not asked for again before `untilMs`. */
  readonly #failed = new Map<FetchSource, { readonly failures: number; readonly untilMs: number }>()
  #turn = 0
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
    this.#failed.delete(source)
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
    const leader = this.#partitionsOf(source.topic).find(({ partitionId }) => partitionId === source.partition)?.leader
    return leader !== undefined && leader >= 0 ? String(leader) : (this.#cluster.getNodeIds()[0] ?? '0')
  }

  /** None where a lost connection took the metadata with it: the next request fails, and metadata is asked for anew. */
  #partitionsOf(topic: string): ReturnType<Cluster['findTopicPartitionMetadata']> {
    try {
      return this.#cluster.findTopicPartitionMetadata(topic)
    } catch (error) {
      if (isBrokerAway(error)) return []
      throw error
    }
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
      const wanted = this.#wanted(led)
      if (wanted.length === 0) {
        await this.#woken(led)
        continue
      }
      try {
        await this.#fetch(node, wanted, wanted.length < led.length)
        failures = 0
        if (this.#failed.size === 0) this.#options.onSuccess()
      } catch (error) {
        if (signal.aborted) break
        this.#options.onFailure(error)
        await pause(backoffMs(++failures, maxBackoffMs), signal)
        await this.#refresh()
      }
    }
    this.#loops.delete(node)
    if (!signal.aborted) this.#ensureLoops()
  }

  /** The broker gives until its limit is reached, so that each partition is the first in its turn. */
  #wanted(led: readonly FetchSource[]): readonly Want[] {
    const nowMs = Date.now()
    const first = this.#turn++ % led.length
    return [...led.slice(first), ...led.slice(0, first)]
      .filter((source) => (this.#failed.get(source)?.untilMs ?? 0) <= nowMs)
      .map((source) => ({ source, from: source.wantedFrom() }))
      .filter((want): want is Want => want.from !== undefined)
  }

  /** Until a source wants something, or one that failed is due. */
  async #woken(led: readonly FetchSource[]): Promise<void> {
    const dueMs = Math.min(...led.map((source) => this.#failed.get(source)?.untilMs ?? Infinity))
    const woken = new AbortController()
    this.#wakers.push(() => woken.abort())
    await pause(Math.min(dueMs - Date.now(), maxIdleMs), woken.signal)
  }

  async #refresh(): Promise<void> {
    await this.#cluster.refreshMetadata().catch((error: unknown) => this.#options.onFailure(error))
    if (!this.#stop.signal.aborted) this.#ensureLoops()
  }

  async #fetch(node: string, wanted: readonly Want[], isPartial: boolean): Promise<void> {
    const broker = await this.#cluster.findBroker({ nodeId: node })
    const { maxBytes, maxBytesPerPartition } = this.#options
    const maxWaitMs = isPartial ? partialWaitMs : this.#options.maxWaitMs
    const partitions = wanted.map(({ source: { topic, partition }, from }) => ({ topic, partition, from }))
    const answer = await sendFetch(broker, { maxWaitMs, maxBytes, maxBytesPerPartition, partitions })
    let failed = false
    for (const fetched of answer) {
      const want = wanted.find(({ source }) => source.partition === fetched.partition && source.topic === fetched.topic)
      if (want === undefined) continue
      const { source, from } = want
      if ('error' in fetched) {
        if (protocolType(fetched.error) === 'OFFSET_OUT_OF_RANGE') source.outOfRange(from)
        else {
          failed = true
          this.#noteFailure(source, fetched.error)
        }
        continue
      }
      this.#failed.delete(source)
      const { messages, aborted, next } = fetched
      if (next !== undefined && next > from) source.accept({ from, next, messages: visible(messages, aborted, from) })
    }
    // The partition may be led by another broker now.
    if (failed) await this.#refresh()
  }

  #noteFailure(source: FetchSource, error: unknown): void {
    const failures = (this.#failed.get(source)?.failures ?? 0) + 1
    if (this.#sources.has(source)) this.#failed.set(source, { failures, untilMs: Date.now() + backoffMs(failures, maxBackoffMs) })
    this.#options.onFailure(error)
  }
}

interface Want {
  readonly source: FetchSource
  readonly from: bigint
}
