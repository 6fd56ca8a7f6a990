/** Turns of the event loop with less between them followed one another at once: what the second read had come during the first. */
const restMs = 1

/**
 * Says when what is being read may have come. While a turn of the event loop works, calls wait in the socket, and their deadlines run: of what the next turn
 * reads, the first has waited since that turn began to read.
 */
export class ArrivalClock {
  readonly #nowMs: () => number
  /** ms since the epoch, as all here; undefined between turns. */
  #beganMs: number | undefined
  #arrivedMs = 0
  #lastBeganMs = -Infinity
  #lastEndedMs = -Infinity

  constructor(nowMs: () => number = Date.now) {
    this.#nowMs = nowMs
  }

  /** The earliest time at which a call can have come that is read now. */
  arrivedMs(): number {
    if (this.#beganMs !== undefined) return this.#arrivedMs
    const nowMs = this.#nowMs()
    this.#beganMs = nowMs
    this.#arrivedMs = nowMs - this.#lastEndedMs <= restMs ? this.#lastBeganMs : nowMs
    setImmediate(this.#ended)
    return this.#arrivedMs
  }

  readonly #ended = (): void => {
    this.#lastBeganMs = this.#beganMs!
    this.#lastEndedMs = this.#nowMs()
    this.#beganMs = undefined
  }
}
