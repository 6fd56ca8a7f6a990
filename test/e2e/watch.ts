import type { Bus } from '@spillway/bus'
import { bytesAt } from '@spillway/core'
import type { CheckedRecord } from '../checker/record.ts'

/** All that comes to a topic, as it comes. */
export class TopicWatch {
  readonly records: (CheckedRecord & { readonly arrivedMs: number })[] = []
  private readonly ended = new AbortController()
  private readonly reading: Promise<void>
  private failure: Error | undefined

  constructor(bus: Bus, topic: string) {
    this.reading = this.read(bus, topic).catch((error: unknown) => {
      this.failure = error as Error
    })
  }

  /** How many there are. @throws what reading failed with */
  get count(): number {
    if (this.failure !== undefined) throw this.failure
    return this.records.length
  }

  async end(): Promise<void> {
    this.ended.abort()
    await this.reading
  }

  private async read(bus: Bus, topic: string): Promise<void> {
    const { signal } = this.ended
    for await (const { partition, offsets, records } of bus.subscribe({ topic, from: 'earliest', maxSliceRecords: 1000, signal })) {
      const arrivedMs = performance.now()
      for (let row = 0; row < records.count; row++)
        this.records.push({
          partition,
          offset: Number(offsets[row]),
          key: records.keys === undefined ? '' : Buffer.from(bytesAt(records.keys, row)).toString(),
          value: Buffer.from(bytesAt(records.values, row)).toString(),
          headers: records.headers?.[row] ?? {},
          arrivedMs,
        })
    }
  }
}
