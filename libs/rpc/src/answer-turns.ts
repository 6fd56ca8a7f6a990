/** What a turn of the event loop spends on answers before others have theirs. */
const longestMs = 1

/**
 * Gives answers in turns of the event loop: those of a large batch are all ready at once, and would keep timers, and calls that come meanwhile, waiting for
 * milliseconds. Callers that have theirs are at work on the next call while the others' are written.
 */
export class AnswerTurns {
  readonly #waiting: (() => void)[] = []
  #next = 0
  /** Of the turn's first answer; undefined before. */
  #beganMs: number | undefined

  /** Gives the answer now, or in a later turn: all of them in order. */
  give(answer: () => void): void {
    if (this.#beganMs === undefined) {
      this.#beganMs = performance.now()
      setImmediate(this.#turn)
    } else if (this.#waiting.length > 0 || performance.now() - this.#beganMs > longestMs) {
      this.#waiting.push(answer)
      return
    }
    answer()
  }

  readonly #turn = (): void => {
    this.#beganMs = undefined
    if (this.#waiting.length === 0) return
    const beganMs = performance.now()
    this.#beganMs = beganMs
    setImmediate(this.#turn)
    while (this.#next < this.#waiting.length) {
      this.#waiting[this.#next++]!()
      if (performance.now() - beganMs > longestMs) break
    }
    if (this.#next < this.#waiting.length) return
    this.#waiting.length = 0
    this.#next = 0
  }
}
