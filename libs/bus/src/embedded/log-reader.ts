import { MeshError } from '@spillway/core'
import type { Slice } from '../port.ts'
import { concatRecords, sliceRecords } from '../records.ts'
import { type Chunk, endWithin } from './chunk.ts'
import type { Log, LogStore } from './log-store.ts'

/** Reads one partition forward. It holds at most one chunk, so that a chunk larger than a slice is read from the file once. */
export class LogReader {
  private readonly store: LogStore
  private readonly log: Log
  private held: Chunk | undefined

  constructor(store: LogStore, log: Log) {
    this.store = store
    this.log = log
  }

  /** At least one record from `offset` on, undefined where there is none yet. `offset` is retained. @throws MeshError DATA_LOSS where the file is damaged */
  read(offset: number, maxRecords: number, maxBytes: number): Slice | undefined {
    const parts: Slice['records'][] = []
    let [count, bytes] = [0, 0]
    for (const chunk of this.chunks(offset)) {
      const start = offset + count - chunk.base
      if (start < 0 || start >= chunk.records.count) throw this.missing(offset + count)
      const limit = Math.min(chunk.records.count, start + maxRecords - count)
      const end = endWithin(chunk.sizes, start, limit, maxBytes - bytes)
      const added = chunk.sizes[end]! - chunk.sizes[start]!
      this.held = chunk
      if (count > 0 && bytes + added > maxBytes) break
      parts.push(sliceRecords(chunk.records, start, end))
      count += end - start
      bytes += added
      if (end < chunk.records.count || count === maxRecords) break
    }
    if (count === 0) {
      if (offset < this.log.end) throw this.missing(offset)
      return undefined
    }
    const offsets = new BigInt64Array(count)
    for (let i = 0; i < count; i++) offsets[i] = BigInt(offset + i)
    return { topic: this.log.topic, partition: this.log.partition, records: concatRecords(parts), offsets }
  }

  private missing(offset: number): MeshError {
    const { topic, partition } = this.log
    return new MeshError(
      'DATA_LOSS',
      `${topic}/${partition} has no record at offset ${offset}: the file is damaged; restore it, or start with a new one`,
    )
  }

  private *chunks(offset: number): Generator<Chunk> {
    let next = offset
    if (this.held !== undefined) {
      const end = this.held.base + this.held.records.count
      if (this.held.base <= offset && offset < end) {
        yield this.held
        next = end
      } else this.held = undefined
    }
    if (next < this.log.end) yield* this.store.chunksFrom(this.log, next)
  }
}
