import type { Bus } from '@spillway/bus'
import { type LetterOutcome, settlementOf } from './dead-letter-headers.ts'

/** Offsets of a page, a bit each. */
const pageBits = 1 << 15

/** A set of offsets, a bit for each that there might be in the stretches that have any. */
class OffsetSet {
  private readonly pages = new Map<bigint, Uint32Array>()

  add(offset: bigint): void {
    const page = offset / BigInt(pageBits)
    let words = this.pages.get(page)
    if (words === undefined) this.pages.set(page, (words = new Uint32Array(pageBits / 32)))
    const bit = Number(offset % BigInt(pageBits))
    words[bit >>> 5]! |= 1 << (bit & 31)
  }

  has(offset: bigint): boolean {
    const words = this.pages.get(offset / BigInt(pageBits))
    const bit = Number(offset % BigInt(pageBits))
    return words !== undefined && (words[bit >>> 5]! & (1 << (bit & 31))) !== 0
  }
}

interface PartitionMarks {
  readonly redriven: OffsetSet
  readonly dropped: OffsetSet
  /** The first record of the redrive topic that was not read yet. */
  next: bigint
}

/** A letter may be as large as a record can be: few are read at a time. */
export const maxLettersAtOnce = 100

/**
 * What became of letters, as the redrive topic says it: its first record for a letter settles it, and every other for the same letter counts for nothing.
 * All who read the topic so agree, however many wrote to it at once.
 */
export class LetterMarks {
  private readonly bus: Bus
  private readonly topic: string
  private readonly partitions = new Map<number, PartitionMarks>()

  constructor(bus: Bus, topic: string) {
    this.bus = bus
    this.topic = topic
  }

  /** What the records that were read say of a letter; undefined where it is open. */
  outcome(partition: number, letter: bigint): LetterOutcome | undefined {
    const marks = this.partitions.get(partition)
    if (marks === undefined) return undefined
    return marks.redriven.has(letter) ? 'redriven' : marks.dropped.has(letter) ? 'dropped' : undefined
  }

  /** Reads a partition of the redrive topic up to an offset, and no further: where more was read before, it is read anew. @throws MeshError */
  async readTo(partition: number, end: bigint, signal: AbortSignal): Promise<void> {
    const known = this.partitions.get(partition)
    if (known !== undefined && known.next > end) this.partitions.delete(partition)
    await this.readOn(partition, end, signal)
  }

  /** Reads a partition of the redrive topic at least up to an offset. @throws MeshError */
  async readOn(partition: number, end: bigint, signal: AbortSignal): Promise<void> {
    let marks = this.partitions.get(partition)
    if (marks === undefined) {
      marks = { redriven: new OffsetSet(), dropped: new OffsetSet(), next: 0n }
      this.partitions.set(partition, marks)
    }
    if (marks.next >= end) return
    const range = { topic: this.topic, from: new Map([[partition, marks.next]]), until: new Map([[partition, end]]) }
    for await (const { records, offsets } of this.bus.subscribe({ ...range, maxSliceRecords: maxLettersAtOnce, signal })) {
      for (let row = 0; row < records.count; row++) {
        const settlement = settlementOf(records.headers?.[row])
        if (settlement !== undefined && this.outcome(partition, settlement.letter) === undefined)
          marks[settlement.outcome].add(settlement.letter)
      }
      marks.next = offsets.at(-1)! + 1n
    }
    signal.throwIfAborted()
    if (marks.next < end) marks.next = end
  }
}
