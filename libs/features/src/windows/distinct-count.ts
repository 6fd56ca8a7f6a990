import type { Gatherer, PackedHistory, Reader } from './entries.ts'
import type { WindowOutput } from './plan.ts'

/** Up to so many different numbers are counted exactly. */
const mostExact = 256
const indexBits = 12
const registerCount = 2 ** indexBits
/** Bits of a hash beside the register's index. */
const rankBits = 64 - indexBits

/**
 * How many different numbers there are: exact up to 256, beyond that a HyperLogLog of 4,096 registers, whose standard error is 1.04 / √4096 = 1.6 %
 * (Flajolet et al., 2007), read by Ertl's estimator, which needs no table of corrections (New cardinality estimation algorithms for HyperLogLog sketches, 2017,
 * algorithm 6). Both depend on the set of numbers alone, not on the order in which they came, nor on how they were put together.
 */
export class DistinctCount implements Gatherer<DistinctCount> {
  readonly summarisesTiles = false
  readonly slot: number
  private readonly valueIndex: number
  private readonly valueCount: number
  private readonly exact = new Set<number>()
  private registers: Uint8Array | undefined
  private readonly number = new Float64Array(1)
  private readonly halves = new Uint32Array(this.number.buffer)

  constructor(valueIndex: number, valueCount: number) {
    this.valueIndex = valueIndex
    this.valueCount = valueCount
    this.slot = 2 + 2 * valueIndex
  }

  get bytes(): number {
    return 400 + this.exact.size * 40 + (this.registers?.length ?? 0)
  }

  fresh(): DistinctCount {
    return new DistinctCount(this.valueIndex, this.valueCount)
  }

  clear(): void {
    this.exact.clear()
    this.registers = undefined
  }

  addEntries(entries: PackedHistory, from: number, to: number, afterMs: number, { origin, lastOffset }: Reader): number {
    const { times, origins, offsets, values } = entries
    const { valueIndex, valueCount } = this
    let index = to - 1
    for (; index >= from && times[index]! > afterMs; index--)
      if (origins[index] !== origin || offsets[index]! <= lastOffset) this.addNumber(values[index * valueCount + valueIndex]!)
    return index + 1
  }

  addNumber(number: number): void {
    if (Number.isNaN(number)) return
    if (this.registers !== undefined) {
      this.register(this.registers, number)
      return
    }
    this.exact.add(number)
    if (this.exact.size > mostExact) this.sketch()
  }

  addSummary(summary: DistinctCount): void {
    if (summary.registers === undefined) {
      for (const number of summary.exact) this.addNumber(number)
      return
    }
    const registers = this.registers ?? this.sketch()
    for (let i = 0; i < registerCount; i++) if (summary.registers[i]! > registers[i]!) registers[i] = summary.registers[i]!
  }

  result({ empty }: WindowOutput): number {
    if (this.registers !== undefined) return Math.max(mostExact + 1, Math.round(estimate(this.registers)))
    return this.exact.size === 0 ? empty : this.exact.size
  }

  private sketch(): Uint8Array {
    const registers = new Uint8Array(registerCount)
    this.registers = registers
    for (const number of this.exact) this.register(registers, number)
    this.exact.clear()
    return registers
  }

  /** 0 and -0 are one number. */
  private register(registers: Uint8Array, number: number): void {
    this.number[0] = number + 0
    const low = this.halves[0]!
    const high = this.halves[1]!
    const first = mixed(low ^ mixed(high ^ 0x9e3779b9))
    const second = mixed(high ^ mixed(first ^ 0x85ebca6b))
    const index = first >>> (32 - indexBits)
    const rest = first & ((1 << (32 - indexBits)) - 1)
    const rank = rest === 0 ? 33 - indexBits + Math.clz32(second) : Math.clz32(rest) - indexBits + 1
    if (rank > registers[index]!) registers[index] = rank
  }
}

/** The finaliser of MurmurHash3 (32 bits). */
function mixed(bits: number): number {
  let hash = bits ^ (bits >>> 16)
  hash = Math.imul(hash, 0x85ebca6b)
  hash ^= hash >>> 13
  hash = Math.imul(hash, 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

function estimate(registers: Uint8Array): number {
  const counts = new Uint32Array(rankBits + 2)
  for (const rank of registers) counts[rank]!++
  const m = registerCount
  let z = m * tau(1 - counts[rankBits + 1]! / m)
  for (let k = rankBits; k >= 1; k--) z = 0.5 * (z + counts[k]!)
  z += m * sigma(counts[0]! / m)
  return (m * m) / (2 * Math.LN2 * z)
}

/** Ertl 2017, algorithm 6. */
function sigma(share: number): number {
  if (share === 1) return Infinity
  let x = share
  let y = 1
  let z = x
  for (;;) {
    x *= x
    const before = z
    z += x * y
    y += y
    if (z === before) return z
  }
}

/** Ertl 2017, algorithm 6. */
function tau(share: number): number {
  if (share === 0 || share === 1) return 0
  let x = share
  let y = 1
  let z = 1 - x
  for (;;) {
    x = Math.sqrt(x)
    const before = z
    y *= 0.5
    z -= (1 - x) ** 2 * y
    if (z === before) return z / 3
  }
}
