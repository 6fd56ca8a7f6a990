/** One load at a time: what is measured at a load (its place, its memory) should not be disturbed by the next. */
export class LoadQueue {
  #last: Promise<unknown> = Promise.resolve()

  run<T>(load: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(load, load)
    // Its failure is for whoever asked; the next begins all the same.
    this.#last = turn.catch(() => undefined)
    return turn
  }
}
