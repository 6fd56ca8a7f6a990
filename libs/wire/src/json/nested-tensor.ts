import { type ColumnType, elementCount, MeshError, type Tensor } from '@spillway/core'
import { elementColumn, type ElementColumn } from './element-column.ts'
import type { JsonCursor } from './json-cursor.ts'

/** More would be a mistake, and cost memory before any element is there. */
const largestRow = 65_536

/**
 * One tensor as it is read from nested lists: at once (`readWhole`), or row after row (`readRow`). Lists must be nested as deep as the shape says and be of the
 * sizes that it says; a size that it leaves open (-1) is the first list's.
 * Errors are MeshError INVALID_ARGUMENT naming the tensor, what was expected and what was found.
 */
export class NestedTensor {
  readonly #name: string
  readonly #type: ColumnType
  readonly #shape: readonly (number | string)[]
  readonly #column: ElementColumn
  /** Sizes within a row; -1 until the first list of that level has ended. */
  readonly #sizes: number[]
  #rows = 0

  /** @param rowShape without the row @param shape as messages show it, the row included */
  constructor(name: string, type: ColumnType, shape: readonly (number | string)[]) {
    const { datatype, rowShape } = type
    this.#name = name
    this.#type = type
    this.#shape = shape
    this.#sizes = [...rowShape]
    const count = elementCount(rowShape)
    this.#column = elementColumn(datatype, count > 0 && count <= largestRow ? count : 0)
  }

  get rows(): number {
    return this.#rows
  }

  /** Reads a list of rows. */
  readRows(cursor: JsonCursor): void {
    this.#explained(() => {
      if (!cursor.atList()) throw cursor.unexpected('a list')
      for (let more = cursor.enterList(); more; more = cursor.nextElement()) this.#row(cursor)
    })
  }

  readRow(cursor: JsonCursor): void {
    this.#explained(() => this.#row(cursor))
  }

  #row(cursor: JsonCursor): void {
    this.#read(cursor, 0)
    this.#rows++
  }

  #read(cursor: JsonCursor, level: number): void {
    const sizes = this.#sizes
    if (level === sizes.length) return this.#column.read(cursor)
    if (!cursor.atList()) throw cursor.unexpected(`a list${sizes[level] === -1 ? '' : ` of ${sizes[level]}`}`)
    const expected = sizes[level]!
    const most = expected === -1 ? Infinity : expected
    let size = 0
    if (level === sizes.length - 1) {
      const before = this.#column.count
      if (!this.#column.readList(cursor, most)) throw tooMany(cursor, most)
      size = this.#column.count - before
    } else {
      for (let more = cursor.enterList(); more; more = cursor.nextElement()) {
        if (size === most) throw tooMany(cursor, most)
        this.#read(cursor, level + 1)
        size++
      }
    }
    if (expected === -1) sizes[level] = size
    else if (size !== expected)
      throw new MeshError('INVALID_ARGUMENT', `a list of ${size} ends at offset ${cursor.offset}: expected ${expected} elements`)
  }

  /** A flat list, or a single value, as one row: what a feature of an example is. */
  readFlatRow(cursor: JsonCursor): void {
    this.#explained(() => {
      const before = this.#column.count
      if (cursor.atList()) this.#column.readList(cursor, Infinity)
      else this.#column.read(cursor)
      this.#fitFlat(this.#column.count - before)
      this.#rows++
    })
  }

  #fitFlat(count: number): void {
    const open = this.#sizes.indexOf(-1)
    if (open !== -1 && this.#sizes.indexOf(-1, open + 1) === -1) {
      const others = -elementCount(this.#sizes)
      this.#sizes[open] = others === 0 ? 0 : count / others
    }
    const expected = elementCount(this.#sizes)
    if (this.#sizes.some((size) => size < 0 || !Number.isInteger(size)) || count !== expected)
      throw new MeshError(
        'INVALID_ARGUMENT',
        `${count} values${Number.isInteger(expected) && expected >= 0 ? `: expected ${expected}` : ' do not fill it'}`,
      )
  }

  /** @param shape that of the tensor around the row's: `[rows]`, or nothing where the tensor is one row. */
  finish(around: readonly number[] = [this.#rows]): Tensor {
    return this.#column.finish([...around, ...this.#sizes.map((size) => Math.max(size, 0))])
  }

  #explained(read: () => void): void {
    try {
      read()
    } catch (error) {
      const { code, message } = MeshError.from(error, 'INTERNAL')
      const type = `${this.#type.datatype} [${this.#shape.map((size) => (size === -1 ? 'any' : size)).join(', ')}]`
      throw new MeshError(code, `input "${this.#name}" is ${type}: ${message}`, { field: this.#name, cause: error })
    }
  }
}

function tooMany(cursor: JsonCursor, most: number): MeshError {
  return new MeshError(
    'INVALID_ARGUMENT',
    `more than ${most} elements in the list that goes on at offset ${cursor.offset}: expected ${most}`,
  )
}
