/** What a column's values look like. `mean` to `p95` are of those that are there, NaN where none is. */
export interface Distribution {
  readonly rows: number
  /** Of the rows, 0 to 1. */
  readonly missingShare: number
  readonly mean: number
  /** Of the population, not estimated from a sample. */
  readonly deviation: number
  readonly p05: number
  readonly p25: number
  readonly p50: number
  readonly p75: number
  readonly p95: number
}

/** The values that are there, ascending. */
export function sortedValues(values: Float32Array): Float32Array {
  return values.filter((value) => !Number.isNaN(value)).sort()
}

/** Linear between the nearest two (definition 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996); NaN of nothing. */
function quantile(sorted: Float32Array, share: number): number {
  if (sorted.length === 0) return NaN
  const place = (sorted.length - 1) * share
  const low = Math.floor(place)
  const below = sorted[low]!
  return below + (sorted[Math.min(low + 1, sorted.length - 1)]! - below) * (place - low)
}

/** Mean and deviation of numbers as they come (Welford, "Note on a Method for Calculating Corrected Sums of Squares and Products", 1962). */
export class Moments {
  count: number = 0
  missing: number = 0
  mean: number = NaN
  private squares = 0

  add(value: number): void {
    if (Number.isNaN(value)) {
      this.missing++
      return
    }
    this.count++
    if (this.count === 1) {
      this.mean = value
      return
    }
    const before = value - this.mean
    this.mean += before / this.count
    this.squares += before * (value - this.mean)
  }

  get deviation(): number {
    return this.count === 0 ? NaN : Math.sqrt(this.squares / this.count)
  }
}

/** @param sorted the values, or enough of them for quantiles */
export function distribution(moments: Moments, sorted: Float32Array): Distribution {
  const rows = moments.count + moments.missing
  const at = (share: number): number => quantile(sorted, share)
  return {
    rows,
    missingShare: rows === 0 ? NaN : moments.missing / rows,
    mean: moments.mean,
    deviation: moments.deviation,
    p05: at(0.05),
    p25: at(0.25),
    p50: at(0.5),
    p75: at(0.75),
    p95: at(0.95),
  }
}

const bins = 10
/** What an empty bin counts as: its logarithm would be infinite. */
const leastShare = 0.0001

/**
 * Counts in bins whose edges are the deciles of training (equal ones count once), and one bin for missing values: for the population stability index,
 * `sum((live - training) * ln(live / training))` over the bins' shares (Siddiqi, "Credit Risk Scorecards", 2006; the sum is Jeffreys' divergence).
 */
export class StabilityBins {
  private readonly edges: readonly number[]
  private readonly counts: Float64Array
  private total = 0

  constructor(edges: readonly number[]) {
    this.edges = edges
    this.counts = new Float64Array(edges.length + 2)
  }

  static edgesOf(sorted: Float32Array): readonly number[] {
    const edges = Array.from({ length: bins - 1 }, (_, index) => quantile(sorted, (index + 1) / bins))
    return [...new Set(edges.filter((edge) => !Number.isNaN(edge)))]
  }

  add(value: number): void {
    this.total++
    this.counts[Number.isNaN(value) ? this.counts.length - 1 : this.binOf(value)]!++
  }

  /** Against the same bins of training; NaN where either has no rows. */
  index(training: StabilityBins): number {
    if (this.total === 0 || training.total === 0) return NaN
    let sum = 0
    for (let bin = 0; bin < this.counts.length; bin++) {
      const live = Math.max(this.counts[bin]! / this.total, leastShare)
      const expected = Math.max(training.counts[bin]! / training.total, leastShare)
      sum += (live - expected) * Math.log(live / expected)
    }
    return sum
  }

  /** How many edges lie below the value. */
  private binOf(value: number): number {
    let bin = 0
    while (bin < this.edges.length && value > this.edges[bin]!) bin++
    return bin
  }
}
