import { MeshError } from '@spillway/core'

const namePattern = /[A-Za-z_][A-Za-z0-9_]*/y
const numberPattern = /0[xX][0-9A-Fa-f]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?/y
const specialNumber = /(?:inf|infinity|nan)(?![A-Za-z0-9_])/iy
const plainText = { '"': /[^"\\\n]*/y, "'": /[^'\\\n]*/y } as const
const escape = /\\(?:([abfnrtv\\'"?])|([0-7]{1,3})|[xX]([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8}))/y
const controls: Readonly<Record<string, string>> = { a: '\x07', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' }
const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Takes protobuf's text format apart; white space and comments (`# …`) are left aside. */
export class TextScanner {
  readonly #text: string
  /** Where the next token begins. */
  at = 0

  constructor(text: string) {
    this.#text = text
    this.#skipSpace()
  }

  /** The next character; '' at the end. */
  peek(): string {
    return this.#text.charAt(this.at)
  }

  /** Takes the character where it is the next one. */
  skip(character: string): boolean {
    if (this.peek() !== character) return false
    this.#take(1)
    return true
  }

  name(): string | undefined {
    return this.#match(namePattern)
  }

  /** As written, without the space that may follow a minus. @throws MeshError where letters follow it at once */
  number(): string | undefined {
    const start = this.at
    const minus = this.skip('-') ? '-' : ''
    const digits = this.#match(numberPattern, false) ?? (minus === '' ? undefined : this.#match(specialNumber, false))
    if (digits === undefined) {
      if (minus !== '') throw this.unexpected('a number after "-"')
      return undefined
    }
    if (/[A-Za-z0-9_.]/.test(this.peek())) throw this.error(start, `${minus}${digits}${this.peek()} is no number`)
    this.#skipSpace()
    return minus + digits
  }

  /** One string or several in a row, which are put together; undefined where none begins. @throws MeshError where one has no end, or is no text */
  strings(): string | undefined {
    const start = this.at
    const parts: Buffer[] = []
    for (let quote = this.peek(); quote === '"' || quote === "'"; quote = this.peek()) this.#string(quote, parts)
    if (this.at === start) return undefined
    try {
      return utf8.decode(Buffer.concat(parts))
    } catch (error) {
      throw new MeshError('INVALID_ARGUMENT', `${this.place(start)}the string is not UTF-8`, { cause: error })
    }
  }

  #string(quote: '"' | "'", parts: Buffer[]): void {
    const start = this.at
    this.at++
    for (;;) {
      parts.push(Buffer.from(this.#match(plainText[quote], false) ?? ''))
      const next = this.peek()
      if (next === quote) return this.#take(1)
      if (next !== '\\') throw this.error(start, 'the string has no end on its line')
      parts.push(this.#escaped())
    }
  }

  #escaped(): Buffer {
    const { at } = this
    escape.lastIndex = at
    const [whole, letter, octal, hex, short, long] = escape.exec(this.#text) ?? []
    if (whole === undefined) throw this.error(at, `\\${this.#text.charAt(at + 1)} is no escape`)
    this.at += whole.length
    if (letter !== undefined) return Buffer.from(controls[letter] ?? letter)
    const byte = octal === undefined ? Number.parseInt(hex ?? '', 16) : Number.parseInt(octal, 8)
    if (byte <= 0xff) return Buffer.of(byte)
    const point = Number.parseInt(short ?? long ?? '', 16)
    if (!(point <= 0x10ffff) || (point >= 0xd800 && point <= 0xdfff)) throw this.error(at, `${whole} is no character`)
    return Buffer.from(String.fromCodePoint(point))
  }

  #match(pattern: RegExp, skipSpace: boolean = true): string | undefined {
    pattern.lastIndex = this.at
    const found = pattern.exec(this.#text)?.[0]
    if (found === undefined) return undefined
    this.at += found.length
    if (skipSpace) this.#skipSpace()
    return found
  }

  #take(count: number): void {
    this.at += count
    this.#skipSpace()
  }

  #skipSpace(): void {
    for (;;) {
      const character = this.#text.charAt(this.at)
      if (character === '#') {
        const end = this.#text.indexOf('\n', this.at)
        this.at = end === -1 ? this.#text.length : end
      } else if (character !== '' && ' \t\r\n\v\f\uFEFF'.includes(character)) this.at++
      else return
    }
  }

  place(at: number): string {
    const before = this.#text.slice(0, at)
    const line = before.split('\n').length
    return `line ${line}, column ${at - before.lastIndexOf('\n')}: `
  }

  error(at: number, message: string): MeshError {
    return new MeshError('INVALID_ARGUMENT', this.place(at) + message)
  }

  unexpected(expected: string): MeshError {
    const rest = /[^\s{}<>[\]:,;]{1,20}|./su.exec(this.#text.slice(this.at, this.at + 24))?.[0]
    return this.error(this.at, `expected ${expected}, found ${rest === undefined ? 'the end' : JSON.stringify(rest)}`)
  }
}
