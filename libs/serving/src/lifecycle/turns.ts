/** Changes one after the other, in the order in which they are asked for. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve()
  #count = 0

  /** Whether a change is under way or waits. */
  get busy(): boolean {
    return this.#count > 0
  }

  run<T>(change: () => Promise<T>): Promise<T> {
    this.#count++
    const turn = this.#last.then(change, change).finally(() => this.#count--)
    // Its failure is for whoever asked; the next begins all the same.
    this.#last = turn.catch(() => undefined)
    return turn
  }
}
