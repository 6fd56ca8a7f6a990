import {
  type Bus,
  type Guarantee,
  type Handler,
  type Lag,
  type Outputs,
  type ProcessOptions,
  type Processor,
  type RecordPosition,
  type Records,
  type Slice,
  sliceRecords,
  type Subscription,
  type TopicAdmin,
  type Write,
} from '@spillway/bus'
import { MeshError } from '@spillway/core'

/** By topic and partition, the first offset that is not processed. */
export type Ends = ReadonlyMap<string, ReadonlyMap<number, bigint>>

export interface BoundedBusOptions {
  /** Started, the caller's: it is neither started nor drained here. */
  readonly bus: Bus
  readonly ends: Ends
  /** What is done to a slice before it is handled. */
  readonly prepare: (slice: Slice) => Slice
  /** What is done to what is written. */
  readonly write: (write: Write) => Write
}

const pollMs = 250

/** A bus whose topics end where they ended when a run began: what comes in later is left for whoever runs the pipeline. */
export class BoundedBus implements Bus {
  readonly name: string
  readonly guarantee: Guarantee
  readonly maxRecordBytes: number
  readonly topics: TopicAdmin
  private readonly options: BoundedBusOptions
  private readonly processors: BoundedProcessor[] = []

  constructor(options: BoundedBusOptions) {
    const { bus } = options
    this.options = options
    this.name = bus.name
    this.guarantee = bus.guarantee
    this.maxRecordBytes = bus.maxRecordBytes
    this.topics = bus.topics
  }

  start(): Promise<void> {
    return Promise.resolve()
  }

  drain(): Promise<void> {
    return Promise.resolve()
  }

  publish(topic: string, records: Records, partition?: number): Promise<readonly RecordPosition[]> {
    return this.options.bus.publish(topic, records, partition)
  }

  subscribe(subscription: Subscription): AsyncIterable<Slice> {
    return this.options.bus.subscribe(subscription)
  }

  process(options: ProcessOptions, handle: Handler): Processor {
    const processor = new BoundedProcessor(this.options, options, handle)
    this.processors.push(processor)
    return processor
  }

  /**
   * Resolves when all processors have committed all that lies before the ends.
   * @param onProgress told every quarter of a second
   * @throws the signal's reason
   */
  async done(signal: AbortSignal, onProgress: (lags: readonly Lag[]) => void): Promise<void> {
    for (;;) {
      signal.throwIfAborted()
      const lags = (await Promise.all(this.processors.map((processor) => processor.lags()))).flat()
      onProgress(lags)
      if (this.reached(lags)) return
      await new Promise<void>((resolve) => {
        setTimeout(resolve, pollMs)
      })
    }
  }

  /** A partition that is not assigned yet has no lag: it has not been reached. */
  private reached(lags: readonly Lag[]): boolean {
    const positions = new Map(lags.map(({ topic, partition, committedOffset }) => [`${topic}/${partition}`, committedOffset]))
    for (const [topic, partitions] of this.options.ends)
      for (const [partition, end] of partitions) if (end > 0n && (positions.get(`${topic}/${partition}`) ?? -1n) < end) return false
    return true
  }
}

class BoundedProcessor implements Processor {
  private readonly ends: Ends
  private readonly inner: Processor
  private readonly stopping = new AbortController()

  constructor({ bus, ends, prepare, write }: BoundedBusOptions, options: ProcessOptions, handle: Handler) {
    this.ends = ends
    this.inner = bus.process(options, async (slice, signal, attempt) => {
      const before = this.before(slice)
      if (before === undefined) return this.held(signal)
      const outputs = await handle(prepare(before), signal, attempt)
      const consumed = outputs.consumed ?? before.records.count
      return { writes: outputs.writes.map(write).filter(({ records }) => records.count > 0), consumed } satisfies Outputs
    })
  }

  start(signal: AbortSignal): Promise<void> {
    return this.inner.start(signal)
  }

  drain(): Promise<void> {
    this.stopping.abort()
    return this.inner.drain()
  }

  /** As if nothing had come in behind the ends: nobody waits for it. */
  async lags(): Promise<readonly Lag[]> {
    const lags = await this.inner.lags()
    return lags.map((lag) => ({ ...lag, endOffset: this.endOf(lag) }))
  }

  private endOf({ topic, partition }: { readonly topic: string; readonly partition: number }): bigint {
    return this.ends.get(topic)?.get(partition) ?? 0n
  }

  /** The slice's records before the end; undefined where there are none. */
  private before(slice: Slice): Slice | undefined {
    const { records, offsets } = slice
    const end = this.endOf(slice)
    let count = offsets.length
    while (count > 0 && offsets[count - 1]! >= end) count--
    if (count === offsets.length) return slice
    return count === 0 ? undefined : { ...slice, records: sliceRecords(records, 0, count), offsets: offsets.subarray(0, count) }
  }

  /** What lies behind the end is never answered. @throws MeshError CANCELLED when the run stops */
  private async held(signal: AbortSignal): Promise<never> {
    const stopped = AbortSignal.any([signal, this.stopping.signal])
    if (!stopped.aborted) await new Promise<void>((resolve) => stopped.addEventListener('abort', () => resolve(), { once: true }))
    throw new MeshError('CANCELLED', 'the run ends here: the slice is left to others')
  }
}

/** How far back is looked for the last record: transactions leave a marker or two behind it. */
const lookBack = 16n

/** The first offset behind the last record of each partition, as of now: behind it may lie offsets that hold none. */
export async function endsOf(bus: Bus, topics: readonly string[], signal: AbortSignal): Promise<Ends> {
  const ends = new Map<string, ReadonlyMap<number, bigint>>()
  for (const topic of topics) {
    const found = new Map<number, bigint>()
    for (const { partition, earliest, end } of await bus.topics.offsets(topic))
      found.set(partition, await recordEnd(bus, { topic, partition, earliest, end, signal }))
    ends.set(topic, found)
  }
  return ends
}

interface PartitionRange {
  readonly topic: string
  readonly partition: number
  readonly earliest: bigint
  readonly end: bigint
  readonly signal: AbortSignal
}

async function recordEnd(bus: Bus, { topic, partition, earliest, end, signal }: PartitionRange): Promise<bigint> {
  for (let back = lookBack; ; back *= 16n) {
    const from = end - back > earliest ? end - back : earliest
    let last: bigint | undefined
    const range = { from: new Map([[partition, from]]), until: new Map([[partition, end]]) }
    if (from < end) for await (const { offsets } of bus.subscribe({ topic, ...range, maxSliceRecords: 1000, signal })) last = offsets.at(-1)
    if (last !== undefined) return last + 1n
    // No record at all: whatever the group's position is, it is not before this.
    if (from === earliest) return 0n
  }
}
