/**
 * MurmurHash3 x86 32, as in the reference implementation: https://github.com/aappleby/smhasher/blob/master/src/MurmurHash3.cpp. Hashes are 0 to 2^32 - 1.
 * The loops over rows stand here, each with all that it calls: inlined, a row takes a few nanoseconds.
 */
const c1 = 0xcc9e2d51 | 0
const c2 = 0x1b873593

function mixBlock(hash: number, block: number): number {
  let k = Math.imul(block, c1)
  k = Math.imul((k << 15) | (k >>> 17), c2)
  const mixed = hash ^ k
  return (Math.imul((mixed << 13) | (mixed >>> 19), 5) + (0xe6546b64 | 0)) | 0
}

/** Of the last one to three bytes. */
function mixTail(hash: number, tail: number): number {
  const k = Math.imul(tail, c1)
  return hash ^ Math.imul((k << 15) | (k >>> 17), c2)
}

function finish(hash: number, length: number): number {
  let h = hash ^ length
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b | 0)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35 | 0)
  return (h ^ (h >>> 16)) >>> 0
}

/** Of the bytes from `from` (inclusive) to `to` (exclusive). */
export function murmur3(bytes: Uint8Array, from: number, to: number, seed: number): number {
  let hash = seed | 0
  let at = from
  for (; at + 4 <= to; at += 4) hash = mixBlock(hash, bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24))
  const rest = to - at
  if (rest > 0) {
    let tail = bytes[at]!
    if (rest > 1) tail |= bytes[at + 1]! << 8
    if (rest > 2) tail |= bytes[at + 2]! << 16
    hash = mixTail(hash, tail)
  }
  return finish(hash, to - from)
}

/** `murmur3` of row after row: `bytes[offsets[row] .. offsets[row + 1])`. */
export function hashTexts(bytes: Uint8Array, offsets: Uint32Array, seed: number, into: Uint32Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let row = 0; row < into.length; row++) {
    let at = offsets[row]!
    const to = offsets[row + 1]!
    const length = to - at
    let hash = seed | 0
    for (; at + 4 <= to; at += 4) hash = mixBlock(hash, view.getInt32(at, true))
    const rest = to - at
    if (rest > 0) {
      let tail = bytes[at]!
      if (rest > 1) tail |= bytes[at + 1]! << 8
      if (rest > 2) tail |= bytes[at + 2]! << 16
      hash = mixTail(hash, tail)
    }
    into[row] = finish(hash, length)
  }
}

/** `murmur3` of the 8 little-endian bytes of each number as FP64, -0 being 0. */
export function hashNumbers(values: Float64Array, seed: number, into: Uint32Array): void {
  const words = new Int32Array(values.buffer, values.byteOffset, values.length * 2)
  for (let row = 0; row < into.length; row++) {
    const low = words[2 * row]!
    const high = words[2 * row + 1]!
    into[row] = finish(mixBlock(mixBlock(seed | 0, low), low === 0 && high === -2_147_483_648 ? 0 : high), 8)
  }
}

/** `murmur3` of the 8 little-endian bytes of both rows' hashes, seed 0, modulo `buckets`. */
export function crossPairs(first: Uint32Array, second: Uint32Array, buckets: number, into: Int32Array): void {
  // Known to be 32 bits, so that the remainder is one of integers.
  const size = buckets >>> 0
  for (let row = 0; row < into.length; row++) into[row] = finish(mixBlock(mixBlock(0, first[row]!), second[row]!), 8) % size
}

/** As `crossPairs`, of the hashes of three parts and more. */
export function crossMany(parts: readonly Uint32Array[], buckets: number, into: Int32Array): void {
  const size = buckets >>> 0
  for (let row = 0; row < into.length; row++) {
    let hash = 0
    for (const part of parts) hash = mixBlock(hash, part[row]!)
    into[row] = finish(hash, parts.length * 4) % size
  }
}
