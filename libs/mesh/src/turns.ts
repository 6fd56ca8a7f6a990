/** One piece of work at a time of each name, in the order in which they came. */
export class Turns {
  private readonly last = new Map<string, Promise<unknown>>()

  async take<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.last.get(name)
    const mine = before === undefined ? work() : before.then(work)
    // Whoever is next waits for the end, not for its outcome.
    const ended = mine.then(
      () => undefined,
      () => undefined,
    )
    this.last.set(name, ended)
    try {
      return await mine
    } finally {
      if (this.last.get(name) === ended) this.last.delete(name)
    }
  }
}
