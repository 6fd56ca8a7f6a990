import type { Bus, Slice } from '@spillway/bus'
import { MeshError } from '@spillway/core'
import type { Catalog } from './catalog.ts'
import { decodePosition, encodePosition } from './position.ts'

export type SubscriptionStart =
  | { readonly kind: 'earliest' | 'latest' }
  /** `field`: where the caller gave the token, for the message that refuses it. */
  | { readonly kind: 'after'; readonly position: string; readonly field: string }

/** Records of one partition, each with the position behind it. */
export interface PositionedSlice {
  readonly slice: Slice
  /** One a record. */
  readonly positions: readonly string[]
}

export interface OpenSubscription {
  /** The position before the first record. */
  readonly position: string
  /** Ends when the signal fires. */
  readonly slices: AsyncIterable<PositionedSlice>
  /** Gives the place back. Idempotent. */
  close(): void
}

const maxSliceRecords = 256

/** Subscriptions to topics, whichever protocol asks: a bounded number of them. */
export class Subscriptions {
  readonly #catalog: Catalog
  readonly #bus: Bus
  readonly #max: number
  readonly #open = new Set<object>()

  constructor(catalog: Catalog, bus: Bus, maxSubscriptions: number) {
    this.#catalog = catalog
    this.#bus = bus
    this.#max = maxSubscriptions
  }

  get count(): number {
    return this.#open.size
  }

  /**
   * Begins at every partition's exact place, known before the first record: what is published from now on is not missed.
   * @throws MeshError NOT_FOUND, INVALID_ARGUMENT or OUT_OF_RANGE for a position that is not this topic's, RESOURCE_EXHAUSTED
   */
  async open(topic: string, start: SubscriptionStart, signal: AbortSignal): Promise<OpenSubscription> {
    this.#catalog.assertTopic(topic)
    if (this.#open.size >= this.#max)
      throw new MeshError('RESOURCE_EXHAUSTED', `${this.#max} subscriptions are open already: try again later`)
    const token = {}
    this.#open.add(token)
    const close = (): void => void this.#open.delete(token)
    try {
      const nextOffsets = await this.#startOffsets(topic, start)
      const position = encodePosition(topic, nextOffsets)
      return { position, slices: positioned(this.#bus, topic, nextOffsets, signal), close }
    } catch (error) {
      close()
      throw error
    }
  }

  async #startOffsets(topic: string, start: SubscriptionStart): Promise<number[]> {
    const asked = start.kind === 'after' ? decodePosition(topic, start.position, start.field) : []
    const ranges = await this.#bus.topics.offsets(topic)
    const field = start.kind === 'after' ? start.field : ''
    if (asked.length > ranges.length)
      throw new MeshError('INVALID_ARGUMENT', `the position names ${asked.length} partitions, ${topic} has ${ranges.length}`, { field })
    const offsets = new Array<number>(ranges.length).fill(0)
    for (const { partition, earliest, end } of ranges) {
      // A partition that the position does not know was added after it: all of its records are new.
      const offset = asked[partition] ?? Number(start.kind === 'latest' ? end : earliest)
      if (offset > Number(end))
        throw new MeshError(
          'OUT_OF_RANGE',
          `the position lies behind the end of ${topic}, which was made anew since: start from the earliest or the latest record`,
          { field },
        )
      offsets[partition] = offset
    }
    return offsets
  }
}

async function* positioned(bus: Bus, topic: string, nextOffsets: number[], signal: AbortSignal): AsyncGenerator<PositionedSlice> {
  const from = new Map(nextOffsets.map((offset, partition) => [partition, BigInt(offset)]))
  try {
    for await (const slice of bus.subscribe({ topic, from, maxSliceRecords, signal })) {
      const positions = new Array<string>(slice.records.count)
      for (let row = 0; row < positions.length; row++) {
        nextOffsets[slice.partition] = Number(slice.offsets[row]!) + 1
        positions[row] = encodePosition(topic, nextOffsets)
      }
      yield { slice, positions }
    }
  } catch (error) {
    if (!signal.aborted) throw error
  }
}
