/**
 * A stream of random numbers that is the same on every machine: xoshiro128** 1.1 (Blackman and Vigna, "Scrambled linear
 * pseudorandom number generators", 2021), its state filled by the 32-bit finaliser of MurmurHash3 over the stream's address.
 */
export class Random {
  #a: number
  #b: number
  #c: number
  #d: number

  /** Streams with different addresses (a seed, then what the stream is for) are independent for all that a simulation needs. */
  constructor(...address: readonly number[]) {
    let hash = 0x9e3779b9
    for (const part of address) hash = mix(hash ^ mix(part | 0)) + 0x9e3779b9
    this.#a = mix(hash + 1)
    this.#b = mix(hash + 2)
    this.#c = mix(hash + 3)
    // An all-zero state would stay zero for ever.
    this.#d = mix(hash + 4) | 1
  }

  #next(): number {
    const scrambled = Math.imul(rotate(Math.imul(this.#b, 5), 7), 9) >>> 0
    const shifted = this.#b << 9
    this.#c ^= this.#a
    this.#d ^= this.#b
    this.#b ^= this.#c
    this.#a ^= this.#d
    this.#c ^= shifted
    this.#d = rotate(this.#d, 11)
    return scrambled
  }

  /** In [low, high), 53 random bits. */
  uniform(low = 0, high = 1): number {
    const unit = ((this.#next() >>> 5) * 0x4000000 + (this.#next() >>> 6)) / 0x20000000000000
    return low + unit * (high - low)
  }

  /** A whole number in [0, bound). */
  integer(bound: number): number {
    return Math.floor(this.uniform() * bound)
  }

  /** Marsaglia's polar method; its second value is thrown away, so that a draw depends on nothing before it but the stream's place. */
  normal(mean: number, deviation: number): number {
    for (;;) {
      const x = this.uniform(-1, 1)
      const y = this.uniform(-1, 1)
      const square = x * x + y * y
      if (square > 0 && square < 1) return mean + deviation * x * Math.sqrt((-2 * Math.log(square)) / square)
    }
  }

  /** Knuth's product of uniforms: right for the small means here. */
  poisson(mean: number): number {
    const limit = Math.exp(-mean)
    let count = 0
    for (let product = this.uniform(); product > limit; product *= this.uniform()) count++
    return count
  }

  /** `count` different whole numbers in [0, bound). */
  sample(count: number, bound: number): number[] {
    const chosen = new Set<number>()
    while (chosen.size < Math.min(count, bound)) chosen.add(this.integer(bound))
    return [...chosen]
  }
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits))
}

function mix(value: number): number {
  let hash = value | 0
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) | 0
}
