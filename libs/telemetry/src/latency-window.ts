import { type Clock, systemClock } from '@spillway/core'

/** Latencies of the last seconds. Quantiles are 0 where nothing was recorded. */
export interface LatencySummary {
  readonly count: number
  readonly ratePerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
}

// Buckets are the upper bits of a double: its exponent and 5 bits of mantissa, so 32 to the octave and at most 3.1 % wide.
// They reach from 2^-7 ms (8 µs) to 2^18 ms (4 min); what lies outside counts in the outermost.
const mantissaBits = 5
const lowestExponent = -7
const highestExponent = 18
const exponentBias = 1023
const shift = 20 - mantissaBits
const firstBits = (lowestExponent + exponentBias) << mantissaBits
const bucketCount = (highestExponent - lowestExponent) << mantissaBits
const slotCount = 10

/**
 * Quantiles over a sliding window, in bounded memory (ten slots of 800 counts) and some nanoseconds a value.
 * The window moves on by a tenth of its length at a time.
 */
export class LatencyWindow {
  readonly #clock: Clock
  readonly #slotMs: number
  readonly #slots: readonly Uint32Array[] = Array.from({ length: slotCount }, () => new Uint32Array(bucketCount))
  readonly #maxima = new Float64Array(slotCount)
  readonly #double = new Float64Array(1)
  readonly #bits: Int32Array = new Int32Array(this.#double.buffer)
  /** Number of the newest slot since the epoch; slot `n` lies at `n % slotCount`. */
  #newest: number
  /** When the first value was recorded, so that a young window's rate is not diluted. */
  #firstMs = Infinity

  constructor(windowMs = 10_000, clock: Clock = systemClock) {
    this.#clock = clock
    this.#slotMs = windowMs / slotCount
    this.#newest = Math.floor(clock.nowMs() / this.#slotMs)
  }

  /** One value or many, in ms. Negative values count as 0, as clocks of two machines may differ. */
  record(latenciesMs: Float64Array | readonly number[]): void {
    const slot = this.#advance()
    const counts = this.#slots[slot]!
    let max = this.#maxima[slot]!
    for (let i = 0; i < latenciesMs.length; i++) {
      const latencyMs = latenciesMs[i]!
      this.#double[0] = latencyMs > 0 ? latencyMs : 0
      const bucket = (this.#bits[1]! >>> shift) - firstBits
      counts[bucket < 0 ? 0 : bucket < bucketCount ? bucket : bucketCount - 1]!++
      if (latencyMs > max) max = latencyMs
    }
    this.#maxima[slot] = max
  }

  summary(): LatencySummary {
    this.#advance()
    const merged = new Float64Array(bucketCount)
    for (const slot of this.#slots) for (let i = 0; i < bucketCount; i++) merged[i]! += slot[i]!
    const count = merged.reduce((sum, value) => sum + value, 0)
    const maxMs = Math.max(...this.#maxima)
    const spanMs = Math.min(this.#slotMs * slotCount, Math.max(this.#slotMs, this.#clock.nowMs() - this.#firstMs))
    const quantileMs = (q: number): number => Math.min(quantile(merged, count, q), maxMs)
    return { count, ratePerSecond: count / (spanMs / 1000), p50Ms: quantileMs(0.5), p99Ms: quantileMs(0.99), maxMs }
  }

  /** Empties the slots that the time since the last call has left behind, and names the current one. */
  #advance(): number {
    const nowMs = this.#clock.nowMs()
    if (this.#firstMs === Infinity) this.#firstMs = nowMs
    const now = Math.floor(nowMs / this.#slotMs)
    for (let n = Math.max(this.#newest + 1, now - slotCount + 1); n <= now; n++) {
      this.#slots[n % slotCount]!.fill(0)
      this.#maxima[n % slotCount] = 0
    }
    // A clock set back keeps to the newest slot.
    this.#newest = Math.max(this.#newest, now)
    return this.#newest % slotCount
  }
}

/** The upper edge of the bucket that holds the value of rank ⌈q · count⌉. */
function quantile(counts: Float64Array, count: number, q: number): number {
  if (count === 0) return 0
  let left = Math.ceil(q * count)
  let bucket = 0
  while (bucket < bucketCount - 1 && (left -= counts[bucket]!) > 0) bucket++
  return bucketEdge(bucket + 1)
}

function bucketEdge(bucket: number): number {
  const exponent = (bucket >> mantissaBits) + lowestExponent
  return 2 ** exponent * (1 + (bucket & ((1 << mantissaBits) - 1)) / (1 << mantissaBits))
}
