import { type Clock, MeshError } from '@spillway/core'
import type { Records } from '../port.ts'
import { concatRecords, recordsBytesLimit } from '../records.ts'
import type { Log, LogStore, StoredPosition } from './log-store.ts'

/** Records for one partition. */
export interface Append {
  readonly log: Log
  readonly records: Records
}

/** What is committed together or not at all. */
export interface Commit {
  readonly appends: readonly Append[]
  readonly position?: StoredPosition
}

interface Pending {
  readonly commit: Commit
  readonly bytes: number
  /** The offset of each append's first record. */
  resolve(bases: readonly number[]): void
  reject(error: MeshError): void
}

/** More than this in one transaction would hold the event loop for too long. */
const maxTurnBytes = 1 << 20

/**
 * Group commit: what arrives in one turn of the event loop shares one transaction, and with it the cost of making it durable.
 * Records for the same partition become one chunk, whoever sent them.
 */
export class Committer {
  private readonly store: LogStore
  private readonly clock: Clock
  private readonly onAppended: (log: Log) => void
  private readonly queue: Pending[] = []
  private scheduled = false
  private flushed: (() => void)[] = []
  /** Bytes of records that wait for their turn. */
  pendingBytes = 0

  constructor(store: LogStore, clock: Clock, onAppended: (log: Log) => void) {
    this.store = store
    this.clock = clock
    this.onAppended = onAppended
  }

  /** Resolves when all of it is durable, with the offset of each append's first record. @throws MeshError where none of it is */
  submit(commit: Commit): Promise<readonly number[]> {
    const bytes = commit.appends.reduce((sum, append) => sum + recordsBytesLimit(append.records), 0)
    return new Promise((resolve, reject) => {
      this.queue.push({ commit, bytes, resolve, reject })
      this.pendingBytes += bytes
      this.schedule()
    })
  }

  /** Resolves when all that was submitted before is settled. */
  idle(): Promise<void> {
    return this.scheduled ? new Promise((resolve) => this.flushed.push(resolve)) : Promise.resolve()
  }

  private schedule(): void {
    if (this.scheduled) return
    this.scheduled = true
    setImmediate(() => {
      this.flush(this.takeTurn())
      this.scheduled = false
      if (this.queue.length > 0) this.schedule()
      else for (const resolve of this.flushed.splice(0)) resolve()
    })
  }

  private takeTurn(): Pending[] {
    let [count, bytes] = [0, 0]
    while (count < this.queue.length && (count === 0 || bytes + this.queue[count]!.bytes <= maxTurnBytes))
      bytes += this.queue[count++]!.bytes
    this.pendingBytes -= bytes
    return this.queue.splice(0, count)
  }

  private flush(turn: readonly Pending[]): void {
    const byLog = new Map<Log, Records[]>()
    const ends = new Map<Log, number>()
    const bases = turn.map(({ commit }) =>
      commit.appends.map(({ log, records }) => {
        const base = ends.get(log) ?? log.end
        ends.set(log, base + records.count)
        const parts = byLog.get(log)
        if (parts === undefined) byLog.set(log, [records])
        else parts.push(records)
        return base
      }),
    )
    const grown: [Log, { end: number; bytes: number }][] = []
    try {
      const nowMs = this.clock.nowMs()
      this.store.transaction(() => {
        for (const [log, parts] of byLog) grown.push([log, this.store.append(log, concatRecords(parts), nowMs)])
        for (const { commit } of turn) if (commit.position) this.store.setPosition(commit.position)
      })
    } catch (thrown) {
      const error = MeshError.from(thrown)
      for (const pending of turn) pending.reject(error)
      return
    }
    for (const [log, state] of grown) Object.assign(log, state)
    for (const [index, pending] of turn.entries()) pending.resolve(bases[index]!)
    for (const log of byLog.keys()) {
      this.onAppended(log)
      for (const wake of log.waiting) wake()
    }
  }
}
