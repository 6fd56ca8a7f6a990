/** `closed`: calls pass. `open`: none does. `half-open`: one passes, to see whether the model is back. */
export type BreakerState = 'closed' | 'open' | 'half-open'

/** What a call says of the model: `unknown` where it was given up before it could tell. */
export type CallOutcome = 'answered' | 'failed' | 'unknown'

export interface BreakerSettings {
  /** Failures one after the other that open it. */
  readonly failuresInARow: number
  /** Share of the window's calls that must have failed to open it. */
  readonly failureRate: number
  /** Fewer calls in the window say nothing of the rate. */
  readonly minCalls: number
  /** Calls that the rate looks back on: the last so many, none older than `windowMs`. */
  readonly windowCalls: number
  readonly windowMs: number
  /** From opening to the first probe; twice as long after each probe that fails, up to `maxOpenMs`. */
  readonly openMs: number
  readonly maxOpenMs: number
}

export const defaultBreaker: BreakerSettings = {
  failuresInARow: 5,
  failureRate: 0.5,
  minCalls: 10,
  windowCalls: 20,
  windowMs: 10_000,
  openMs: 250,
  maxOpenMs: 2000,
}

/** Leave for one call; to be settled once. */
export interface Permit {
  settle(outcome: CallOutcome, nowMs: number): void
}

/**
 * Keeps callers from a model that fails (M. Nygard, Release It!, "Circuit Breaker"). It knows no clock and makes no call: both are its
 * caller's. What a call that began before the last change of state has to say comes too late to count.
 */
export class CircuitBreaker {
  readonly #settings: BreakerSettings
  readonly #onChange: (state: BreakerState) => void
  #state: BreakerState = 'closed'
  /** Counts changes of state. */
  #era = 0
  #recent: { readonly atMs: number; readonly failed: boolean }[] = []
  #inARow = 0
  #openMs: number
  #reopensAtMs = -Infinity
  #probing = false

  constructor(settings: BreakerSettings = defaultBreaker, onChange: (state: BreakerState) => void = () => undefined) {
    this.#settings = settings
    this.#onChange = onChange
    this.#openMs = settings.openMs
  }

  get state(): BreakerState {
    return this.#state
  }

  /** When another call is worth asking for, ms on the caller's clock; -Infinity where one passes now. */
  retryAtMs(nowMs: number): number {
    if (this.#state === 'closed') return -Infinity
    if (this.#state === 'half-open') return this.#probing ? nowMs + this.#settings.openMs : -Infinity
    return nowMs >= this.#reopensAtMs ? -Infinity : this.#reopensAtMs
  }

  /** Leave for a call; undefined where none is given now. */
  ask(nowMs: number): Permit | undefined {
    if (this.retryAtMs(nowMs) !== -Infinity) return undefined
    if (this.#state === 'open') this.#change('half-open')
    const probe = this.#state === 'half-open'
    this.#probing = probe
    const era = this.#era
    let settled = false
    return {
      settle: (outcome, atMs) => {
        if (settled || era !== this.#era) return
        settled = true
        if (probe) this.#probed(outcome, atMs)
        else if (outcome !== 'unknown') this.#record(outcome === 'failed', atMs)
      },
    }
  }

  #probed(outcome: CallOutcome, nowMs: number): void {
    this.#probing = false
    if (outcome === 'answered') this.#change('closed')
    if (outcome !== 'failed') return
    this.#openMs = Math.min(this.#openMs * 2, this.#settings.maxOpenMs)
    this.#open(nowMs)
  }

  #record(failed: boolean, nowMs: number): void {
    const { windowCalls, windowMs, failuresInARow, failureRate, minCalls } = this.#settings
    this.#inARow = failed ? this.#inARow + 1 : 0
    this.#recent.push({ atMs: nowMs, failed })
    if (this.#recent.length > windowCalls) this.#recent.shift()
    if (!failed) return
    this.#recent = this.#recent.filter(({ atMs }) => nowMs - atMs <= windowMs)
    const failures = this.#recent.filter((call) => call.failed).length
    const often = this.#recent.length >= minCalls && failures >= failureRate * this.#recent.length
    if (this.#inARow >= failuresInARow || often) this.#open(nowMs)
  }

  #open(nowMs: number): void {
    this.#reopensAtMs = nowMs + this.#openMs
    this.#change('open')
  }

  #change(state: BreakerState): void {
    this.#state = state
    this.#era++
    this.#recent = []
    this.#inARow = 0
    this.#probing = false
    if (state === 'closed') this.#openMs = this.#settings.openMs
    this.#onChange(state)
  }
}
