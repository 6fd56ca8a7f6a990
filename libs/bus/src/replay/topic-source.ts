import { MeshError } from '@spillway/core'
import type { Bus, Slice } from '../port.ts'
import type { ReplayInput, ReplayPartition, ReplaySource } from './replay-source.ts'

/** A topic of another bus, up to the offsets where it ends when the run begins. The bus is the caller's, started. */
export class TopicSource implements ReplaySource {
  readonly topic: string
  private readonly bus: Bus
  private readonly from: ReadonlyMap<number, bigint>
  private ends: ReadonlyMap<number, bigint> = new Map()

  /** @param from where to begin, by partition; at the earliest retained where left out */
  constructor(bus: Bus, topic: string, from: ReadonlyMap<number, bigint> = new Map()) {
    this.bus = bus
    this.topic = topic
    this.from = from
  }

  /** @throws MeshError NOT_FOUND, OUT_OF_RANGE where `from` is not retained, FAILED_PRECONDITION where the topic is not the one that was begun with */
  async open(resumed: ReplayInput | undefined): Promise<ReplayInput> {
    const offsets = await this.bus.topics.offsets(this.topic)
    const identity = `topic "${this.topic}" with ${offsets.length} partitions on the ${this.bus.name} bus`
    const partitions = offsets.map(({ partition, earliest, end }): ReplayPartition => {
      const before = resumed?.partitions.find((range) => range.partition === partition)
      if (before === undefined) return this.range(partition, earliest, end)
      if (before.end! > end)
        throw new MeshError(
          'FAILED_PRECONDITION',
          `"${this.topic}"/${partition} ends at offset ${end}, the checkpoint at ${before.end}: was the topic made anew?`,
        )
      return before
    })
    this.ends = new Map(partitions.map(({ partition, end }) => [partition, end!]))
    return { identity, partitions }
  }

  private range(partition: number, earliest: bigint, end: bigint): ReplayPartition {
    const from = this.from.get(partition) ?? earliest
    if (from < earliest || from > end)
      throw new MeshError('OUT_OF_RANGE', `"${this.topic}"/${partition} has offsets ${earliest} to ${end}, expected to begin at ${from}`, {
        field: 'from',
      })
    return { partition, from, end }
  }

  /** A subscription of its own for each partition: one that has to wait holds no other up. @throws MeshError DATA_LOSS where retention passes it */
  read(partition: number, from: bigint, maxSliceRecords: number, signal: AbortSignal): AsyncIterable<Slice> {
    const until = new Map([[partition, this.ends.get(partition)!]])
    return this.bus.subscribe({ topic: this.topic, from: new Map([[partition, from]]), until, complete: true, maxSliceRecords, signal })
  }
}
