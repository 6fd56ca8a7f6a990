import type { Slice } from './port.ts'

/** How an adapter holds the records that it has read. */
export interface HeldRecords<R> {
  /** Key, value and headers. */
  readonly bytesOf: (record: R) => number
  /** Records `start` to `end`, copied. */
  readonly sliceOf: (topic: string, partition: number, records: readonly R[], start: number, end: number) => Slice
}

/** Records of one partition that wait for their slice. */
export class RecordQueue<R> {
  readonly #topic: string
  readonly #partition: number
  readonly #held: HeldRecords<R>
  #records: R[] = []
  #bytes = 0
  /** What was given last, while none of it has been taken out. */
  #slice: Slice | undefined

  constructor(topic: string, partition: number, held: HeldRecords<R>) {
    this.#topic = topic
    this.#partition = partition
    this.#held = held
  }

  get length(): number {
    return this.#records.length
  }

  get bytes(): number {
    return this.#bytes
  }

  push(record: R): void {
    this.#records.push(record)
    this.#bytes += this.#held.bytesOf(record)
  }

  /** The first records, within the limits, one at least. They stay in the queue; until some are dropped, the same slice is given again. */
  slice(maxRecords: number, maxBytes: number): Slice {
    return (this.#slice ??= this.#cut(maxRecords, maxBytes))
  }

  /** Whether the first slice is as long as it can be, whatever is still to come. */
  holdsSlice(maxRecords: number, maxBytes: number): boolean {
    return this.#records.length >= maxRecords || this.#bytes > maxBytes
  }

  #cut(maxRecords: number, maxBytes: number): Slice {
    const { bytesOf, sliceOf } = this.#held
    const limit = Math.min(this.#records.length, maxRecords)
    let end = 1
    for (let bytes = bytesOf(this.#records[0]!); end < limit; end++) {
      bytes += bytesOf(this.#records[end]!)
      if (bytes > maxBytes) break
    }
    return sliceOf(this.#topic, this.#partition, this.#records, 0, end)
  }

  /** The record at a place; undefined past the last. */
  at(index: number): R | undefined {
    return this.#records[index]
  }

  /** Takes the first records out. */
  drop(count: number): void {
    for (const record of this.#records.splice(0, count)) this.#bytes -= this.#held.bytesOf(record)
    this.#slice = undefined
  }

  clear(): void {
    this.#records = []
    this.#bytes = 0
    this.#slice = undefined
  }
}
