import { MeshError } from '@spillway/core'
import { exactPowers } from '../json/decimal.ts'

/** Deeper nesting than any event has, and less than any stack. */
const maxDepth = 64

const quote = 0x22
const backslash = 0x5c
const minus = 0x2d
const point = 0x2e
const zero = 0x30
const nine = 0x39

/**
 * A place in JSON text (RFC 8259), for reading it straight into columns: one pass, no object a value. Bytes are taken to be valid UTF-8.
 * Unlike that of models' bodies (`../json/json-cursor.ts`) it is opened at one record after the other of the same bytes, ends where the record ends, keeps where a token lies
 * instead of making its value, and takes no number that RFC 8259 does not know.
 * Each method leaves the cursor behind what it read, and throws INVALID_ARGUMENT, naming field and byte, at anything that is no JSON.
 */
export class JsonCursor {
  bytes: Uint8Array = new Uint8Array(0)
  position = 0
  /** The field being read, for messages. */
  field: string | undefined
  /** Where the last string's content or number's digits lie. */
  tokenStart = 0
  tokenEnd = 0
  /** Whether the last string has escapes. */
  escaped = false
  /** Whether the last number has neither fraction nor exponent. */
  integral = false
  private buffer: Buffer = Buffer.alloc(0)
  private start = 0
  private end = 0

  open(bytes: Uint8Array, start: number, end: number): void {
    if (this.bytes !== bytes) {
      this.bytes = bytes
      this.buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    }
    this.start = start
    this.position = start
    this.end = end
    this.field = undefined
  }

  /** The next byte that is no white space, or -1 at the end; does not pass it. */
  peek(): number {
    const { bytes, end } = this
    let position = this.position
    while (position < end) {
      const byte = bytes[position]!
      if (byte > 0x20 || (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09)) {
        this.position = position
        return byte
      }
      position++
    }
    this.position = position
    return -1
  }

  /** Passes a structural character. */
  expect(character: number, what: string): void {
    if (this.peek() !== character) throw this.malformed(`expected ${what}`)
    this.position++
  }

  /** Passes `name` in quotes where exactly that comes next. */
  passName(name: Uint8Array): boolean {
    const { bytes } = this
    const start = this.position + 1
    const end = start + name.length
    if (end >= this.end || bytes[end] !== quote || bytes[this.position] !== quote) return false
    for (let i = 0; i < name.length; i++) if (bytes[start + i] !== name[i]) return false
    this.position = end + 1
    return true
  }

  /** Passes a string. */
  string(): void {
    const { bytes, end } = this
    if (bytes[this.position] !== quote) throw this.malformed('expected a string')
    let position = this.position + 1
    this.tokenStart = position
    this.escaped = false
    for (;;) {
      if (position >= end) throw this.malformed('the string does not end')
      const byte = bytes[position]!
      if (byte === quote) break
      if (byte === backslash) {
        this.escaped = true
        position = this.passEscape(position)
      } else if (byte < 0x20) {
        this.position = position
        throw this.malformed('a control character must be escaped')
      } else position++
    }
    this.tokenEnd = position
    this.position = position + 1
  }

  private passEscape(position: number): number {
    const kind = position + 1 < this.end ? String.fromCharCode(this.bytes[position + 1]!) : ''
    if (kind !== '' && '"\\/bfnrt'.includes(kind)) return position + 2
    if (kind === 'u' && position + 6 <= this.end && /^[0-9a-fA-F]{4}$/.test(this.text(position + 2, position + 6))) return position + 6
    this.position = position
    throw this.malformed('unknown escape')
  }

  /** The last string. */
  stringValue(): string {
    if (!this.escaped) return this.text(this.tokenStart, this.tokenEnd)
    return JSON.parse(this.text(this.tokenStart - 1, this.tokenEnd + 1)) as string
  }

  /** The bytes from `start` to `end` as text. */
  text(start: number, end: number): string {
    return this.buffer.toString('utf8', start, end)
  }

