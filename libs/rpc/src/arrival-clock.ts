import { performance } from 'node:perf_hooks'

/** An event loop that waited no longer than this since its last turn had something to read all along. */
const restMs = 1

export interface LoopTimes {
  /** ms since the epoch. */
  now(): number
  /** What the event loop has spent waiting for something to do, ms. */
  idle(): number
}

const ownTimes: LoopTimes = { now: () => Date.now(), idle: () => performance.eventLoopUtilization().idle }

/**
 * Says when what is being read may have come. While a turn of the event loop works, calls wait in the socket, and their deadlines run: of what the next turn
 * reads, the first has waited since that turn began to read.
 */
export class ArrivalClock {
  readonly #times: LoopTimes
  #reading = false
  #beganMs = -Infinity
  #idleMs = -Infinity
  #arrivedMs = 0

  constructor(times: LoopTimes = ownTimes) {
    this.#times = times
  }

  /** The earliest time at which a call can have come that is read now, ms since the epoch. */
  arrivedMs(): number {
    if (this.#reading) return this.#arrivedMs
    this.#reading = true
    setImmediate(this.#ended)
    const nowMs = this.#times.now()
    const idleMs = this.#times.idle()
    this.#arrivedMs = idleMs - this.#idleMs <= restMs ? this.#beganMs : nowMs
    this.#beganMs = nowMs
    this.#idleMs = idleMs
    return this.#arrivedMs
  }

  readonly #ended = (): void => {
    this.#reading = false
  }
}
