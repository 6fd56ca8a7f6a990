import { type Tensor } from '@spillway/core'
import type { FieldDefinition, FieldType } from './input-schema.ts'
import type { JsonCursor } from './json-cursor.ts'
import { maxTimeMs, parseRfc3339 } from './rfc3339.ts'

const twoTo32 = 2 ** 32

/**
 * One declared field: reads its values from a cursor into a column. Where a value is not what was declared, `read` passes it and says what
 * would be right; the row's slot is then written again by the next row.
 */
export abstract class FieldColumn {
  readonly name: string
  readonly definition: FieldDefinition
  readonly nameBytes: Uint8Array
  /** The record that the last value was read from: what tells a missing or repeated field. */
  record = -1

  constructor(name: string, definition: FieldDefinition) {
    this.name = name
    this.definition = definition
    this.nameBytes = new TextEncoder().encode(JSON.stringify(name).slice(1, -1))
  }

  /** Room for `rows` rows. */
  abstract allocate(rows: number): void
  /** Reads the value at the cursor into `row`; gives what is wrong with it, or undefined. */
  abstract read(cursor: JsonCursor, row: number): string | undefined
  /** What an absent optional field holds. */
  abstract clear(row: number): void
  /** The first `rows` rows. */
  abstract tensor(rows: number): Tensor
  /** A value that `read` took, as text. */
  abstract text(row: number): string

  /** Passes a value of another type. */
  protected refuse(cursor: JsonCursor): string {
    cursor.peek()
    const start = cursor.position
    cursor.skip()
    const given = cursor.text(start, Math.min(cursor.position, start + 60))
    return `must be ${descriptions[this.definition.type]}, got ${given.length > 40 ? `${given.slice(0, 40)}…` : given}`
  }

  protected outOfBounds(value: number | bigint): string | undefined {
    const { min, max } = this.definition
    if (min !== undefined && value < min) return `must be at least ${min}, got ${value}`
    if (max !== undefined && value > max) return `must be at most ${max}, got ${value}`
    return undefined
  }
}

const descriptions: Readonly<Record<FieldType, string>> = {
  string: 'a string',
  number: 'a number',
  integer: 'an integer',
  boolean: 'true or false',
  timestamp: 'an RFC 3339 time, as 2018-04-01T00:00:31Z, or ms since the epoch',
}

/** FP64: numbers, timestamps, and what else may be absent. */
class FloatColumn extends FieldColumn {
  private values: Float64Array = new Float64Array(0)

  allocate(rows: number): void {
    this.values = new Float64Array(rows)
  }

  read(cursor: JsonCursor, row: number): string | undefined {
    const { type } = this.definition
    const first = cursor.peek()
    if (type === 'boolean') {
      if (first !== 0x74 && first !== 0x66) return this.refuse(cursor)
      this.values[row] = cursor.literal() === 'true' ? 1 : 0
      return undefined
    }
    if (type === 'timestamp' && first === 0x22) return this.readTime(cursor, row)
    if (!cursor.atNumber(first)) return this.refuse(cursor)
    const value = cursor.number()
    this.values[row] = value
    if (!Number.isFinite(value))
      return `is out of range: no 64-bit float holds ${cursor.text(cursor.tokenStart, Math.min(cursor.tokenEnd, cursor.tokenStart + 40))}`
    if (type === 'timestamp' && Math.abs(value) > maxTimeMs) return `is out of range: ${value} ms since the epoch is no time`
    if (type === 'integer' && !Number.isSafeInteger(value))
      return `must be an integer between ±9007199254740991, as it is optional, got ${value}`
    return this.outOfBounds(value)
  }

  private readTime(cursor: JsonCursor, row: number): string | undefined {
    cursor.string()
    const timeMs = parseRfc3339(cursor.bytes, cursor.tokenStart, cursor.tokenEnd)
    this.values[row] = timeMs
    return Number.isNaN(timeMs) ? `must be ${descriptions.timestamp}, got "${cursor.stringValue().slice(0, 40)}"` : undefined
  }

  clear(row: number): void {
    this.values[row] = NaN
  }

  value(row: number): number {
    return this.values[row]!
  }

  text(row: number): string {
    return String(this.values[row])
  }

  tensor(rows: number): Tensor {
    return { datatype: 'FP64', shape: [rows], data: this.values.subarray(0, rows) }
  }
}

/** INT64, exact over its whole range. Written in halves: a bigint a value would be an allocation a value. */
class IntegerColumn extends FieldColumn {
  private values: BigInt64Array = new BigInt64Array(0)
  private halves: Int32Array = new Int32Array(0)

  allocate(rows: number): void {
    this.values = new BigInt64Array(rows)
    this.halves = new Int32Array(this.values.buffer)
  }

