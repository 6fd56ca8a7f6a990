import { type Distribution, distribution, Moments, sortedValues, StabilityBins } from './distribution.ts'
import type { VectorColumns } from './vector-columns.ts'

/** How one feature's values were live, against training. */
export interface FeatureDrift {
  readonly feature: string
  readonly live: Distribution
  readonly training: Distribution
  /** Population stability index over deciles of training; NaN where either has no rows. */
  readonly stability: number
}

/** Live rows whose values are kept for quantiles; of more, so many drawn evenly. */
const sampleRows = 250_000
const seed = 0x9e3779b9

/** Takes live vectors as they come and says how they differ from training, feature by feature. */
export class DriftMeter {
  private readonly names: readonly string[]
  private readonly training: readonly { readonly distribution: Distribution; readonly bins: StabilityBins }[]
  private readonly live: readonly { readonly moments: Moments; readonly bins: StabilityBins; readonly sample: Float32Array }[]
  private rows = 0
  private state = seed

  constructor(training: VectorColumns) {
    this.names = training.names
    const edges: (readonly number[])[] = []
    this.training = training.names.map((_, index) => {
      const column = training.column(index)
      const sorted = sortedValues(column)
      edges.push(StabilityBins.edgesOf(sorted))
      const bins = new StabilityBins(edges[index]!)
      const moments = new Moments()
      for (const value of column) {
        moments.add(value)
        bins.add(value)
      }
      return { distribution: distribution(moments, sorted), bins }
    })
    this.live = edges.map((own) => ({
      moments: new Moments(),
      bins: new StabilityBins(own),
      sample: new Float32Array(sampleRows).fill(NaN),
    }))
  }

  /** Rows of each feature, in their order. */
  add(columns: readonly Float64Array[], rowCount: number): void {
    const places = this.draw(rowCount)
    this.live.forEach(({ moments, bins, sample }, index) => {
      const column = columns[index]!
      for (let row = 0; row < rowCount; row++) {
        const value = Math.fround(column[row]!)
        moments.add(value)
        bins.add(value)
        if (places[row]! >= 0) sample[places[row]!] = value
      }
    })
  }

  summary(): readonly FeatureDrift[] {
    return this.names.map((feature, index) => {
      const { moments, bins, sample } = this.live[index]!
      const training = this.training[index]!
      return {
        feature,
        live: distribution(moments, sortedValues(sample)),
        training: training.distribution,
        stability: bins.index(training.bins),
      }
    })
  }

  /** Where each row goes in the sample, -1 where it does not: algorithm R of Vitter, "Random Sampling with a Reservoir", 1985. */
  private draw(rowCount: number): Int32Array {
    return Int32Array.from({ length: rowCount }, () => {
      const row = this.rows++
      if (row < sampleRows) return row
      const place = Math.floor(this.random() * (row + 1))
      return place < sampleRows ? place : -1
    })
  }

  /** 0 to 1, the same in every run: xorshift32 (Marsaglia, "Xorshift RNGs", 2003). */
  private random(): number {
    this.state ^= this.state << 13
    this.state ^= this.state >>> 17
    this.state ^= this.state << 5
    return (this.state >>> 0) / 4_294_967_296
  }
}
