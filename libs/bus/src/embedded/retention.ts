import type { Clock } from '@spillway/core'
import { pause } from '../backoff.ts'
import type { Log, LogStore } from './log-store.ts'
import { turn } from './waiting.ts'

/** Chunks that one turn drops at most. */
const turnChunks = 256

/**
 * Drops whole chunks, oldest first, past a topic's limits, whether groups have read them or not (as Kafka does: the group then
 * starts at the earliest retained). Age counts from acceptance, not from the records' own timestamps: replayed history is not old.
 */
export class Retention {
  private readonly store: LogStore
  private readonly clock: Clock
  private readonly sweepMs: number
  private readonly stopping = new AbortController()
  private due = new AbortController()
  private running: Promise<void> | undefined

  constructor(store: LogStore, clock: Clock, sweepMs: number) {
    this.store = store
    this.clock = clock
    this.sweepMs = sweepMs
  }

  start(onError: (error: unknown) => void): void {
    this.running = this.run(onError)
  }

  /** Called after each append: a partition well past its size does not wait for the next sweep. */
  noteGrowth(log: Log): void {
    if (log.retentionBytes !== undefined && log.bytes > 1.25 * log.retentionBytes + (1 << 20)) this.due.abort()
  }

  async stop(): Promise<void> {
    this.stopping.abort()
    this.due.abort()
    await this.running
  }

  private async run(onError: (error: unknown) => void): Promise<void> {
    while (!this.stopping.signal.aborted) {
      try {
        await this.sweep()
      } catch (thrown) {
        onError(thrown)
        await pause(this.sweepMs, this.stopping.signal)
      }
      await pause(this.sweepMs, this.due.signal)
      if (!this.stopping.signal.aborted) this.due = new AbortController()
    }
  }

  private async sweep(): Promise<void> {
    for (const topic of this.store.topics.values()) {
      for (const log of topic.logs) {
        while (!this.stopping.signal.aborted && this.dropTurn(log)) await turn()
      }
    }
  }

  /** Whether there may be more to drop. */
  private dropTurn(log: Log): boolean {
    const { retentionBytes = Infinity, retentionMs = Infinity } = log
    if (log.earliest === log.end || (retentionBytes === Infinity && retentionMs === Infinity)) return false
    const youngest = this.clock.nowMs() - retentionMs
    let [left, offset, dropped] = [log.bytes, log.earliest, 0]
    for (const chunk of this.store.oldestChunks(log, turnChunks)) {
      // Like a Kafka segment, a chunk goes when what stays is still as large as the limit.
      if (left - chunk.bytes < retentionBytes && chunk.acceptedMs >= youngest) break
      left -= chunk.bytes
      offset = chunk.end
      dropped++
    }
    if (dropped > 0) this.store.dropBefore(log, offset)
    return dropped === turnChunks
  }
}
