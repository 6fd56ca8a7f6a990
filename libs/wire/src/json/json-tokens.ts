import { MeshError } from '@spillway/core'
import { protocolWord } from './protocol-words.ts'

const quote = 0x22
const comma = 0x2c
const minus = 0x2d
const zero = 0x30
const nine = 0x39
const colon = 0x3a
const openBracket = 0x5b
const backslash = 0x5c
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d

/** Lists and objects within each other; a tensor needs as many as it has dimensions, and a few around them. */
const deepest = 64

const escapes: ReadonlyMap<number, string> = new Map([
  [0x22, '"'],
  [0x5c, '\\'],
  [0x2f, '/'],
  [0x62, '\b'],
  [0x66, '\f'],
  [0x6e, '\n'],
  [0x72, '\r'],
  [0x74, '\t'],
])

/** JSON's structure and strings; `JsonCursor` adds its numbers. */
export class JsonTokens {
  protected readonly bytes: Buffer
  /** Offset of the next byte. */
  protected at = 0
  /** Lists and objects entered and not left. */
  protected depth = 0

  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    // A byte order mark, which some clients begin with.
    if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) this.at = 3
  }

  /** Of the next byte to be read. */
  get offset(): number {
    return this.at
  }

  /** Goes to an offset at the same depth. */
  seek(offset: number): void {
    this.at = offset
  }

  /** What `read` gives; where that is undefined, nothing counts as read. */
  attempt<T>(read: () => T | undefined): T | undefined {
    const at = this.at
    const depth = this.depth
    const result = read()
    if (result !== undefined) return result
    this.at = at
    this.depth = depth
    return undefined
  }

  /** The next byte that is no white space, not yet read; 0 at the end. */
  peek(): number {
    const bytes = this.bytes
    let at = this.at
    for (;;) {
      if (at >= bytes.length) break
      const byte = bytes[at]!
      if (byte > 0x20) {
        this.at = at
        return byte
      }
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) break
      at++
    }
    this.at = at
    return 0
  }

  /** What stands next, for messages: `a list`, `a string`, `the number 1.5`, … */
  describe(): string {
    const byte = this.peek()
    if (byte === 0) return 'nothing'
    if (byte === openBracket) return 'a list'
    if (byte === openBrace) return 'an object'
    if (byte === quote) return 'a string'
    const token = /^[\w.+-]{1,40}/.exec(this.bytes.toString('latin1', this.at, Math.min(this.bytes.length, this.at + 40)))?.[0]
    if (token === undefined) return `"${String.fromCharCode(byte)}"`
    return /^[-\d]|^(NaN|Inf)/.test(token) ? `the number ${token}` : token
  }

  atList(): boolean {
    return this.peek() === openBracket
  }

  atObject(): boolean {
    return this.peek() === openBrace
  }

  atObjectEnd(): boolean {
    return this.peek() === closeBrace
  }

  atString(): boolean {
    return this.peek() === quote
  }

  /** Whether a digit, a minus or one of the special tokens stands next. */
  atNumber(): boolean {
    const byte = this.peek()
    return (byte >= zero && byte <= nine) || byte === minus || byte === 0x4e || byte === 0x49
  }

  /** Reads `[`; false where the list ends at once (which is read too). */
  enterList(): boolean {
    return this.#enter(openBracket, closeBracket, 'a list')
  }

  /** Reads `{`; false where the object ends at once (which is read too). */
  enterObject(): boolean {
    return this.#enter(openBrace, closeBrace, 'an object')
  }

  #enter(open: number, close: number, what: string): boolean {
    if (this.peek() !== open) throw this.invalid(`${what} is expected, found ${this.describe()}`)
    if (++this.depth > deepest) throw this.invalid(`more than ${deepest} lists and objects within each other`)
    this.at++
    if (this.peek() !== close) return true
    this.at++
    this.depth--
    return false
  }

  /** Behind an element: reads `,` (true), or `]` (false). */
  nextElement(): boolean {
    return this.#next(closeBracket, 'a comma or ] after an element of a list is missing')
  }

  /** Behind a member: reads `,` (true), or `}` (false). */
  nextMember(): boolean {
    return this.#next(closeBrace, 'a comma or } after an object member is missing')
  }

  #next(close: number, missing: string): boolean {
    const byte = this.peek()
    if (byte === comma) {
      this.at++
      return true
    }
    if (byte !== close) throw this.invalid(missing)
    this.at++
    this.depth--
    return false
  }

  /** Reads a member's name and the colon behind it. */
  key(): string {
    if (this.peek() !== quote) throw this.invalid('a name for an object member is missing')
    const name = this.string()
    if (this.peek() !== colon) throw this.invalid('a colon after the name of an object member is missing')
    this.at++
    return name
  }

  /** Reads `true` or `false`; undefined, and nothing read, where neither stands next. */
  boolean(): boolean | undefined {
    const byte = this.peek()
    if (byte === 0x74 && this.literal('true')) return true
    if (byte === 0x66 && this.literal('false')) return false
    return undefined
  }

  protected literal(word: string): boolean {
    const end = this.at + word.length
    if (this.bytes.toString('latin1', this.at, end) !== word) return false
    this.at = end
    return true
  }

  /** Reads a string, with its escapes resolved. */
  string(): string {
    const plain = this.plainString()
    if (plain === undefined) return this.#escapedString()
    return protocolWord(this.bytes, plain.start, plain.end) ?? this.bytes.toString('utf8', plain.start, plain.end)
  }

  /** Reads a string that has no escapes and says where its bytes lie; undefined, and nothing read, where it has some. */
  plainString(): { readonly start: number; readonly end: number } | undefined {
    const start = this.at + 1
    const bytes = this.bytes
    let at = start
    for (; at < bytes.length; at++) {
      const byte = bytes[at]!
      if (byte === quote) {
        this.at = at + 1
        return { start, end: at }
      }
      if (byte === backslash) return undefined
      if (byte < 0x20) throw this.invalid('a control character in a string', at)
    }
    throw this.invalid('a closing quotation mark is missing', at)
  }

  slice(start: number, end: number): Uint8Array {
    return this.bytes.subarray(start, end)
  }

  #escapedString(): string {
    const bytes = this.bytes
    let text = ''
    let start = this.at + 1
    for (let at = start; at < bytes.length; at++) {
      const byte = bytes[at]!
      if (byte === quote) {
        text += bytes.toString('utf8', start, at)
        // Such a text has no UTF-8: another would be given to the model.
        if (!text.isWellFormed()) throw this.invalid('half of a surrogate pair in a string', this.at)
        this.at = at + 1
        return text
      }
      if (byte < 0x20) throw this.invalid('a control character in a string', at)
      if (byte !== backslash) continue
      text += bytes.toString('utf8', start, at)
      const [character, length] = this.#escape(at)
      text += character
      at += length - 1
      start = at + 1
    }
    throw this.invalid('a closing quotation mark is missing', bytes.length)
  }

  /** The UTF-16 unit of the escape at `at`, and the escape's length. */
  #escape(at: number): readonly [string, number] {
    const simple = escapes.get(this.bytes[at + 1] ?? 0)
    if (simple !== undefined) return [simple, 2]
    const digits = this.bytes.toString('latin1', at + 2, at + 6)
    if (this.bytes[at + 1] !== 0x75 || !/^[\da-fA-F]{4}$/.test(digits)) throw this.invalid('an unknown escape in a string', at)
    return [String.fromCharCode(parseInt(digits, 16)), 6]
  }

  /** That nothing but white space is left. */
  end(): void {
    if (this.peek() !== 0 || this.at < this.bytes.length) throw this.invalid('something follows the JSON value')
  }

  unexpected(expected: string, offset: number = this.offset): MeshError {
    this.at = offset
    return new MeshError('INVALID_ARGUMENT', `found ${this.describe()} at offset ${this.offset}: expected ${expected}`)
  }

  invalid(problem: string, offset: number = this.at): MeshError {
    const text = this.bytes.length === 0 ? 'the document is empty' : problem
    return new MeshError('INVALID_ARGUMENT', `JSON Parse error: ${text} at offset: ${offset}`)
  }
}
