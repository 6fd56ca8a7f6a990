import type { Slice } from '../port.ts'
import type { FetchedMessage } from './kafkajs-cluster.ts'
import { messageBytes, sliceOf } from './messages.ts'

/** Fetched records of one partition that wait for their slice. */
export class SliceQueue {
  #messages: FetchedMessage[] = []
  #bytes = 0

  get length(): number {
    return this.#messages.length
  }

  get bytes(): number {
    return this.#bytes
  }

  push(messages: readonly FetchedMessage[]): void {
    for (const message of messages) {
      this.#messages.push(message)
      this.#bytes += messageBytes(message)
    }
  }

  /** The first records, within the limits, one at least. They stay in the queue. */
  slice(topic: string, partition: number, maxRecords: number, maxBytes: number): Slice {
    const limit = Math.min(this.#messages.length, maxRecords)
    let end = 1
    for (let bytes = messageBytes(this.#messages[0]!); end < limit; end++) {
      bytes += messageBytes(this.#messages[end]!)
      if (bytes > maxBytes) break
    }
    return sliceOf(topic, partition, this.#messages, 0, end)
  }

  /** The offset of a record by its place; undefined past the last. */
  offsetAt(index: number): bigint | undefined {
    const message = this.#messages[index]
    return message && BigInt(message.offset)
  }

  /** Takes the first records out. */
  drop(count: number): void {
    for (const message of this.#messages.splice(0, count)) this.#bytes -= messageBytes(message)
  }

  clear(): void {
    this.#messages = []
    this.#bytes = 0
  }
}
