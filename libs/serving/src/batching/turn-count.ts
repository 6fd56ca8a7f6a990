/** Turns of the event loop that brought one request each before the next is taken to be alone too. */
const loneTurns = 8

/**
 * Says when to run what has arrived: at once where turns of the event loop bring one request each, since waiting for the end of the turn would only delay
 * it; else when the turn is over, so that the requests which one read of a socket held share a run.
 */
export class TurnCount {
  readonly #atEnd: () => void
  #arrivals = 0
  #lone = 0

  /** @param atEnd called at the end of every turn that brought something */
  constructor(atEnd: () => void) {
    this.#atEnd = atEnd
  }

  /** Counts a request. @returns whether to run it now; otherwise `atEnd` is called */
  arrived(): boolean {
    this.#arrivals++
    if (this.#arrivals > 1) return false
    setImmediate(this.#endTurn)
    return this.#lone >= loneTurns
  }

  readonly #endTurn = (): void => {
    this.#lone = this.#arrivals > 1 ? 0 : this.#lone + 1
    this.#arrivals = 0
    this.#atEnd()
  }
}
