import { type Clock, MeshError } from '@spillway/core'
import type { LaneReport } from '@spillway/features'
import { LanesElsewhere } from './lanes-elsewhere.ts'

export interface AlignmentOptions {
  /** How far an input may run ahead of the one furthest behind, in event time. */
  readonly maxSkewMs: number
  /** After this long without records, by the wall clock, a partition that has none left no longer holds the others. */
  readonly idleMs: number
  readonly clock: Clock
  /** Every partition of the aligned inputs, where other processes may have some of them; absent where those of this process are all that count. */
  readonly sharedLanes?: readonly string[]
}

/** Rows of a lane that may go on. */
export interface Admission {
  /** How many, from the first; at least one. */
  readonly rowCount: number
  /** Rows up to this event time were processed, and are history. Nothing happens where the lane was given up since. */
  readonly done: (eventTimeMs: number) => void
}

interface Lane {
  /** Event time up to which this partition is known to have come. */
  watermarkMs: number
  /** When it last had records, by the wall clock. */
  activeMs: number
  /** Whether it has records in hand now: then it is never idle. */
  busy: boolean
  /** Whether it was seen to have no records left since it last had some: only then it can be idle. */
  caughtUp: boolean
  /** When its backlog was last read. */
  readMs: number
  beat: number
}

/** A reading of the backlog says nothing of now when it is older: a broker that is away does not make a partition idle. */
const readingHoldsMs = 5000

/**
 * Keeps the partitions of a segment's inputs together in event time: rows further ahead than `maxSkewMs` of the partition furthest behind
 * wait, unless that one is idle. With windows on other keys delayed by at least `maxSkewMs` this makes them exact, live and in a backfill.
 * Where processes share the partitions, each tells the others how far its own have come (`AlignmentExchange`), and those count as its own do.
 */
export class Alignment {
  private readonly options: AlignmentOptions
  private readonly lanes = new Map<string, Lane>()
  private readonly elsewhere: LanesElsewhere | undefined
  private wake: PromiseWithResolvers<void> = Promise.withResolvers<void>()
  private closed = false

  constructor(options: AlignmentOptions) {
    this.options = options
    if (options.sharedLanes !== undefined) this.elsewhere = new LanesElsewhere(options.sharedLanes, options.clock)
  }

  /** A partition was given to this process: until it is known to be idle, nothing runs ahead of it. It goes on from where its last owner was. */
  add(lane: string): void {
    if (this.lanes.has(lane)) return
    const { watermarkMs = -Infinity, beat = 0 } = this.elsewhere?.told(lane) ?? {}
    const activeMs = this.options.clock.nowMs()
    this.lanes.set(lane, { watermarkMs, activeMs, busy: false, caughtUp: false, readMs: -Infinity, beat })
  }

  remove(lane: string): void {
    const state = this.lanes.get(lane)
    if (state === undefined) return
    this.lanes.delete(lane)
    this.elsewhere?.takeOver(lane, state)
    this.notify()
  }

  /** What is known of the partition's backlog. One that is slow to be read, or of which nothing is known, is never taken for an idle one. */
  markBacklog(lane: string, hasBacklog: boolean): void {
    const state = this.lanes.get(lane)
    if (state === undefined) return
    const nowMs = this.options.clock.nowMs()
    const wasFresh = nowMs - state.readMs <= readingHoldsMs
    state.readMs = nowMs
    if (hasBacklog) state.activeMs = nowMs
    if (state.caughtUp === !hasBacklog && wasFresh) return
    state.caughtUp = !hasBacklog
    this.notify()
  }

  /**
   * Waits until at least one of the rows may go on.
   * @param eventTimesMs of consecutive rows, in the order of the partition
   * @throws the signal's reason where it fires first, MeshError CANCELLED once closed
   */
  async admit(lane: string, eventTimesMs: Float64Array, signal: AbortSignal): Promise<Admission> {
    for (;;) {
      signal.throwIfAborted()
      const { admission, recheckInMs } = this.offer(lane, eventTimesMs)
      if (admission !== undefined) return admission
      if (this.closed) throw new MeshError('CANCELLED', 'the segment is stopping: the rows are offered again')
      await this.waitForChange(recheckInMs, signal)
    }
  }

