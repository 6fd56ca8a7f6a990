import { allocate, type Datatype, type FixedData, type FixedDatatype, MeshError, type Tensor } from '@spillway/core'
import { binaryValue } from './binary-value.ts'
import { bf16Bits, fp16Bits } from './half.ts'
import type { JsonCursor, Whole } from './json-cursor.ts'

/** Elements of one tensor as they are read, in one growing typed array. */
export interface ElementColumn {
  readonly count: number
  /** Reads the next value. @throws MeshError INVALID_ARGUMENT saying what stands there instead and what was expected. */
  read(cursor: JsonCursor): void
  /** Reads a list of values, and says whether it ended; false, the cursor at the next element, where it has more than `most`. */
  readList(cursor: JsonCursor, most: number): boolean
  /** The elements as a tensor; their count must be the shape's. */
  finish(shape: readonly number[]): Tensor
}

/** Before its size is known; one row of most models. */
const firstCapacity = 64

/** @param capacity how many elements to expect; 0 where that is not known */
export function elementColumn(datatype: Datatype, capacity: number): ElementColumn {
  if (datatype === 'BYTES') return new BytesElements()
  if (datatype === 'FP32') return new Fp32Elements(capacity || firstCapacity)
  return new FixedElements(datatype, capacity || firstCapacity)
}

/** The commonest datatype, apart, so that its loop stays as simple as it is. */
class Fp32Elements implements ElementColumn {
  #data: Float32Array
  #count = 0

  constructor(capacity: number) {
    this.#data = new Float32Array(capacity)
  }

  get count(): number {
    return this.#count
  }