  /**
   * Passes a number, and gives the double next to it (±Infinity beyond). Up to 15 digits and a power of ten that is exact take one
   * correctly rounded operation (Clinger 1990, "How to read floating point numbers accurately"); others are left to `Number`.
   */
  number(): number {
    const { bytes, end } = this
    const start = this.position
    let position = bytes[start] === minus ? start + 1 : start
    const firstDigit = position
    let mantissa = 0
    let byte = position < end ? bytes[position]! : 0
    while (byte >= zero && byte <= nine) {
      mantissa = mantissa * 10 + byte - zero
      byte = ++position < end ? bytes[position]! : 0
    }
    let digits = position - firstDigit
    if (digits === 0) throw this.malformed('expected a number')
    if (digits > 1 && bytes[firstDigit] === zero) throw this.malformed('a number does not begin with 0')
    let exponent = 0
    this.integral = true
    if (byte === point) {
      this.integral = false
      const firstDecimal = position + 1
      byte = ++position < end ? bytes[position]! : 0
      while (byte >= zero && byte <= nine) {
        mantissa = mantissa * 10 + byte - zero
        byte = ++position < end ? bytes[position]! : 0
      }
      exponent = firstDecimal - position
      if (exponent === 0) throw this.malformed('a digit must follow the decimal point')
      digits -= exponent
    }
    this.tokenStart = start
    if (byte === 0x65 || byte === 0x45) {
      this.integral = false
      position = this.passExponent(position + 1)
      digits = Infinity
    }
    this.tokenEnd = position
    this.position = position
    if (digits > 15) return Number(this.text(start, position))
    const magnitude = exponent === 0 ? mantissa : mantissa / exactPowers[-exponent]!
    return firstDigit === start ? magnitude : -magnitude
  }

  private passExponent(from: number): number {
    const { bytes, end } = this
    const sign = bytes[from]
    const firstDigit = from < end && (sign === 0x2b || sign === minus) ? from + 1 : from
    let position = firstDigit
    while (position < end && bytes[position]! >= zero && bytes[position]! <= nine) position++
    if (position === firstDigit) throw this.malformed('a digit must follow the exponent sign')
    return position
  }

  /** Passes `true`, `false` or `null`, whichever comes; any other word is refused. */
  literal(): 'true' | 'false' | 'null' {
    for (const word of ['true', 'false', 'null'] as const) {
      if (this.end - this.position >= word.length && this.text(this.position, this.position + word.length) === word) {
        this.position += word.length
        return word
      }
    }
    const word = /^-?\w{1,20}/.exec(this.text(this.position, Math.min(this.end, this.position + 32)))?.[0]
    throw this.malformed(word === undefined ? 'expected a value' : `${word} is no JSON value`)
  }

  /** Passes any value. */
  skip(depth = 0): void {
    const byte = this.peek()
    if (byte === quote) this.string()
    else if (byte === 0x7b || byte === 0x5b) this.skipNested(byte === 0x7b, depth)
    else if (this.atNumber(byte)) this.number()
    else if (byte === -1) throw this.malformed('a value is missing')
    else this.literal()
  }

  /** Whether `byte`, the next one, begins a number; `-Infinity` does not. */
  atNumber(byte: number): boolean {
    return (byte >= zero && byte <= nine) || (byte === minus && this.bytes[this.position + 1] !== 0x49)
  }

  private skipNested(isObject: boolean, depth: number): void {
    if (depth >= maxDepth) throw this.malformed(`nested deeper than ${maxDepth} levels`)
    const close = isObject ? 0x7d : 0x5d
    this.position++
    if (this.peek() === close) {
      this.position++
      return
    }
    for (;;) {
      if (isObject) {
        this.peek()
        this.string()
        this.expect(0x3a, "':'")
      }
      this.skip(depth + 1)
      const byte = this.peek()
      this.position++
      if (byte === close) return
      if (byte !== 0x2c) {
        this.position--
        throw this.malformed(isObject ? "expected ',' or '}'" : "expected ',' or ']'")
      }
    }
  }

  malformed(message: string): MeshError {
    const where = this.field === undefined ? '' : `field "${this.field}": `
    const at = this.position >= this.end ? 'at its end' : `at byte ${this.position - this.start}`
    return new MeshError(
      'INVALID_ARGUMENT',
      `${where}malformed JSON ${at}: ${message}`,
      this.field === undefined ? {} : { field: this.field },
    )
  }
}
