import type { Clock } from '@spillway/core'

export interface AlignmentOptions {
  /** How far an input may run ahead of the one furthest behind, in event time. */
  readonly maxSkewMs: number
  /** After this long without records, by the wall clock, a partition that has none left no longer holds the others. */
  readonly idleMs: number
  readonly clock: Clock
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
}

/**
 * Keeps the partitions of a segment's inputs together in event time: rows further ahead than `maxSkewMs` of the partition furthest behind
 * wait, unless that one is idle. With windows on other keys delayed by at least `maxSkewMs` this makes them exact, live and in a backfill.
 */
export class Alignment {
  private readonly options: AlignmentOptions
  private readonly lanes = new Map<string, Lane>()
  private wake: PromiseWithResolvers<void> = Promise.withResolvers<void>()

  constructor(options: AlignmentOptions) {
    this.options = options
  }

  /** A partition was given to this process: until it is known to be idle, nothing runs ahead of it. */
  add(lane: string): void {
    if (!this.lanes.has(lane))
      this.lanes.set(lane, { watermarkMs: -Infinity, activeMs: this.options.clock.nowMs(), busy: false, caughtUp: false })
  }

  remove(lane: string): void {
    this.lanes.delete(lane)
    this.notify()
  }

  /** What is known of the partition's backlog. One that is slow to be read, or of which nothing is known, is never taken for an idle one. */
  markBacklog(lane: string, hasBacklog: boolean): void {
    const state = this.lanes.get(lane)
    if (state === undefined) return
    if (hasBacklog) state.activeMs = this.options.clock.nowMs()
    if (state.caughtUp === !hasBacklog) return
    state.caughtUp = !hasBacklog
    this.notify()
  }

  /**
   * How many of the rows may go on now; waits until it is at least one.
   * @param eventTimesMs of consecutive rows, in the order of the partition
   * @throws the signal's reason where it fires first
   */
  async admit(lane: string, eventTimesMs: Float64Array, signal: AbortSignal): Promise<number> {
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
    for (;;) {
      signal.throwIfAborted()
      const { limitMs, recheckInMs } = this.limit(lane)
      let admitted = 0
      while (admitted < eventTimesMs.length && Math.min(eventTimesMs[admitted]!, nowMs) <= limitMs) admitted++
      // In lockstep each step of one lane would let the others take a row or two: a lane waits until it can take a good piece. The lane furthest
      // behind always can, so that all of them never wait at once.
      const worthwhile = limitMs - state.watermarkMs >= this.options.maxSkewMs / 2
      if (admitted === eventTimesMs.length || (admitted > 0 && worthwhile)) return admitted
      await this.waitForChange(recheckInMs, signal)
    }
  }

  /** Rows up to this event time were processed. */
  done(lane: string, eventTimeMs: number): void {
    const state = this.lanes.get(lane)
    if (state === undefined) return
    state.busy = false
    state.activeMs = this.options.clock.nowMs()
    state.watermarkMs = Math.max(state.watermarkMs, Math.min(eventTimeMs, state.activeMs))
    this.notify()
  }

  private limit(own: string): { limitMs: number; recheckInMs: number } {
    const nowMs = this.options.clock.nowMs()
    let lowMs = Infinity
    let recheckInMs = Infinity
    for (const [name, lane] of this.lanes) {
      if (name === own) continue
      if (!lane.busy && lane.caughtUp) {
        const idleInMs = lane.activeMs + this.options.idleMs - nowMs
        if (idleInMs <= 0) continue
        recheckInMs = Math.min(recheckInMs, idleInMs)
      }
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
