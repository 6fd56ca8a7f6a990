import type { Slice } from '../port.ts'
import { sliceOf, type StoredRecord } from './messages.ts'

/** Records of one partition that wait for their slice. */
export class RecordQueue {
  #records: StoredRecord[] = []
  #bytes = 0

  get length(): number {
    return this.#records.length
  }

  get bytes(): number {
    return this.#bytes
  }

  push(record: StoredRecord): void {
    this.#records.push(record)
    this.#bytes += record.bytes
  }

  /** The first records, within the limits, one at least. They stay in the queue. */
  slice(topic: string, partition: number, maxRecords: number, maxBytes: number): Slice {
    const limit = Math.min(this.#records.length, maxRecords)
    let end = 1
    for (let { bytes } = this.#records[0]!; end < limit; end++) {
      bytes += this.#records[end]!.bytes
      if (bytes > maxBytes) break
    }
    return sliceOf(topic, partition, this.#records, 0, end)
  }

  /** Takes the first records out. */
  drop(count: number): void {
    for (const { bytes } of this.#records.splice(0, count)) this.#bytes -= bytes
  }

  clear(): void {
    this.#records = []
    this.#bytes = 0
  }
}