  read(cursor: JsonCursor, row: number): string | undefined {
    if (!cursor.atNumber(cursor.peek())) return this.refuse(cursor)
    const value = cursor.number()
    if (!Number.isSafeInteger(value)) return this.readLong(cursor, row)
    this.halves[row * 2] = value | 0
    this.halves[row * 2 + 1] = Math.floor(value / twoTo32)
    return this.outOfBounds(value)
  }

  private readLong(cursor: JsonCursor, row: number): string | undefined {
    const given = cursor.text(cursor.tokenStart, Math.min(cursor.tokenEnd, cursor.tokenStart + 40))
    if (!cursor.integral) return `must be ${descriptions.integer}, got ${given}`
    // Any 64-bit integer has at most 20 characters: a longer one is not worth a bigint.
    const value = given.length > 20 ? undefined : BigInt(given)
    if (value === undefined || BigInt.asIntN(64, value) !== value) return `is out of range: ${given} is no 64-bit integer`
    this.values[row] = value
    return this.outOfBounds(value)
  }

  clear(): void {
    throw new TypeError('an optional integer is held as FP64')
  }

  text(row: number): string {
    const high = this.halves[row * 2 + 1]!
    return high === 0 ? String(this.halves[row * 2]! >>> 0) : String(this.values[row])
  }

  tensor(rows: number): Tensor {
    return { datatype: 'INT64', shape: [rows], data: this.values.subarray(0, rows) }
  }
}

class BooleanColumn extends FieldColumn {
  private values: Uint8Array = new Uint8Array(0)

  allocate(rows: number): void {
    this.values = new Uint8Array(rows)
  }

  read(cursor: JsonCursor, row: number): string | undefined {
    const first = cursor.peek()
    if (first !== 0x74 && first !== 0x66) return this.refuse(cursor)
    this.values[row] = cursor.literal() === 'true' ? 1 : 0
    return undefined
  }

  clear(): void {
    throw new TypeError('an optional boolean is held as FP64')
  }

  text(row: number): string {
    return String(this.values[row] === 1)
  }

  tensor(rows: number): Tensor {
    return { datatype: 'BOOL', shape: [rows], data: this.values.subarray(0, rows) }
  }
}

/** BYTES: a string's UTF-8, copied from the event where it has no escapes. */
class StringColumn extends FieldColumn {
  private bytes: Uint8Array = new Uint8Array(0)
  private offsets: Uint32Array = new Uint32Array(1)

  allocate(rows: number): void {
    this.bytes = new Uint8Array(rows * 16)
    this.offsets = new Uint32Array(rows + 1)
  }

  read(cursor: JsonCursor, row: number): string | undefined {
    if (cursor.peek() !== 0x22) return this.refuse(cursor)
    cursor.string()
    if (cursor.escaped) {
      const content = Buffer.from(cursor.stringValue())
      this.append(row, content, 0, content.length)
    } else this.append(row, cursor.bytes, cursor.tokenStart, cursor.tokenEnd)
    const { maxLength } = this.definition
    if (maxLength === undefined || this.offsets[row + 1]! - this.offsets[row]! <= maxLength) return undefined
    const { length } = Array.from(this.text(row))
    return length > maxLength ? `must have at most ${maxLength} characters, got ${length}` : undefined
  }

  private append(row: number, source: Uint8Array, start: number, end: number): void {
    let at = this.offsets[row]!
    const needed = at + end - start
    if (needed > this.bytes.length) {
      const grown = new Uint8Array(Math.max(needed, this.bytes.length * 2))
      grown.set(this.bytes.subarray(0, at))
      this.bytes = grown
    }
    // Most strings are shorter than what a bulk copy costs to set up.
    if (end - start > 48) this.bytes.set(source.subarray(start, end), at)
    else for (let i = start; i < end; i++) this.bytes[at++] = source[i]!
    this.offsets[row + 1] = needed
  }

  clear(row: number): void {
    this.offsets[row + 1] = this.offsets[row]!
  }

  text(row: number): string {
    return Buffer.from(this.bytes.buffer).toString('utf8', this.offsets[row], this.offsets[row + 1])
  }

  tensor(rows: number): Tensor {
    const offsets = this.offsets.subarray(0, rows + 1)
    return { datatype: 'BYTES', shape: [rows], data: { bytes: this.bytes.subarray(0, offsets[rows]), offsets } }
  }
}

export { FloatColumn }

export function fieldColumn(name: string, definition: FieldDefinition): FieldColumn {
  if (definition.type === 'string') return new StringColumn(name, definition)
  if (definition.optional || definition.type === 'number' || definition.type === 'timestamp') return new FloatColumn(name, definition)
  return definition.type === 'integer' ? new IntegerColumn(name, definition) : new BooleanColumn(name, definition)
}
