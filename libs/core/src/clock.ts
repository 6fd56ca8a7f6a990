/** Wall-clock time, so that a test can hold it. */
export interface Clock {
  /** ms since the epoch. */
  nowMs(): number
}

export const systemClock: Clock = { nowMs: () => Date.now() }
