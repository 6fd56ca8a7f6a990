import { exactPowers, fromDigits, nearestSingle } from './decimal.ts'
import { JsonTokens } from './json-tokens.ts'

const comma = 0x2c
const minus = 0x2d
const point = 0x2e
const zero = 0x30
const nine = 0x39
const closeBracket = 0x5d

/** What the tokens of numbers that JSON has no digits for stand for; a minus may precede them. Longest first. */
const specials: readonly (readonly [string, number])[] = [
  ['Infinity', Infinity],
  ['Inf', Infinity],
  ['NaN', NaN],
]

/** A number without fraction: a bigint where it has more than 15 digits. */
export type Whole = number | bigint

/**
 * Reads JSON (RFC 8259) from bytes where it lies, one token after the other, so that numbers go into typed arrays without a tree of objects between. Takes `NaN`,
 * `Infinity`, `Inf` and their negatives as numbers too. The bytes must be UTF-8; who makes a cursor checks that.
 * Every method expects to be at the token that it reads, and leaves the cursor behind it. @throws MeshError INVALID_ARGUMENT with the offset of what is no JSON.
 */
export class JsonCursor extends JsonTokens {
  /**
   * Reads a number. `single`: only its FP32 rounding counts, which lets the long decimal texts of widened FP32 values be read without a detour.
   * Correctly rounded to FP64 otherwise.
   */
  number(single: boolean): number {
    const bytes = this.bytes
    const start = this.at
    let at = start
    let byte = bytes[at]!
    const negative = byte === minus
    if (negative) byte = bytes[++at]!
    if (!(byte >= zero && byte <= nine)) return this.#special(at, negative)
    const first = at
    let digits = 0
    for (; byte >= zero && byte <= nine; byte = bytes[++at]!) digits = digits * 10 + (byte - zero)
    let count = at - first
    if (count > 1 && bytes[first] === zero) throw this.invalid('a number with leading zeros', start)
    let exponent = 0
    if (byte === point) {
      const behind = ++at
      for (byte = bytes[at]!; byte >= zero && byte <= nine; byte = bytes[++at]!) digits = digits * 10 + (byte - zero)
      exponent = behind - at
      if (exponent === 0) throw this.invalid('digits after the decimal point are missing', at)
      count -= exponent
    }
    if (byte === 0x65 || byte === 0x45) {
      const [given, end] = this.#exponent(at)
      exponent += given
      at = end
    }
    this.at = at
    const value = fromDigits(digits, count, exponent, single)
    if (value === undefined) return Number(bytes.toString('latin1', start, at))
    return negative ? -value : value
  }

  /**
   * Reads elements of a list, the cursor being at one, into `target` from `index` to `end` (not included): each as `number(true)` does.
   * @returns the index behind the last; its complement (~) where the list's end was read too
   */
  singles(target: Float32Array, index: number, end: number): number {
    const bytes = this.bytes
    let next = index
    let at = this.at
    for (;;) {
      let byte = bytes[at]!
      if (byte <= 0x20) {
        this.at = at
        byte = this.peek()
        at = this.at
      }
      const start = at
      if (byte === minus) byte = bytes[++at]!
      const first = at
      let digits = 0
      for (; byte >= zero && byte <= nine; byte = bytes[++at]!) digits = digits * 10 + (byte - zero)
      const whole = at - first
      let fraction = 0
      if (byte === point) {
        for (byte = bytes[++at]!; byte >= zero && byte <= nine; byte = bytes[++at]!) digits = digits * 10 + (byte - zero)
        fraction = at - first - whole - 1
        if (fraction === 0) byte = 0
      }
      const plain = (byte === comma || byte === closeBracket) && (bytes[first] !== zero || whole === 1)
      let value = -1
      if (plain && whole > 0 && fraction <= 22) {
        value = digits / exactPowers[fraction]!
        if (whole + fraction > 15) value = whole + fraction > 20 ? -1 : nearestSingle(value)
      }
      if (value >= 0) target[next++] = start === first ? value : -value
      else {
        // Anything but plain digits, and what is to be refused.
        this.at = start
        target[next++] = this.single()
        at = this.at
        byte = bytes[at]!
      }
      if (byte === comma) at++
      else {
        this.at = at
        if (!this.nextElement()) return ~next
        at = this.at
      }
      if (next === end) {
        this.at = at
        return next
      }
    }
  }

  /** Reads a number that FP32 can hold. */
  single(): number {
    if (!this.atNumber()) throw this.unexpected('a number')
    const start = this.at
    const value = this.number(true)
    if (Math.abs(Math.fround(value)) === Infinity && this.bytes[this.at - 1]! <= nine)
      throw this.unexpected('a number in the range of FP32', start)
    return value
  }

  /** Reads a number that FP64 can hold. */
  double(): number {
    if (!this.atNumber()) throw this.unexpected('a number')
    const start = this.at
    const value = this.number(false)
    // The token Infinity ends in a letter.
    if (Math.abs(value) === Infinity && this.bytes[this.at - 1]! <= nine) throw this.unexpected('a number in the range of FP64', start)
    return value
  }

  /** The exponent whose `e` stands at `at`, and the offset behind it. */
  #exponent(at: number): readonly [number, number] {
    const bytes = this.bytes
    let end = at + 1
    const sign = bytes[end]
    if (sign === minus || sign === 0x2b) end++
    const first = end
    let value = 0
    for (let byte = bytes[end]!; byte >= zero && byte <= nine; byte = bytes[++end]!) value = Math.min(value * 10 + (byte - zero), 1_000_000)
    if (end === first) throw this.invalid('digits of an exponent are missing', end)
    return [sign === minus ? -value : value, end]
  }

  #special(at: number, negative: boolean): number {
    for (const [token, value] of specials) {
      if (this.bytes.toString('latin1', at, at + token.length) !== token) continue
      this.at = at + token.length
      return negative ? -value : value
    }
    throw this.invalid('no JSON value')
  }

  /** Reads a number without fraction or exponent, exactly; undefined, and nothing read, where the number has one or is not finite. */
  whole(): Whole | undefined {
    const bytes = this.bytes
    const start = this.at
    let at = start
    const negative = bytes[at] === minus
    if (negative) at++
    const first = at
    let value = 0
    let byte = bytes[at]!
    for (; byte >= zero && byte <= nine; byte = bytes[++at]!) value = value * 10 + (byte - zero)
    if (at === first || byte === point || byte === 0x65 || byte === 0x45) return undefined
    if (bytes[first] === zero && at > first + 1) throw this.invalid('a number with leading zeros')
    this.at = at
    if (at - first <= 15) return negative ? -value : value
    // Longer than any 64-bit integer: its exact value is of no use, and reading it would take time that grows with its square.
    if (at - first > 20) return negative ? -Infinity : Infinity
    return BigInt(bytes.toString('latin1', start, at))
  }

  /** Reads any value and drops it. */
  skip(): void {
    if (this.atList()) {
      for (let more = this.enterList(); more; more = this.nextElement()) this.skip()
    } else if (this.atObject()) {
      for (let more = this.enterObject(); more; more = this.nextMember()) {
        this.key()
        this.skip()
      }
    } else if (this.atString()) this.string()
    else if (this.atNumber()) this.number(true)
    else if (this.boolean() === undefined && !this.literal('null')) throw this.invalid('no JSON value')
  }
}
