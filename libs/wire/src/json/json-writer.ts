import { type Decimal, digitCount, shortestFp32, shortestFp64 } from './decimal.ts'

const zero = 0x30
const minus = 0x2d
const point = 0x2e
const quote = 0x22
const backslash = 0x5c

/** Longer strings are written faster by the runtime. */
const mostPlain = 32

/** The digits that C's `%g` prints before it goes over to an exponent, where six digits are enough to read the number back, and where they are not. */
const shortDigits = 6
const fp32Digits = 9
const fp64Digits = 17

/** The longest number: sign, 17 digits, point, leading zeros or exponent; or 20 digits. */
const longestNumber = 32

/** JSON text as it grows, in UTF-8. Numbers are written digit by digit, without a string for each. */
export class JsonWriter {
  #bytes: Buffer = Buffer.allocUnsafe(1024)
  #end = 0

  #reserve(count: number): void {
    if (this.#end + count <= this.#bytes.length) return
    const grown = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#end + count))
    this.#bytes.copy(grown, 0, 0, this.#end)
    this.#bytes = grown
  }

  /** What was written; valid until more is. */
  finish(): Buffer {
    return this.#bytes.subarray(0, this.#end)
  }

  /** JSON as it stands, ASCII only: brackets, commas, keywords. */
  raw(text: string): void {
    this.#reserve(text.length)
    const bytes = this.#bytes
    const start = this.#end
    for (let i = 0; i < text.length; i++) bytes[start + i] = text.charCodeAt(i)
    this.#end = start + text.length
  }

  byte(byte: number): void {
    this.#reserve(1)
    this.#bytes[this.#end++] = byte
  }

  string(text: string): void {
    if (!this.#plain(text)) this.text(JSON.stringify(text))
  }

  /** Writes a short string of plain ASCII, as names are; false, and nothing written, where it is another. */
  #plain(text: string): boolean {
    if (text.length > mostPlain) return false
    this.#reserve(text.length + 2)
    const bytes = this.#bytes
    let end = this.#end
    bytes[end++] = quote
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i)
      if (code < 0x20 || code > 0x7e || code === quote || code === backslash) return false
      bytes[end++] = code
    }
    bytes[end++] = quote
    this.#end = end
    return true
  }

  /** JSON as it stands, in any script. */
  text(json: string): void {
    this.#reserve(json.length * 3)
    this.#end += this.#bytes.write(json, this.#end)
  }

  /** Base64 of bytes, quoted. */
  base64(bytes: Uint8Array): void {
    const length = Math.ceil(bytes.length / 3) * 4 + 2
    this.#reserve(length)
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
    this.byte(0x22)
    this.#end += this.#bytes.write(text, this.#end, 'latin1')
    this.byte(0x22)
  }

  /** An FP32 value by the shortest text that reads back the same FP32. */
  fp32(value: number): void {
    this.#float(value, shortestFp32, fp32Digits)
  }

  /** An FP64 value by the shortest text that reads back the same FP64. */
  fp64(value: number): void {
    this.#float(value, shortestFp64, fp64Digits)
  }

  /** Always with a point or an exponent, in the form that C's `%g` has: 3.0, 0.0001, 3e-05, 9e+06; NaN, Infinity, -Infinity. */
  #float(value: number, shortest: (value: number) => Decimal, mostDigits: number): void {
    if (!Number.isFinite(value)) return this.raw(String(value))
    this.#reserve(longestNumber)
    if (value < 0 || Object.is(value, -0)) this.#bytes[this.#end++] = minus
    if (value === 0) return this.raw('0.0')
    const size = Math.abs(value)
    // Small whole numbers and halves are common, and their digits are at hand.
    if (size < 100_000 && Number.isInteger(size)) {
      this.#digits(size, digitCount(size))
      return this.raw('.0')
    }
    const { digits, count, exponent } = shortest(size)
    // Whole numbers are written as they are: readers may take them for such.
    if (count > shortDigits && size < 1e9 && Number.isInteger(size)) {
      this.#digits(size, digitCount(size))
      return this.raw('.0')
    }
    const most = count <= shortDigits ? shortDigits : mostDigits
    if (exponent < -4 || exponent >= most) this.#scientific(digits, count, exponent)
    else this.#fixed(digits, count, exponent)
  }

  #scientific(digits: number | bigint, count: number, exponent: number): void {
    this.#digits(digits, count)
    if (count > 1) this.#insertPoint(count - 1)
    this.raw(exponent < 0 ? 'e-' : 'e+')
    const size = Math.abs(exponent)
    if (size < 10) this.#bytes[this.#end++] = zero
    this.#digits(size, digitCount(size))
  }

  #fixed(digits: number | bigint, count: number, exponent: number): void {
    if (exponent < 0) {
      this.raw('0.')
      for (let i = -1; i > exponent; i--) this.#bytes[this.#end++] = zero
      return this.#digits(digits, count)
    }
    this.#digits(digits, count)
    for (let i = count; i <= exponent; i++) this.#bytes[this.#end++] = zero
    if (count > exponent + 1) this.#insertPoint(count - exponent - 1)
    else this.raw('.0')
  }

  /** Puts the point before the last `count` digits. */
  #insertPoint(count: number): void {
    const bytes = this.#bytes
    const at = this.#end - count
    for (let i = this.#end; i > at; i--) bytes[i] = bytes[i - 1]!
    bytes[at] = point
    this.#end++
  }

  /** A whole number, exactly. */
  whole(value: number | bigint): void {
    this.#reserve(longestNumber)
    if (value < 0) this.#bytes[this.#end++] = minus
    const size = value < 0 ? -value : value
    if (typeof size === 'number' && size < 1e15) return this.#digits(size, digitCount(size))
    this.raw(String(size))
  }

  #digits(whole: number | bigint, count: number): void {
    if (typeof whole === 'bigint') return this.raw(String(whole))
    const bytes = this.#bytes
    let at = this.#end + count - 1
    let rest = whole
    for (; rest > 0x7fffffff; at--) {
      const tens = Math.floor(rest / 10)
      bytes[at] = zero + rest - tens * 10
      rest = tens
    }
    // Within 31 bits the division is the processor's own.
    for (let small = rest | 0; at >= this.#end; at--) {
      const tens = (small / 10) | 0
      bytes[at] = zero + small - tens * 10
      small = tens
    }
    this.#end += count
  }
}
