import { FieldTable, fieldOverheadBytes } from './field-table.ts'
import { HuffmanDecoder } from './huffman.ts'

/** Header fields as they came: name, value, name, value … (names lower case as HTTP/2 requires; values latin1 text). */
export type Fields = readonly string[]

interface FieldLimits {
  /** What the peer's encoder may use of our memory, as SETTINGS_HEADER_TABLE_SIZE tells it. */
  readonly maxTableBytes: number
  /** Of one block's fields, each counted as RFC 9113, 6.5.2 does: name, value and 32. */
  readonly maxListBytes: number
}

/** A field block that is not answered as others are. */
export class FieldBlockError extends Error {
  /**
   * True: the block was read to its end and the table is in step, but its fields are more than allowed, and only its stream need end. False: the block is
   * broken, and so is the connection (COMPRESSION_ERROR: RFC 9113, 4.3).
   */
  readonly tooLarge: boolean

  constructor(message: string, tooLarge: boolean) {
    super(message)
    this.name = 'FieldBlockError'
    this.tooLarge = tooLarge
  }
}

/** RFC 7541, 6: what a field begins with, and how many bits of its first byte are left for a number. */
const indexed = { mark: 0x80, bits: 7 } as const
const withIndexing = { mark: 0x40, bits: 6 } as const
const sizeUpdate = { mark: 0x20, bits: 5 } as const
/** Literals that are not indexed, or must never be: they differ for those alone who pass them on. */
const withoutIndexing = { bits: 4 } as const
const huffman = { mark: 0x80, bits: 7 } as const

const mostContinuationBytes = 5
const mostNumber = 2 ** 31

/** Decodes one direction of a connection: RFC 7541. Each block changes what the next ones mean, so that all must come here, in their order. */
export class FieldDecoder {
  readonly #limits: FieldLimits
  readonly #table: FieldTable
  readonly #huffman = new HuffmanDecoder()
  /** Where reading has come to in the block that is being decoded. */
  #at = 0

  constructor(limits: FieldLimits) {
    this.#limits = limits
    this.#table = new FieldTable(limits.maxTableBytes)
  }

  /**
   * @param block a whole one, its fragments joined
   * @throws FieldBlockError; after one that is not `tooLarge` nothing more can be decoded
   */
  decode(block: Buffer): Fields {
    const fields: string[] = []
    let listBytes = 0
    this.#at = 0
    this.#readSizeUpdates(block)
    while (this.#at < block.length) {
      const head = block[this.#at]!
      let name: string
      let value: string
      if (head >= indexed.mark) {
        const index = this.#readNumber(block, indexed.bits)
        name = this.#nameAt(index)
        value = this.#table.valueAt(index)
      } else if (head >= withIndexing.mark) {
        name = this.#readName(block, withIndexing.bits)
        value = this.#readString(block)
        this.#table.add(name, value)
      } else if (head < sizeUpdate.mark) {
        name = this.#readName(block, withoutIndexing.bits)
        value = this.#readString(block)
      } else {
        throw broken('the size of the table changes behind a field')
      }
      listBytes += name.length + value.length + fieldOverheadBytes
      if (listBytes <= this.#limits.maxListBytes) fields.push(name, value)
    }
    if (listBytes > this.#limits.maxListBytes) {
      throw new FieldBlockError(`header fields of ${listBytes} bytes; no more than ${this.#limits.maxListBytes} are allowed`, true)
    }
    return fields
  }

  /** They may come before a block's first field alone: RFC 7541, 4.2. */
  #readSizeUpdates(block: Buffer): void {
    while (this.#at < block.length && block[this.#at]! >> sizeUpdate.bits === 1) {
      const sizeBytes = this.#readNumber(block, sizeUpdate.bits)
      if (sizeBytes > this.#limits.maxTableBytes)
        throw broken(`a table of ${sizeBytes} bytes; no more than ${this.#limits.maxTableBytes} are allowed`)
      this.#table.resize(sizeBytes)
    }
  }

  #nameAt(index: number): string {
    const name = this.#table.nameAt(index)
    if (name === undefined) throw broken(`the table has no field ${index}`)
    return name
  }

  #readName(block: Buffer, prefixBits: number): string {
    const index = this.#readNumber(block, prefixBits)
    return index === 0 ? this.#readString(block) : this.#nameAt(index)
  }

  /** RFC 7541, 5.1. */
  #readNumber(block: Buffer, prefixBits: number): number {
    const most = (1 << prefixBits) - 1
    let number = block[this.#at++]! & most
    if (number < most) return number
    for (let i = 0, scale = 1; i < mostContinuationBytes; i++, scale *= 128) {
      if (this.#at >= block.length) throw broken('a number is cut off')
      const byte = block[this.#at++]!
      number += (byte & 0x7f) * scale
      if (byte < 0x80) {
        if (number > mostNumber) break
        return number
      }
    }
    throw broken('a number is too large')
  }

  /** RFC 7541, 5.2. */
  #readString(block: Buffer): string {
    if (this.#at >= block.length) throw broken('a string is missing')
    const isHuffman = block[this.#at]! >= huffman.mark
    const bytes = this.#readNumber(block, huffman.bits)
    const from = this.#at
    const to = from + bytes
    if (to > block.length) throw broken('a string is cut off')
    this.#at = to
    if (bytes === 0) return ''
    if (!isHuffman) return block.toString('latin1', from, to)
    const text = this.#huffman.decode(block, from, to)
    if (text === undefined) throw broken('a string is no Huffman code')
    return text
  }
}

function broken(what: string): FieldBlockError {
  return new FieldBlockError(`broken field block: ${what}`, false)
}
