import { percentile } from './rounds.ts'

export interface HeartbeatReport {
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
  /** As `nodejs_eventloop_lag_p99_seconds` of `/metrics` says it: the time from one look to the next, 10 ms where nothing is in the way. */
  readonly lagMetricP99Ms: number
}

const periodMs = 10

/** A timer that is due every 10 ms of a timetable, and notes how late it came: what anything else in the process would have waited. */
export class Heartbeat {
  readonly #delaysMs: number[] = []
  #dueMs: number
  #timer: NodeJS.Timeout

  constructor() {
    this.#dueMs = performance.now() + periodMs
    this.#timer = setTimeout(this.#beat, periodMs)
  }

  readonly #beat = (): void => {
    const nowMs = performance.now()
    this.#delaysMs.push(Math.max(0, nowMs - this.#dueMs))
    // Beats that fell into a stall were late too, each by what was left of it.
    for (this.#dueMs += periodMs; this.#dueMs <= nowMs; this.#dueMs += periodMs) this.#delaysMs.push(nowMs - this.#dueMs)
    this.#timer = setTimeout(this.#beat, this.#dueMs - nowMs)
  }

  /** @param turns Node.js's own measure, ns */
  stop(turns: { percentile(percent: number): number }): HeartbeatReport {
    clearTimeout(this.#timer)
    return {
      p50Ms: percentile(this.#delaysMs, 0.5),
      p99Ms: percentile(this.#delaysMs, 0.99),
      maxMs: percentile(this.#delaysMs, 1),
      lagMetricP99Ms: turns.percentile(99) / 1e6,
    }
  }
}
