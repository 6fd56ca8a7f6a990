import type { Bus } from '@spillway/bus'
import type { CheckedRecord } from '../checker/record.ts'
import { recordsIn } from './read-bus.ts'

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
    for await (const slice of bus.subscribe({ topic, from: 'earliest', maxSliceRecords: 1000, signal })) {
      const arrivedMs = performance.now()
      for (const record of recordsIn(slice)) this.records.push({ ...record, arrivedMs })
    }
  }
}