  read(cursor: JsonCursor): void {
    if (this.#count === this.#data.length) this.#data = grown(this.#data)
    this.#data[this.#count++] = cursor.single()
  }

  readList(cursor: JsonCursor, most: number): boolean {
    if (!cursor.enterList()) return true
    const end = this.#count + most
    for (;;) {
      if (this.#count === end) return false
      if (this.#count === this.#data.length) this.#data = grown(this.#data)
      const reached = cursor.singles(this.#data, this.#count, Math.min(end, this.#data.length))
      this.#count = reached < 0 ? ~reached : reached
      if (reached < 0) return true
    }
  }

  finish(shape: readonly number[]): Tensor {
    return { datatype: 'FP32', shape, data: exact(this.#data, this.#count) }
  }
}

class FixedElements implements ElementColumn {
  readonly #datatype: FixedDatatype
  readonly #put: (data: FixedData, index: number, cursor: JsonCursor) => void
  #data: FixedData
  #count = 0

  constructor(datatype: FixedDatatype, capacity: number) {
    this.#datatype = datatype
    this.#data = allocate(datatype, capacity)
    this.#put = putters[datatype]
  }

  get count(): number {
    return this.#count
  }

  read(cursor: JsonCursor): void {
    if (this.#count === this.#data.length) this.#data = grown(this.#data)
    this.#put(this.#data, this.#count, cursor)
    this.#count++
  }

  readList(cursor: JsonCursor, most: number): boolean {
    return readList(this, cursor, most)
  }

  finish(shape: readonly number[]): Tensor {
    return { datatype: this.#datatype, shape, data: exact(this.#data, this.#count) }
  }
}

/** Strings as UTF-8, or bytes as `{"b64": "…"}`. */
class BytesElements implements ElementColumn {
  #bytes: Uint8Array = new Uint8Array(firstCapacity)
  #end = 0
  #offsets: Uint32Array = new Uint32Array(firstCapacity)
  #count = 0

  get count(): number {
    return this.#count
  }

  read(cursor: JsonCursor): void {
    if (!cursor.atString() && !cursor.atObject()) throw cursor.unexpected('a string or {"b64": "…"}')
    if (cursor.atObject()) {
      const bytes = binaryValue(cursor)
      if (bytes === undefined) throw cursor.unexpected('a string, or an object whose only member is "b64" and a string of base64')
      return this.#add(bytes)
    }
    const plain = cursor.plainString()
    this.#add(plain === undefined ? Buffer.from(cursor.string()) : cursor.slice(plain.start, plain.end))
  }

  readList(cursor: JsonCursor, most: number): boolean {
    return readList(this, cursor, most)
  }

  #add(value: Uint8Array): void {
    if (this.#end + value.length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#end + value.length))
      larger.set(this.#bytes.subarray(0, this.#end))
      this.#bytes = larger
    }
    this.#bytes.set(value, this.#end)
    this.#end += value.length
    if (this.#count + 2 > this.#offsets.length) this.#offsets = grown(this.#offsets) as Uint32Array
    this.#offsets[++this.#count] = this.#end
  }

  finish(shape: readonly number[]): Tensor {
    const data = { bytes: this.#bytes.subarray(0, this.#end), offsets: this.#offsets.subarray(0, this.#count + 1) }
    return { datatype: 'BYTES', shape, data }
  }
}

function readList(column: ElementColumn, cursor: JsonCursor, most: number): boolean {
  const end = column.count + most
  for (let more = cursor.enterList(); more; more = cursor.nextElement()) {
    if (column.count === end) return false
    column.read(cursor)
  }
  return true
}

function grown<T extends FixedData>(data: T): T {
  const larger = new (data.constructor as new (length: number) => T)(data.length * 2)
  ;(larger as Float64Array).set(data as Float64Array)
  return larger
}

/** Without the room that was not needed. */
function exact<T extends FixedData>(data: T, count: number): T {
  return (count === data.length ? data : data.slice(0, count)) as T
}

type Put = (data: FixedData, index: number, cursor: JsonCursor) => void

/** A whole number from `least` to `most`. */
function integer(datatype: Datatype, least: number, most: number): Put {
  return (data, index, cursor) => {
    const value = readWhole(cursor, datatype)
    if (value < least || value > most) throw outOfRange(value, datatype)
    data[index] = value as number
  }
}

function long(datatype: Datatype, least: bigint, most: bigint): Put {
  return (data, index, cursor) => {
    const value = readWhole(cursor, datatype)
    if (value < least || value > most) throw outOfRange(value, datatype)
    ;(data as BigInt64Array)[index] = BigInt(value)
  }
}

/** A number whose nearest is not infinite. */
function half(datatype: Datatype, bitsOf: (value: number) => number, infinity: number): Put {
  return (data, index, cursor) => {
    const start = cursor.offset
    const value = cursor.double()
    const bits = bitsOf(value)
    if ((bits & 0x7fff) === infinity && Number.isFinite(value)) throw cursor.unexpected(`a number in the range of ${datatype}`, start)
    data[index] = bits
  }
}

function readWhole(cursor: JsonCursor, datatype: Datatype): Whole {
  const value = cursor.atNumber() ? cursor.whole() : undefined
  if (value === undefined) throw cursor.unexpected(`a whole number (${datatype})`)
  return value
}

const putters: Readonly<Record<FixedDatatype, Put>> = {
  BOOL: (data, index, cursor) => {
    const value = cursor.boolean()
    if (value === undefined) throw cursor.unexpected('true or false')
    data[index] = value ? 1 : 0
  },
  UINT8: integer('UINT8', 0, 2 ** 8 - 1),
  UINT16: integer('UINT16', 0, 2 ** 16 - 1),
  UINT32: integer('UINT32', 0, 2 ** 32 - 1),
  UINT64: long('UINT64', 0n, 2n ** 64n - 1n),
  INT8: integer('INT8', -(2 ** 7), 2 ** 7 - 1),
  INT16: integer('INT16', -(2 ** 15), 2 ** 15 - 1),
  INT32: integer('INT32', -(2 ** 31), 2 ** 31 - 1),
  INT64: long('INT64', -(2n ** 63n), 2n ** 63n - 1n),
  FP16: half('FP16', fp16Bits, 0x7c00),
  BF16: half('BF16', bf16Bits, 0x7f80),
  FP32: (data, index, cursor) => {
    data[index] = cursor.double()
  },
  FP64: (data, index, cursor) => {
    data[index] = cursor.double()
  },
}

function outOfRange(value: Whole, datatype: Datatype): MeshError {
  const text = Math.abs(Number(value)) === Infinity ? 'a number' : String(value)
  return new MeshError('INVALID_ARGUMENT', `${text} is out of the range of ${datatype}`)
}
