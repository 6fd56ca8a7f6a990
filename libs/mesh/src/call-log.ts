import { setTimeout as wait } from 'node:timers/promises'
import { type Batch, bytesColumn, type Component, concatBatches, MeshError } from '@spillway/core'
import type { Bus } from '@spillway/bus'
import type { MeshMetrics, Telemetry } from '@spillway/telemetry'
import { type FrameInfo, splitFrames } from '@spillway/wire'

export interface CallLogOptions {
  readonly bus: Bus
  readonly topic: string
  readonly frame: FrameInfo
  readonly logger: Telemetry['logger']
  readonly metrics: MeshMetrics
}

const maxRows = 10_000
const publishEveryMs = 200
const retryEveryMs = 1000
const drainWithinMs = 2000
/** Room kept for what a bus adds to a frame's record. */
const recordOverheadBytes = 4096

/** The vectors of synchronous calls on their way to the feature log: published behind the calls' back, which never wait; dropped where there is no room. */
export class CallLog implements Component {
  private readonly options: CallLogOptions
  private waiting: Batch[] = []
  private rows = 0
  private warned = false
  private away = false
  private readonly stopping = new AbortController()
  private running: Promise<void> | undefined

  constructor(options: CallLogOptions) {
    this.options = options
  }

  start(): Promise<void> {
    this.running = this.run()
    return Promise.resolve()
  }

  /** Publishes what waits, as far as the bus takes it in time. */
  async drain(): Promise<void> {
    if (this.stopping.signal.aborted) return this.running
    this.stopping.abort()
    await this.running
    await Promise.race([this.publish(), wait(drainWithinMs, undefined, { ref: false })])
    if (this.rows > 0) this.drop(this.rows)
  }

  /** Takes the rows, or drops them. */
  offer(batch: Batch): void {
    if (this.stopping.signal.aborted || this.rows + batch.rowCount > maxRows) return this.drop(batch.rowCount)
    this.waiting.push(batch)
    this.rows += batch.rowCount
  }

  private drop(rows: number): void {
    const { metrics, logger, topic } = this.options
    metrics.featureLogDropped(rows)
    if (!this.warned) logger.warn({ topic, rows }, 'the feature log has no room for the vectors of calls: they are dropped, and counted')
    this.warned = true
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping
    for (let delayMs = publishEveryMs; !signal.aborted; delayMs = (await this.publish()) ? publishEveryMs : retryEveryMs)
      // Rejects with nothing but the end of the work.
      await wait(delayMs, undefined, { signal }).catch(() => undefined)
  }

  /** @returns whether nothing is left but what came meanwhile */
  private async publish(): Promise<boolean> {
    const { bus, topic, frame, logger } = this.options
    const count = this.waiting.length
    if (count === 0) return true
    const batch = concatBatches(this.waiting)
    const { frames, oversize } = splitFrames(batch, frame, bus.maxRecordBytes - recordOverheadBytes)
    try {
      if (frames.length > 0) await bus.publish(topic, { count: frames.length, values: bytesColumn(frames) })
    } catch (thrown) {
      // Once, not at every try.
      if (!this.away) logger.warn({ topic, reason: MeshError.from(thrown).message }, 'the feature log cannot be written: trying again')
      this.away = true
      return false
    }
    this.away = false
    // What came meanwhile stands behind what was published.
    this.waiting = this.waiting.slice(count)
    this.rows -= batch.rowCount
    if (oversize.length > 0) this.drop(oversize.length)
    return true
  }
}
