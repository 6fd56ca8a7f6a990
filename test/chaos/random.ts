/** A seeded sequence of numbers in [0, 1): mulberry32 (Tommy Ettinger's, 32 bits of state). Equal seeds give equal plans on every machine. */
export class SeededRandom {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  uniform(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  /** A whole number from `from` to `to`, both included. */
  between(from: number, to: number): number {
    return from + Math.floor(this.uniform() * (to - from + 1))
  }

  chance(probability: number): boolean {
    return this.uniform() < probability
  }

  pick<T>(choices: readonly T[]): T {
    if (choices.length === 0) throw new Error('nothing to choose from')
    return choices[Math.floor(this.uniform() * choices.length)]!
  }

  /** `count` of them, each at most once, in a drawn order. */
  sample<T>(choices: readonly T[], count: number): T[] {
    const left = [...choices]
    const drawn: T[] = []
    while (drawn.length < count && left.length > 0) drawn.push(left.splice(Math.floor(this.uniform() * left.length), 1)[0]!)
    return drawn
  }
}
