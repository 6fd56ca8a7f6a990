import { type BytesColumn, bytesColumn } from '@spillway/core'

/** Lines of a text, without their ends, and without blank ones. */
export interface Lines {
  readonly values: BytesColumn
  /** Each line's number, 0 for the first of the text. */
  readonly numbers: readonly number[]
}

export interface LineOptions {
  /** Lines before this number are passed over. */
  readonly from: number
  /** Of a longer line, its first bytes up to this count and one more are given: it is still known to be too long. */
  readonly maxLineBytes: number
  readonly maxLines: number
}

/** Lines that are given at once have at least one line, and little more than this many bytes. */
const enoughBytes = 1 << 20
const maxChunks = 8
const lineFeed = 10
const carriageReturn = 13
const space = 32

/** Cuts bytes into lines as they come. A line is held until its end has come, no more of it than `maxLineBytes`. */
export class LineReader {
  private readonly options: LineOptions
  private lines: Uint8Array[] = []
  private numbers: number[] = []
  private bytes = 0
  private chunks = 0
  /** What has come of the line that has not ended. */
  private parts: Uint8Array[] = []
  private partBytes = 0
  private next = 0

  constructor(options: LineOptions) {
    this.options = options
  }

  /** The number of the line that is being read. */
  get lineNumber(): number {
    return this.next
  }

  *push(chunk: Uint8Array): Generator<Lines> {
    let start = 0
    for (let end = chunk.indexOf(lineFeed); end !== -1; end = chunk.indexOf(lineFeed, start)) {
      this.endLine(chunk, start, end)
      start = end + 1
      if (this.lines.length >= this.options.maxLines || this.bytes >= enoughBytes) yield this.take()
    }
    if (start < chunk.length) this.keep(chunk.subarray(start))
    // Lines that wait hold the chunks that they were cut from.
    if (this.lines.length > 0 && ++this.chunks >= maxChunks) yield this.take()
  }

  /** The last line, where no line feed ended it. */
  *end(): Generator<Lines> {
    if (this.partBytes > 0) this.endLine(new Uint8Array(0), 0, 0)
    if (this.lines.length > 0) yield this.take()
  }

  private endLine(chunk: Uint8Array, start: number, end: number): void {
    const number = this.next++
    if (number < this.options.from) {
      this.drop()
      return
    }
    let line = chunk.subarray(start, end)
    if (this.partBytes > 0) {
      this.keep(line)
      line = Buffer.concat(this.parts)
      this.drop()
    }
    if (line.at(-1) === carriageReturn) line = line.subarray(0, -1)
    const longest = this.options.maxLineBytes + 1
    if (line.length > longest) line = line.subarray(0, longest)
    if (line.every((byte) => byte <= space)) return
    this.lines.push(line)
    this.numbers.push(number)
    this.bytes += line.length
  }

  private keep(part: Uint8Array): void {
    // One more than a line may have, and its carriage return.
    const room = Math.max(0, this.options.maxLineBytes + 2 - this.partBytes)
    const kept = part.subarray(0, room)
    // A copy: of a chunk that is read, a line's beginning would hold all of it.
    if (kept.length > 0) this.parts.push(kept.slice())
    this.partBytes += part.length
  }

  private drop(): void {
    this.parts = []
    this.partBytes = 0
  }

  private take(): Lines {
    const taken = { values: bytesColumn(this.lines), numbers: this.numbers }
    this.lines = []
    this.numbers = []
    this.bytes = 0
    this.chunks = 0
    return taken
  }
}
