import type { Telemetry } from '@spillway/telemetry'

export interface PollerOptions {
  /** Looks and acts. @returns whether something was seen that another look may settle */
  readonly look: () => Promise<boolean>
  readonly pollMs: number
  readonly settleMs: number
  /** Calls back at a hint that something changed; returns what ends it. */
  readonly watch: (changed: () => void) => () => void
  readonly logger: Telemetry['logger']
}

/** How long after a hint, so that a burst of them makes one look. */
const hintMs = 50

/** Looks again and again: every `pollMs`, and sooner after a hint or while something is being written. One look at a time. */
export class Poller {
  readonly #options: PollerOptions
  #timer: NodeJS.Timeout | undefined
  #atMs = Infinity
  #looking: Promise<void> | undefined
  #hinted = false
  #stopWatching: (() => void) | undefined
  #stopped = false

  constructor(options: PollerOptions) {
    this.#options = options
  }

  start(): void {
    this.#stopWatching = this.#options.watch(() => this.#hint())
    this.#schedule(this.#options.pollMs)
  }

  #hint(): void {
    if (this.#looking === undefined) this.#schedule(hintMs)
    else this.#hinted = true
  }

  /** Never later than what is already scheduled. */
  #schedule(delayMs: number): void {
    const atMs = performance.now() + delayMs
    if (this.#stopped || atMs >= this.#atMs) return
    clearTimeout(this.#timer)
    this.#atMs = atMs
    this.#timer = setTimeout(() => {
      this.#atMs = Infinity
      this.#looking = this.#look().finally(() => (this.#looking = undefined))
    }, delayMs)
    this.#timer.unref()
  }

  async #look(): Promise<void> {
    const { look, pollMs, settleMs, logger } = this.#options
    let again = false
    this.#hinted = false
    try {
      again = await look()
    } catch (error) {
      logger.warn({ err: error }, 'the models could not be looked at: what is served stays as it is')
    }
    this.#schedule(this.#hinted ? hintMs : again ? Math.min(Math.max(settleMs, hintMs), pollMs) : pollMs)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    this.#stopWatching?.()
    await this.#looking
  }
}
