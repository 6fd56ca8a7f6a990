import { MeshError, type Tensor } from '@spillway/core'
import { type FieldColumn, fieldColumn } from './field-column.ts'
import type { InputDefinition } from './input-schema.ts'
import type { JsonCursor } from './json-cursor.ts'

/** Names of undeclared fields that are remembered, so that passing them costs no look-up. */
const maxIgnored = 64

/** A field of an event, declared or not, and which came behind it last: events of one source have their fields in one order. */
interface Slot {
  readonly nameBytes: Uint8Array
  readonly column: FieldColumn | undefined
  follower: Slot | undefined
}

/** Reads JSON objects into columns, one row each. */
export class ObjectReader {
  readonly columns: readonly FieldColumn[]
  private readonly slots = new Map<string, Slot>()
  private readonly head: Slot = { nameBytes: new Uint8Array(0), column: undefined, follower: undefined }
  private ignored = 0
  private record = 0

  constructor(input: InputDefinition) {
    this.columns = Object.entries(input.fields).map(([name, definition]) => fieldColumn(name, definition))
    for (const column of this.columns) this.slots.set(column.name, { nameBytes: column.nameBytes, column, follower: undefined })
  }

  allocate(rows: number): void {
    for (const column of this.columns) column.allocate(rows)
  }

  /** A new record begins: nothing of it is read. */
  forget(): void {
    this.record++
  }

  /** Whether the record had a value for `column` that `read` took as it is, even where the record failed. */
  has(column: FieldColumn): boolean {
    return column.record === this.record
  }

  tensors(rows: number): Map<string, Tensor> {
    return new Map(this.columns.map((column) => [column.name, column.tensor(rows)]))
  }

  /**
   * Reads the object at the cursor into `row`; goes on behind a value that is wrong, so that the event's id and key are known. Gives the
   * first error, or undefined.
   */
  read(cursor: JsonCursor, row: number): MeshError | undefined {
    try {
      return this.readMembers(cursor, row) ?? this.complete(row)
    } catch (error) {
      return MeshError.from(error)
    }
  }

  private readMembers(cursor: JsonCursor, row: number): MeshError | undefined {
    const first = cursor.peek()
    if (first === -1) return new MeshError('INVALID_ARGUMENT', 'the event is empty: it must be a JSON object')
    if (first !== 0x7b)
      return new MeshError('INVALID_ARGUMENT', `the event must be a JSON object, begins with ${JSON.stringify(String.fromCharCode(first))}`)
    cursor.position++
    let failure: MeshError | undefined
    let previous = this.head
    let next = cursor.peek()
    while (next !== 0x7d) {
      const slot = this.passName(cursor, previous)
      previous = slot ?? this.head
      cursor.expect(0x3a, "':'")
      if (slot?.column === undefined) cursor.skip()
      else {
        const wrong = this.readValue(cursor, slot.column, row)
        failure ??= wrong
        cursor.field = undefined
      }
      next = cursor.peek()
      if (next === 0x2c) {
        cursor.position++
        if (cursor.peek() === 0x7d) throw cursor.malformed("a field must follow ','")
      } else if (next !== 0x7d) throw cursor.malformed("expected ',' or '}'")
    }
    cursor.position++
    if (cursor.peek() !== -1) throw cursor.malformed('nothing may follow the object')
    return failure
  }

  private readValue(cursor: JsonCursor, column: FieldColumn, row: number): MeshError | undefined {
    const { name } = column
    cursor.field = name
    if (column.record === this.record) {
      cursor.skip()
      return wrongField(name, 'is given twice')
    }
    if (cursor.peek() === 0x6e && column.definition.optional) {
      if (cursor.literal() !== 'null') throw cursor.malformed('expected null')
      column.clear(row)
      column.record = this.record
      return undefined
    }
    const wrong = column.read(cursor, row)
    if (wrong !== undefined) return wrongField(name, wrong)
    column.record = this.record
    return undefined
  }

  /** Passes a field's name; undefined where it is neither declared nor remembered. */
  private passName(cursor: JsonCursor, previous: Slot): Slot | undefined {
    const expected = previous.follower
    cursor.peek()
    if (expected !== undefined && cursor.passName(expected.nameBytes)) return expected
    cursor.string()
    const nameBytes = cursor.bytes.slice(cursor.tokenStart, cursor.tokenEnd)
    const name = cursor.stringValue()
    let slot = this.slots.get(name)
    if (slot === undefined && this.ignored < maxIgnored && nameBytes.length < 256) {
      slot = { nameBytes, column: undefined, follower: undefined }
      this.slots.set(name, slot)
      this.ignored++
    }
    previous.follower = slot
    return slot
  }

  /** Fills in optional fields. */
  private complete(row: number): MeshError | undefined {
    for (const column of this.columns) {
      if (column.record === this.record) continue
      if (!column.definition.optional) return wrongField(column.name, 'is missing')
      column.clear(row)
    }
    return undefined
  }
}

function wrongField(name: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', `field "${name}" ${message}`, { field: name })
}
