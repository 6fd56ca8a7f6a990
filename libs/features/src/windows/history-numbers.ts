import { type Batch, type BytesColumn, column } from '@spillway/core'
import { numberField } from '../columns/field-values.ts'

/** What a history keeps of a field: its numbers, and of text a hash; NaN where it is absent, as empty text is. */
export function historyNumbers(batch: Batch, field: string): Float64Array {
  const tensor = column(batch, field)
  return tensor.datatype === 'BYTES' ? textHashes(tensor.data, batch.rowCount) : numberField(batch, field)
}

/**
 * A whole number from 0 to 2^53 - 1 for each text, made from its UTF-8 bytes by two 32-bit multiplicative hashes, mixed as MurmurHash3 does. Stored: it must
 * never change. Among a million different texts two share a number with a probability of 6e-5.
 */
function textHashes({ bytes, offsets }: BytesColumn, rowCount: number): Float64Array {
  const hashes = new Float64Array(rowCount)
  for (let row = 0; row < rowCount; row++) {
    const end = offsets[row + 1]!
    let at = offsets[row]!
    if (at === end) {
      hashes[row] = NaN
      continue
    }
    let first = 0xdeadbeef ^ (end - at)
    let second = 0x41c6ce57 ^ (end - at)
    for (; at < end; at++) {
      first = Math.imul(first ^ bytes[at]!, 2654435761)
      second = Math.imul(second ^ bytes[at]!, 1597334677)
      // Or the high bits would never reach the low ones.
      first ^= first >>> 15
      second ^= second >>> 13
    }
    const low = mixed(first ^ Math.imul(second, 0x9e3779b1))
    const high = mixed(second ^ Math.imul(low, 0x85ebca77))
    hashes[row] = (high & 0x1fffff) * 2 ** 32 + low
  }
  return hashes
}

function mixed(bits: number): number {
  let hash = bits ^ (bits >>> 16)
  hash = Math.imul(hash, 0x85ebca6b)
  hash ^= hash >>> 13
  hash = Math.imul(hash, 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