  /** As `admit`, without the wait: no admission where the rows cannot go on, and after how long that may change by itself. */
  offer(lane: string, eventTimesMs: Float64Array): { readonly admission?: Admission; readonly recheckInMs: number } {
    this.add(lane)
    const state = this.lanes.get(lane)!
    state.busy = true
    state.caughtUp = false
    // An event with a time ahead of the clock counts as one of now: it must not hold its partition up until its time has come.
    const nowMs = this.options.clock.nowMs()
    const head = Math.min(eventTimesMs[0]!, nowMs)
    if (head > state.watermarkMs) {
      state.watermarkMs = head
      this.notify()
    }
    const { limitMs, recheckInMs } = this.limit(lane)
    let rowCount = 0
    while (rowCount < eventTimesMs.length && Math.min(eventTimesMs[rowCount]!, nowMs) <= limitMs) rowCount++
    // In lockstep each step of one lane would let the others take a row or two: a lane waits until it can take a good piece. The lane furthest
    // behind always can, so that all of them never wait at once.
    const worthwhile = limitMs - state.watermarkMs >= this.options.maxSkewMs / 2
    if (rowCount < eventTimesMs.length && !(rowCount > 0 && worthwhile)) return { recheckInMs }
    return { admission: { rowCount, done: (eventTimeMs) => this.done(state, eventTimeMs) }, recheckInMs }
  }

  /** What this process tells of its lanes; each call is a new beat. */
  reports(): readonly LaneReport[] {
    const nowMs = this.options.clock.nowMs()
    return [...this.lanes].map(([lane, state]) => ({
      lane,
      watermarkMs: state.watermarkMs,
      idle: this.idleInMs(state, nowMs) <= 0,
      beat: ++state.beat,
    }))
  }

  /** What the board says, of its own lanes too: they may have been another's until just now. */
  learn(reports: readonly LaneReport[]): void {
    for (const { lane, watermarkMs, beat } of reports) {
      const state = this.lanes.get(lane)
      if (state === undefined) continue
      state.watermarkMs = Math.max(state.watermarkMs, watermarkMs)
      state.beat = Math.max(state.beat, beat)
    }
    this.elsewhere?.learn(reports.filter(({ lane }) => !this.lanes.has(lane)))
    this.notify()
  }

  /** Ends every wait: what has to wait is left for the next start. */
  close(): void {
    this.closed = true
    this.notify()
  }

  /** Whether none of its own lanes holds the others. */
  get idle(): boolean {
    const nowMs = this.options.clock.nowMs()
    return [...this.lanes.values()].every((lane) => this.idleInMs(lane, nowMs) <= 0)
  }

  /** Settles when a lane next comes up, goes or wakes. */
  get changed(): Promise<void> {
    return this.wake.promise
  }

  /** Of a lane that was given up, the state is no lane's any more: what a halted handler says of it reaches nobody. */
  private done(state: Lane, eventTimeMs: number): void {
    state.busy = false
    state.activeMs = this.options.clock.nowMs()
    state.watermarkMs = Math.max(state.watermarkMs, Math.min(eventTimeMs, state.activeMs))
    this.notify()
  }

  /** Until the lane counts as idle; Infinity where time alone does not make it so. */
  private idleInMs(lane: Lane, nowMs: number): number {
    if (lane.busy || !lane.caughtUp || nowMs - lane.readMs > readingHoldsMs) return Infinity
    return lane.activeMs + this.options.idleMs - nowMs
  }

  private limit(own: string): { limitMs: number; recheckInMs: number } {
    const nowMs = this.options.clock.nowMs()
    let lowMs = this.elsewhere?.lowestMs(this.lanes) ?? Infinity
    let recheckInMs = Infinity
    for (const [name, lane] of this.lanes) {
      if (name === own) continue
      const idleInMs = this.idleInMs(lane, nowMs)
      if (idleInMs <= 0) continue
      recheckInMs = Math.min(recheckInMs, idleInMs)
      lowMs = Math.min(lowMs, lane.watermarkMs)
    }
    return { limitMs: lowMs + this.options.maxSkewMs, recheckInMs }
  }

  private notify(): void {
    this.wake.resolve()
    this.wake = Promise.withResolvers<void>()
  }

  private async waitForChange(recheckInMs: number, signal: AbortSignal): Promise<void> {
    const { promise: otherwise, resolve } = Promise.withResolvers<void>()
    const stop = (): void => resolve()
    const timer = recheckInMs === Infinity ? undefined : setTimeout(stop, Math.max(1, recheckInMs))
    signal.addEventListener('abort', stop, { once: true })
    try {
      await Promise.race([this.wake.promise, otherwise])
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', stop)
    }
  }
}
