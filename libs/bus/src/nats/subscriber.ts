import { MeshError } from '@spillway/core'
import type { Slice, Subscription } from '../port.ts'
import { RecordQueue } from '../record-queue.ts'
import type { NatsLink } from './link.ts'
import { decodeRecord, heldRecords, offsetOf, sequenceOf, type StoredRecord } from './messages.ts'
import { streamOf } from './names.ts'
import { Puller } from './puller.ts'
import type { NatsTopics } from './topics.ts'

/** What waits on a partition until nothing more is asked for. */
const enoughBytes = 1 << 20
const enoughRecords = 1000

interface PartitionRange {
  readonly partition: number
  readonly from: bigint
  /** First offset that is not wanted. */
  readonly end: bigint | undefined
}

class SubscribedPartition {
  readonly #subscription: Subscription
  readonly #range: PartitionRange
  readonly #topics: NatsTopics
  readonly #onChange: () => void
  readonly #puller: Puller
  /** Next offset to come. */
  #next: bigint
  readonly #queue: RecordQueue<StoredRecord>
  #failure: MeshError | undefined
  #checking = false

  constructor(link: NatsLink, topics: NatsTopics, subscription: Subscription, range: PartitionRange, onChange: () => void) {
    this.#subscription = subscription
    this.#range = range
    this.#topics = topics
    this.#onChange = onChange
    this.#next = range.from
    this.#queue = new RecordQueue(subscription.topic, range.partition, heldRecords)
    this.#puller = new Puller(link, {
      stream: streamOf(subscription.topic, range.partition),
      from: { sequence: sequenceOf(range.from) },
      wanted: () =>
        this.#queue.bytes < enoughBytes && !this.#pastEnd && this.#failure === undefined ? enoughRecords - this.#queue.length : 0,
      onMessage: (message, { sequence, acceptedMs }) => {
        const offset = offsetOf(sequence)
        this.#passTo(offset)
        if (this.#failure !== undefined || this.#pastEnd) return
        this.#next = offset + 1n
        this.#queue.push(decodeRecord(message, sequence, acceptedMs))
        this.#onChange()
      },
      onIdle: () => void this.#checkEarliest(),
      onFailure: () => {},
      onSuccess: () => {},
    })
    if (!this.#pastEnd) this.#puller.start()
  }

  /** Whether all that is wanted has been taken. */
  get finished(): boolean {
    return this.#queue.length === 0 && this.#pastEnd
  }

  get #pastEnd(): boolean {
    return this.#range.end !== undefined && this.#next >= this.#range.end
  }

  /** What lies before the offset is not there. */
  #passTo(offset: bigint): void {
    if (offset <= this.#next) return
    const { end } = this.#range
    if (this.#subscription.complete === true && (end === undefined || this.#next < end))
      this.#failure = lostRecords(
        this.#subscription.topic,
        this.#range.partition,
        this.#next,
        end !== undefined && end < offset ? end : offset,
      )
    this.#next = offset
    this.#onChange()
  }

  /** With an end to come to, records may have been dropped that nothing came behind of. */
  async #checkEarliest(): Promise<void> {
    if (this.#range.end === undefined || this.#checking) return
    this.#checking = true
    try {
      this.#passTo((await this.#topics.ends(this.#subscription.topic, this.#range.partition)).earliest)
    } catch (error) {
      // Away, or gone for good: then the reader stays at its place and asks again.
      if (error instanceof MeshError && error.code === 'NOT_FOUND') this.#failure = error
    } finally {
      this.#checking = false
    }
  }

  /** @throws MeshError DATA_LOSS */
  take(maxRecords: number): Slice | undefined {
    if (this.#queue.length === 0) {
      if (this.#failure !== undefined) throw this.#failure
      return undefined
    }
    const slice = this.#queue.slice(maxRecords, Infinity)
    this.#queue.drop(slice.records.count)
    this.#puller.wake()
    return slice
  }

  stop(): void {
    void this.#puller.stop()
  }
}

function lostRecords(topic: string, partition: number, position: bigint, to: bigint): MeshError {
  return new MeshError('DATA_LOSS', `"${topic}"/${partition}: records from offset ${position} to ${to - 1n} are no longer retained`)
}

/** A topic from a position on, without a group: nothing of it is left on the server. */
export async function* subscribe(link: NatsLink, topics: NatsTopics, subscription: Subscription): AsyncGenerator<Slice, void, undefined> {
  const { maxSliceRecords, signal } = subscription
  if (signal.aborted) return
  let wake: (() => void) | undefined
  const onChange = (): void => wake?.()
  signal.addEventListener('abort', onChange)
  let partitions: readonly SubscribedPartition[] = []
  try {
    const ranges = await partitionRanges(topics, subscription)
    partitions = ranges.map((range) => new SubscribedPartition(link, topics, subscription, range, onChange))
    while (!signal.aborted) {
      let taken = 0
      for (const partition of partitions) {
        const slice = partition.take(maxSliceRecords)
        if (slice === undefined) continue
        taken++
        yield slice
        if (signal.aborted) return
      }
      if (partitions.every((partition) => partition.finished)) return
      if (taken === 0) await new Promise<void>((resolve) => (wake = resolve))
      // Between two rounds the event loop turns: messages come in, the signal fires.
      else await new Promise<void>((resolve) => setImmediate(resolve))
    }
  } finally {
    signal.removeEventListener('abort', onChange)
    for (const partition of partitions) partition.stop()
  }
}

/** @throws MeshError NOT_FOUND, INVALID_ARGUMENT, DATA_LOSS */
async function partitionRanges(topics: NatsTopics, { topic, from, until, complete }: Subscription): Promise<readonly PartitionRange[]> {
  const count = await topics.partitions(topic)
  for (const partition of until?.keys() ?? [])
    if (!(partition >= 0 && partition < count))
      throw new MeshError('INVALID_ARGUMENT', `topic "${topic}" has no partition ${partition}, expected 0 to ${count - 1}`, {
        field: 'until',
      })
  const offsets = (await topics.offsets(topic)).filter(({ partition }) => until === undefined || until.has(partition))
  return offsets.map(({ partition, earliest, end }) => {
    const given = typeof from === 'string' ? undefined : from.get(partition)
    const start = given ?? (from === 'latest' ? end : earliest)
    const last = until?.get(partition)
    if (complete === true && start < earliest && (last === undefined || start < last)) throw lostRecords(topic, partition, start, earliest)
    return { partition, from: start < earliest ? earliest : start, end: last }
  })
}
