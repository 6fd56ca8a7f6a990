import { bytesAt, type BytesColumn, type Tensor } from '@spillway/core'
import { isUtf8 } from 'node:buffer'
import { elementWriter } from './element-writer.ts'
import type { JsonWriter } from './json-writer.ts'

const openBracket = 0x5b
const closeBracket = 0x5d
const comma = 0x2c

/** Writes a tensor as nested lists, piece by piece in the order of its elements. */
export class NestedWriter {
  readonly #shape: readonly number[]
  readonly #element: (index: number) => void
  readonly #writer: JsonWriter
  #next = 0

  /** @param binary whether BYTES are written as `{"b64": "…"}`; those that are no UTF-8 always are */
  constructor(writer: JsonWriter, tensor: Tensor, binary: boolean) {
    this.#writer = writer
    this.#shape = tensor.shape
    this.#element = tensor.datatype === 'BYTES' ? bytesWriter(writer, tensor.data, binary) : elementWriter(writer, tensor)
  }

  /** The whole tensor. */
  all(): void {
    this.#write(0)
  }

  /** The next row. */
  row(): void {
    this.#write(1)
  }

  #write(level: number): void {
    const shape = this.#shape
    if (level === shape.length) return this.#element(this.#next++)
    const writer = this.#writer
    const size = shape[level]!
    writer.byte(openBracket)
    for (let i = 0; i < size; i++) {
      if (i > 0) writer.byte(comma)
      if (level === shape.length - 1) this.#element(this.#next++)
      else this.#write(level + 1)
    }
    writer.byte(closeBracket)
  }
}

function bytesWriter(writer: JsonWriter, column: BytesColumn, binary: boolean): (index: number) => void {
  return (index) => {
    const bytes = bytesAt(column, index)
    if (!binary && isUtf8(bytes)) return writer.string(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString())
    writer.raw('{"b64":')
    writer.base64(bytes)
    writer.raw('}')
  }
}
