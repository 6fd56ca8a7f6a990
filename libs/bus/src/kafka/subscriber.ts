import type { Slice, Subscription } from '../port.ts'
import { connectPatiently } from './connect.ts'
import { kafkaError } from './errors.ts'
import { type Fetched, Fetcher, type FetchSource } from './fetcher.ts'
import type { Cluster, FetchedMessage, OpenCluster } from './kafkajs-cluster.ts'
import { sliceOf } from './messages.ts'
import { partitionCount } from './produce.ts'

/** What waits on a partition until nothing more is fetched of it. */
const enoughBytes = 1 << 20

class SubscribedPartition implements FetchSource {
  readonly topic: string
  readonly partition: number
  readonly #cluster: Cluster
  readonly #onRecords: () => void
  #from: bigint | undefined
  #queue: FetchedMessage[] = []
  #bytes = 0

  constructor(cluster: Cluster, topic: string, partition: number, from: bigint, onRecords: () => void) {
    this.#cluster = cluster
    this.topic = topic
    this.partition = partition
    this.#from = from
    this.#onRecords = onRecords
  }

  wantedFrom(): bigint | undefined {
    return this.#bytes < enoughBytes ? this.#from : undefined
  }

  accept({ from, messages, next }: Fetched): void {
    if (from !== this.#from) return
    this.#from = next
    for (const message of messages) {
      this.#queue.push(message)
      this.#bytes += message.value?.length ?? 0
    }
    this.#onRecords()
  }

  /** Retention has passed it: on from the earliest, or from the end where the log has lost its own. */
  outOfRange(position: bigint): void {
    this.#from = undefined
    const partitions = [{ partition: this.partition }]
    const go = async (): Promise<void> => {
      const at = async (fromBeginning: boolean): Promise<bigint> => {
        const [found] = await this.#cluster.fetchTopicsOffset([{ topic: this.topic, partitions, fromBeginning }])
        return BigInt(found!.partitions[0]!.offset)
      }
      const earliest = await at(true)
      this.#from = position < earliest ? earliest : await at(false)
    }
    go()
      .catch(() => {
        // The broker is away again: the same fetch will be refused, and bring us here, when it is back.
        this.#from = position
      })
      .finally(this.#onRecords)
  }

  take(maxRecords: number): Slice | undefined {
    if (this.#queue.length === 0) return undefined
    const taken = this.#queue.splice(0, maxRecords)
    for (const message of taken) this.#bytes -= message.value?.length ?? 0
    return sliceOf(this.topic, this.partition, taken, 0, taken.length)
  }
}

/** The committed view of a topic, without a group: nothing of it is left on the broker. The cluster is the caller's, who closes it. */
export async function* subscribe(
  open: OpenCluster,
  subscription: Subscription,
  onAway: (error: unknown) => void,
): AsyncGenerator<Slice, void, undefined> {
  const { topic, maxSliceRecords, signal } = subscription
  if (signal.aborted) return
  const { cluster } = open
  let wake: (() => void) | undefined
  const onRecords = (): void => wake?.()
  signal.addEventListener('abort', onRecords)
  let fetcher: Fetcher | undefined
  try {
    const starts = await connectPatiently(cluster, signal, async () => startOffsets(cluster, subscription), onAway)
    // A fetch answers as soon as there is a record; the wait is what an end of the subscription waits for at most.
    fetcher = new Fetcher(cluster, {
      maxWaitMs: 100,
      maxBytesPerPartition: 1 << 20,
      maxBytes: 4 << 20,
      onFailure: onAway,
      onSuccess: () => {},
    })
    const partitions = starts.map(
      (from, partition) => new SubscribedPartition(cluster, topic, partition, from, () => (fetcher?.wake(), onRecords())),
    )
    for (const partition of partitions) fetcher.add(partition)
    while (!signal.aborted) {
      let taken = 0
      for (const partition of partitions) {
        const slice = partition.take(maxSliceRecords)
        if (slice === undefined) continue
        taken++
        fetcher.wake()
        yield slice
        if (signal.aborted) return
      }
      if (taken === 0) await new Promise<void>((resolve) => (wake = resolve))
    }
  } catch (error) {
    if (!signal.aborted) throw kafkaError(error, `reading "${topic}"`)
  } finally {
    signal.removeEventListener('abort', onRecords)
    // Not waited for: a reader that has what it wanted need not wait for the fetch under way.
    void fetcher?.stop()
  }
}

async function startOffsets(cluster: Cluster, { topic, from }: Subscription): Promise<bigint[]> {
  const count = await partitionCount(cluster, topic)
  const partitions = Array.from({ length: count }, (_, partition) => ({ partition }))
  const [found] = await cluster.fetchTopicsOffset([{ topic, partitions, fromBeginning: from !== 'latest' }])
  const starts = new Array<bigint>(count).fill(0n)
  for (const { partition, offset } of found!.partitions) {
    const given = typeof from === 'string' ? undefined : from.get(partition)
    starts[partition] = given ?? BigInt(offset)
  }
  return starts
}
