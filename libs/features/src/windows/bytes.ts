import { MeshError } from '@spillway/core'

const largestFast = 2 ** 28

/** Writes numbers one after the other. Integers are varints: seven bits a byte, the lowest first, the high bit set on all but the last (as in Protocol Buffers). */
export class ByteWriter {
  private readonly buffer: Uint8Array
  private readonly view: DataView
  private end = 0

  /** @param limit bytes that are written at most */
  constructor(limit: number) {
    this.buffer = new Uint8Array(limit)
    this.view = new DataView(this.buffer.buffer)
  }

  byte(value: number): void {
    this.buffer[this.end++] = value
  }

  /** An integer from 0 to 2^53 - 1: one to eight bytes. */
  varint(value: number): void {
    const { buffer } = this
    let rest = value
    while (rest >= largestFast) {
      buffer[this.end++] = (rest % 128) | 128
      rest = Math.floor(rest / 128)
    }
    while (rest >= 128) {
      buffer[this.end++] = (rest & 127) | 128
      rest >>>= 7
    }
    buffer[this.end++] = rest
  }

  /** An integer between ±2^52: 0, -1, 1, -2 … as 0, 1, 2, 3 … */
  signed(value: number): void {
    this.varint(value < 0 ? -2 * value - 1 : 2 * value)
  }

  double(value: number): void {
    this.view.setFloat64(this.end, value, true)
    this.end += 8
  }

  /** A copy of what was written. */
  bytes(): Uint8Array {
    return this.buffer.slice(0, this.end)
  }
}

/** Reads what `ByteWriter` wrote. @throws MeshError DATA_LOSS where the bytes end too soon */
export class ByteReader {
  at = 0
  readonly bytes: Uint8Array
  private view: DataView | undefined

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }

  byte(): number {
    const value = this.bytes[this.at++]
    if (value === undefined) throw brokenOff()
    return value
  }

  varint(): number {
    const first = this.byte()
    if (first < 128) return first
    let value = first & 127
    for (let shift = 7; shift < 28; shift += 7) {
      const next = this.byte()
      value |= (next & 127) << shift
      if (next < 128) return value
    }
    for (let scale = largestFast; scale < 2 ** 57; scale *= 128) {
      const next = this.byte()
      value += (next & 127) * scale
      if (next < 128) return value
    }
    throw new MeshError('DATA_LOSS', 'an integer of more than eight bytes')
  }

  signed(): number {
    const value = this.varint()
    return value % 2 === 1 ? -(value + 1) / 2 : value / 2
  }

  double(): number {
    const { bytes } = this
    if (this.at + 8 > bytes.length) throw brokenOff()
    this.view ??= new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const value = this.view.getFloat64(this.at, true)
    this.at += 8
    return value
  }
}

function brokenOff(): MeshError {
  return new MeshError('DATA_LOSS', 'the bytes end within a block')
}
