/** As in the reference implementation: https://github.com/aappleby/smhasher/blob/master/src/MurmurHash3.cpp, MurmurHash3_x86_32. */
const c1 = 0xcc9e2d51
const c2 = 0x1b873593

function mixBlock(hash: number, block: number): number {
  let k = Math.imul(block, c1)
  k = Math.imul((k << 15) | (k >>> 17), c2)
  const mixed = hash ^ k
  return (Math.imul((mixed << 13) | (mixed >>> 19), 5) + 0xe6546b64) | 0
}

function finish(hash: number, length: number): number {
  let h = hash ^ length
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** MurmurHash3 x86 32 of the bytes from `from` (inclusive) to `to` (exclusive): 0 to 2^32 - 1. */
export function murmur3(bytes: Uint8Array, from: number, to: number, seed: number): number {
  let hash = seed | 0
  let at = from
  for (; at + 4 <= to; at += 4) hash = mixBlock(hash, bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24))
  const rest = to - at
  if (rest > 0) {
    let tail = bytes[at]!
    if (rest > 1) tail |= bytes[at + 1]! << 8
    if (rest > 2) tail |= bytes[at + 2]! << 16
    const k = Math.imul(tail, c1)
    hash ^= Math.imul((k << 15) | (k >>> 17), c2)
  }
  return finish(hash, to - from)
}

/** As `murmur3` of the 4 little-endian bytes of each of two 32-bit words. */
export function murmur3Pair(first: number, second: number, seed: number): number {
  return finish(mixBlock(mixBlock(seed | 0, first), second), 8)
}

/** As `murmur3` of the 4 little-endian bytes of each word. */
export function murmur3Words(words: readonly number[], seed: number): number {
  let hash = seed | 0
  for (let i = 0; i < words.length; i++) hash = mixBlock(hash, words[i]!)
  return finish(hash, words.length * 4)
}

/** `murmur3` of the 8 little-endian bytes of each number as FP64 (-0 as 0). */
export function hashNumbers(values: Float64Array, seed: number, into: Uint32Array): void {
  const number = new Float64Array(1)
  const words = new Int32Array(number.buffer)
  for (let row = 0; row < values.length; row++) {
    number[0] = values[row]! + 0
    into[row] = murmur3Pair(words[0]!, words[1]!, seed)
  }
}
