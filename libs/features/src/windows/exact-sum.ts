/**
 * The exact sum of finite FP64 numbers, rounded once when it is read: what it gives depends on the numbers alone, not on their order, nor on how they fell
 * into partial sums that were added up. Two numbers hold the sum of most histories; what they cannot hold goes to an expansion of as many as it takes.
 *
 * Every step is TwoSum, which splits a sum into its rounded value and the exact error (Knuth, The Art of Computer Programming 2, 4.2.2, theorem B), so that
 * `high + low + rest` is the sum at any time. Adding two FP64 numbers is correctly rounded; for more see `Expansion`.
 */
export class ExactSum {
  high = 0
  low = 0
  rest: Expansion | undefined

  add(number: number): void {
    const { high } = this
    const sum = high + number
    const part = sum - high
    const error = high - (sum - part) + (number - part)
    this.high = sum
    if (error === 0) return
    const { low } = this
    const lowSum = low + error
    const lowPart = lowSum - low
    const rest = low - (lowSum - lowPart) + (error - lowPart)
    this.low = lowSum
    if (rest !== 0) this.addRest(rest)
  }

  protected addRest(rest: number): void {
    this.rest ??= new Expansion()
    this.rest.add(rest)
  }

  addSum(other: ExactSum): void {
    this.add(other.high)
    if (other.low !== 0) this.add(other.low)
    if (other.rest !== undefined) for (const part of other.rest.parts) this.add(part)
  }

  clear(): void {
    this.high = 0
    this.low = 0
    this.rest = undefined
  }

  /** The sum, rounded to the nearest FP64 number, ties to even. */
  get value(): number {
    if (this.rest === undefined) return this.high + this.low
    const whole = new Expansion()
    for (const part of [...this.rest.parts, this.low, this.high]) whole.add(part)
    return whole.value
  }
}

/** A sum as numbers that do not overlap, the least first (Shewchuk, Adaptive Precision Floating-Point Arithmetic, 1997, theorem 10, as in Python's `math.fsum`). */
class Expansion {
  readonly parts: number[] = []

  add(number: number): void {
    const { parts } = this
    let kept = 0
    let carried = number
    for (const part of parts) {
      const [large, small] = Math.abs(carried) < Math.abs(part) ? [part, carried] : [carried, part]
      carried = large + small
      const error = small - (carried - large)
      if (error !== 0) parts[kept++] = error
    }
    parts.length = kept
    parts.push(carried)
  }

  get value(): number {
    const { parts } = this
    let at = parts.length - 1
    let high = parts[at] ?? 0
    let low = 0
    while (at > 0 && low === 0) {
      const before = high
      const part = parts[--at]!
      high = before + part
      low = part - (high - before)
    }
    // Half way between two numbers, what is left below decides.
    const below = at > 0 ? parts[at - 1]! : 0
    if ((low < 0 && below < 0) || (low > 0 && below > 0)) {
      const twice = low * 2
      const next = high + twice
      if (next - high === twice) return next
    }
    return high
  }
}
