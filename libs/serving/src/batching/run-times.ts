/** Of a run that took longer, and of one that took less, in the mean of what runs take: a single slow one is forgotten soon. */
const slowerWeight = 0.2
const fasterWeight = 0.5

const sizes = 24

/** What runs take by their rows, learnt from those that were: the later the more. Sizes are taken together by powers of two. */
export class RunTimes {
  readonly #ms = new Float64Array(sizes)

  learn(rows: number, tookMs: number): void {
    const size = sizeOf(rows)
    const known = this.#ms[size]!
    this.#ms[size] = known === 0 ? tookMs : known + (tookMs - known) * (tookMs > known ? slowerWeight : fasterWeight)
  }

  /** Of that many rows, else of the next size that is known: of a smaller one for certain no less, of a larger one no more. 0 before the first run. */
  estimateMs(rows: number): number {
    const size = sizeOf(rows)
    for (let smaller = size; smaller >= 0; smaller--) if (this.#ms[smaller]! > 0) return this.#ms[smaller]!
    return 0
  }
}

function sizeOf(rows: number): number {
  return Math.min(sizes - 1, 31 - Math.clz32(Math.max(1, rows)))
}
