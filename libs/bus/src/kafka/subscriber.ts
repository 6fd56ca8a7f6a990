import { MeshError } from '@spillway/core'
import type { Slice, Subscription } from '../port.ts'
import { connectPatiently } from './connect.ts'
import { kafkaError } from './errors.ts'
import { type Fetched, Fetcher, type FetchSource } from './fetcher.ts'
import type { Cluster, FetchedMessage, OpenCluster } from './kafkajs-cluster.ts'
import { sliceOf } from './messages.ts'
import { partitionCount } from './produce.ts'

/** What waits on a partition until nothing more is fetched of it. */
const enoughBytes = 1 << 20

interface PartitionRange {
  readonly partition: number
  readonly from: bigint
  /** First offset that is not wanted. */
  readonly end: bigint | undefined
}

class SubscribedPartition implements FetchSource {
  readonly topic: string
  readonly partition: number
  readonly #cluster: Cluster
  readonly #end: bigint | undefined
  readonly #complete: boolean
  readonly #onChange: () => void
  #from: bigint | undefined
  #queue: FetchedMessage[] = []
  #bytes = 0
  #lost: MeshError | undefined

  constructor(cluster: Cluster, { topic, complete = false }: Subscription, { partition, from, end }: PartitionRange, onChange: () => void) {
    this.#cluster = cluster
    this.topic = topic
    this.partition = partition
    this.#from = from
    this.#end = end
    this.#complete = complete
    this.#onChange = onChange
  }

  /** Whether all that is wanted has been taken. */
  get finished(): boolean {
    return this.#queue.length === 0 && this.#pastEnd
  }

  get #pastEnd(): boolean {
    return this.#from !== undefined && this.#end !== undefined && this.#from >= this.#end
  }

  wantedFrom(): bigint | undefined {
    return this.#bytes < enoughBytes && !this.#pastEnd ? this.#from : undefined
  }

  accept({ from, messages, next }: Fetched): void {
    if (from !== this.#from) return
    this.#from = next
    for (const message of messages) {
      if (this.#end !== undefined && BigInt(message.offset) >= this.#end) break
      this.#queue.push(message)
      this.#bytes += message.value?.length ?? 0
    }
    this.#onChange()
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
      const to = position < earliest ? earliest : await at(false)
      if (this.#complete) this.#lost = lostRecords(this.topic, this.partition, position, to)
      else this.#from = to
    }
    go()
      .catch(() => {
        // The broker is away again: the same fetch will be refused, and bring us here, when it is back.
        this.#from = position
      })
      .finally(this.#onChange)
  }

  /** @throws MeshError DATA_LOSS */
  take(maxRecords: number): Slice | undefined {
    if (this.#queue.length === 0) {
      if (this.#lost !== undefined) throw this.#lost
      return undefined
    }
    const taken = this.#queue.splice(0, maxRecords)
    for (const message of taken) this.#bytes -= message.value?.length ?? 0
    return sliceOf(this.topic, this.partition, taken, 0, taken.length)
  }
}

function lostRecords(topic: string, partition: number, position: bigint, to: bigint): MeshError {
  const what =
    position < to
      ? `records from offset ${position} to ${to - 1n} are no longer retained`
      : `the log ends at offset ${to}, before ${position}: was the topic made anew?`
  return new MeshError('DATA_LOSS', `"${topic}"/${partition}: ${what}`)
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
  const onChange = (): void => wake?.()
  signal.addEventListener('abort', onChange)
  let fetcher: Fetcher | undefined
  try {
    const ranges = await connectPatiently(cluster, signal, async () => partitionRanges(cluster, subscription), onAway)
    // A fetch answers as soon as there is a record; the wait is what an end of the subscription waits for at most.
    fetcher = new Fetcher(cluster, {
      maxWaitMs: 100,
      maxBytesPerPartition: 1 << 20,
      maxBytes: 4 << 20,
      onFailure: onAway,
      onSuccess: () => {},
    })
    const partitions = ranges.map((range) => new SubscribedPartition(cluster, subscription, range, () => (fetcher?.wake(), onChange())))
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
      if (partitions.every((partition) => partition.finished)) return
      if (taken === 0) await new Promise<void>((resolve) => (wake = resolve))
    }
  } catch (error) {
    if (!signal.aborted) throw kafkaError(error, `reading "${topic}"`)
  } finally {
    signal.removeEventListener('abort', onChange)
    // Not waited for: a reader that has what it wanted need not wait for the fetch under way.
    void fetcher?.stop()
  }
}

/** @throws MeshError NOT_FOUND, INVALID_ARGUMENT */
async function partitionRanges(cluster: Cluster, { topic, from, until }: Subscription): Promise<readonly PartitionRange[]> {
  const count = await partitionCount(cluster, topic)
  for (const partition of until?.keys() ?? [])
    if (!(partition >= 0 && partition < count))
      throw new MeshError('INVALID_ARGUMENT', `topic "${topic}" has no partition ${partition}, expected 0 to ${count - 1}`, {
        field: 'until',
      })
  const wanted = until === undefined ? Array.from({ length: count }, (_, partition) => partition) : [...until.keys()]
  if (wanted.length === 0) return []
  const partitions = wanted.map((partition) => ({ partition }))
  const [found] = await cluster.fetchTopicsOffset([{ topic, partitions, fromBeginning: from !== 'latest' }])
  return found!.partitions.map(({ partition, offset }) => {
    const given = typeof from === 'string' ? undefined : from.get(partition)
    return { partition, from: given ?? BigInt(offset), end: until?.get(partition) }
  })
}
