/** Powers of ten that a double holds exactly. */
export const exactPowers: readonly number[] = Array.from({ length: 23 }, (_, exponent) => Number(`1e${exponent}`))

/**
 * A number read digit by digit: `digits`, which were `count` and are exact where they are at most 15, times ten to the `exponent`. Rounded correctly to FP64, or,
 * where `single`, so that rounding it to FP32 is correct; undefined where doubles cannot tell.
 */
export function fromDigits(digits: number, count: number, exponent: number, single: boolean): number | undefined {
  if (exponent > 22 || exponent < -22) return undefined
  const value = exponent < 0 ? digits / exactPowers[-exponent]! : digits * exactPowers[exponent]!
  if (count <= 15) return value
  if (!single || count > 20) return undefined
  const rounded = nearestSingle(value)
  return rounded < 0 ? undefined : rounded
}

/** The FP32 nearest to a number of up to 20 digits whose reading gave `value`, not below 0; -1 where the errors of the reading could decide which. */
export function nearestSingle(value: number): number {
  // Five additions beyond 2^53 and the scaling, each rounded to 2^-53 of its size.
  const slack = value * 2 ** -50
  const below = Math.fround(value - slack)
  return below === Math.fround(value + slack) ? below : -1
}

/** A decimal above 0: the point stands behind the first of `digits` (a whole number, without trailing zeros); then times ten to the `exponent`. */
export interface Decimal {
  readonly digits: number | bigint
  readonly count: number
  readonly exponent: number
}

/** The shortest decimal that reads back the same FP64. `value` is finite and above 0. */
export function shortestFp64(value: number): Decimal {
  const text = value.toExponential()
  const at = text.indexOf('e')
  const digits = text.slice(0, at).replace('.', '')
  return { digits: digits.length > 15 ? BigInt(digits) : Number(digits), count: digits.length, exponent: Number(text.slice(at + 1)) }
}

/** The shortest decimal, of nine digits at most, that reads back the same FP32. `value` is an FP32 value, finite and above 0. */
export function shortestFp32(value: number): Decimal {
  const exponent = decimalExponent(value)
  for (let digits = 6; digits <= 9; digits++) {
    const shift = digits - 1 - exponent
    // Out of the range of exact powers: rare enough for a way by text.
    if (shift > 22 || shift < -22) return shortestByText(value)
    const whole = Math.round(shift < 0 ? value / exactPowers[-shift]! : value * exactPowers[shift]!)
    // A whole number below 2^53 times or by an exact power is rounded once: what a reader of the text gets.
    const readBack = shift < 0 ? whole * exactPowers[-shift]! : whole / exactPowers[shift]!
    if (Math.fround(readBack) === value) return normalised(whole, shift)
  }
  return shortestByText(value)
}

/** The power of ten at or below; one more or less at the edges. */
function decimalExponent(value: number): number {
  if (!(value >= 1e-5 && value < 1e5)) return Math.floor(Math.log10(value))
  if (value < 1) return value >= 0.1 ? -1 : value >= 0.01 ? -2 : value >= 0.001 ? -3 : value >= 0.0001 ? -4 : -5
  return value < 10 ? 0 : value < 100 ? 1 : value < 1000 ? 2 : value < 10_000 ? 3 : 4
}

/** `whole` times ten to the minus `shift`. */
function normalised(whole: number, shift: number): Decimal {
  let digits = whole
  let exponent = -shift
  while (digits % 10 === 0) {
    digits /= 10
    exponent++
  }
  const count = digitCount(digits)
  return { digits, count, exponent: exponent + count - 1 }
}

/** Of a whole number from 1 to 10^15. */
export function digitCount(whole: number): number {
  let count = 1
  for (let bound = 10; whole >= bound; bound *= 10) count++
  return count
}

function shortestByText(value: number): Decimal {
  for (let digits = 1; digits < 9; digits++) {
    const rounded = Number(value.toPrecision(digits))
    if (Math.fround(rounded) === value) return shortestFp64(rounded)
  }
  return shortestFp64(Number(value.toPrecision(9)))
}
