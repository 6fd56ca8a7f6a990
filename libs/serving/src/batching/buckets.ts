/** A histogram's counts: an observation is two additions and a short search. */
export class Buckets {
  /** Upper bounds, inclusive, ascending, +Inf left out. */
  readonly bounds: readonly number[]
  /** By bucket, not cumulative; the last is what lies beyond all bounds. */
  readonly counts: Float64Array
  sum = 0

  constructor(bounds: readonly number[]) {
    this.bounds = bounds
    this.counts = new Float64Array(bounds.length + 1)
  }

  observe(value: number): void {
    const { bounds } = this
    let bucket = 0
    while (bucket < bounds.length && value > bounds[bucket]!) bucket++
    this.counts[bucket]! += 1
    this.sum += value
  }
}
