import { type BytesColumn, bytesCount, textColumn } from '@spillway/core'
import { hashTexts } from './murmur3.ts'
import type { TextColumn } from './text-column.ts'

/** Slots a word, at most, to give every word one of its own; a vocabulary that would need more is probed. */
const mostSlots = 64
/** Longest word that is compared by four bytes at a time, out of the table itself. */
const longestPacked = 32

/** Words by number, found by their UTF-8 bytes: a table over their hashes. */
export class ByteVocabulary {
  readonly size: number
  private readonly words: BytesColumn
  private readonly hashes: Uint32Array
  /** Number of a word, -1 is free; open addressing. */
  private slots: Int32Array
  /**
   * Where every word has the slot of its hash and none is long: `stride` integers a slot, of its word the number (-1 is free), the length, and the bytes,
   * four a little-endian integer, the last four of them again at the end.
   */
  private readonly packed: Int32Array | undefined
  private readonly stride: number

  /** @param words each once */
  constructor(words: readonly string[]) {
    this.size = words.length
    this.words = textColumn(words)
    const { bytes, offsets } = this.words
    this.hashes = new Uint32Array(words.length)
    hashTexts(bytes, offsets, 0, this.hashes)
    this.slots = new Int32Array(0)
    const alone = this.fillAlone()
    let longest = 0
    for (let word = 0; word < words.length; word++) longest = Math.max(longest, offsets[word + 1]! - offsets[word]!)
    this.stride = 3 + Math.ceil(longest / 4)
    this.packed = alone && longest <= longestPacked ? this.pack() : undefined
  }

  /** -1 for absent text, `unknown` for what is no word. */
  findAll(text: TextColumn, unknown: number, found: Int32Array): Int32Array {
    const { hashes } = text
    const { bytes, offsets } = text.bytes
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    if (this.packed === undefined) this.probe({ bytes, offsets, hashes }, unknown, found)
    else this.findPacked(this.packed, { view, offsets, hashes }, { unknown, found })
    return found
  }

  private findPacked(
    packed: Int32Array,
    { view, offsets, hashes }: { readonly view: DataView; readonly offsets: Uint32Array; readonly hashes: Uint32Array },
    { unknown, found }: { readonly unknown: number; readonly found: Int32Array },
  ): void {
    const { stride } = this
    const mask = this.slots.length - 1
    for (let row = 0; row < found.length; row++) {
      const from = offsets[row]!
      const length = offsets[row + 1]! - from
      const entry = (hashes[row]! & mask) * stride
      let number = length === 0 ? -1 : unknown
      if (packed[entry + 1] === length) {
        let at = from
        let other = entry + 2
        const whole = from + (length & ~3)
        for (; at < whole && view.getInt32(at, true) === packed[other]; at += 4) other++
        if (at === whole && tailOf(view, from, length) === packed[other]) number = packed[entry]!
      }
      found[row] = number
    }
  }

  private probe(text: { readonly hashes: Uint32Array } & BytesColumn, unknown: number, found: Int32Array): void {
    const { slots, hashes } = this
    const { bytes: known, offsets: starts } = this.words
    const { bytes, offsets } = text
    const mask = slots.length - 1
    for (let row = 0; row < found.length; row++) {
      const from = offsets[row]!
      const to = offsets[row + 1]!
      const hash = text.hashes[row]!
      let number = from === to ? -1 : unknown
      for (let slot = hash & mask; slots[slot]! >= 0; slot = (slot + 1) & mask) {
        const word = slots[slot]!
        let other = starts[word]!
        if (hashes[word] !== hash || starts[word + 1]! - other !== to - from) continue
        let at = from
        for (; at < to && bytes[at] === known[other]; at++) other++
        if (at < to) continue
        number = word
        break
      }
      found[row] = number
    }
  }

  /** Whether every word got the slot of its hash, in a table that is not too large. */
  private fillAlone(): boolean {
    const least = 2 ** Math.ceil(Math.log2(Math.max(2, this.size * 2)))
    for (let slots = least; slots <= Math.max(least, this.size * mostSlots); slots *= 2) if (this.fill(slots)) return true
    this.fill(least)
    return false
  }

  private fill(count: number): boolean {
    this.slots = new Int32Array(count).fill(-1)
    let alone = true
    for (let word = 0; word < this.size; word++) {
      let slot = this.hashes[word]! & (count - 1)
      while (this.slots[slot] !== -1) {
        alone = false
        slot = (slot + 1) & (count - 1)
      }
      this.slots[slot] = word
    }
    return alone
  }

  private pack(): Int32Array {
    const { bytes, offsets } = this.words
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const packed = new Int32Array(this.slots.length * this.stride).fill(-1)
    this.slots.forEach((word, slot) => {
      if (word < 0 || word >= bytesCount(this.words)) return
      const from = offsets[word]!
      const length = offsets[word + 1]! - from
      let to = slot * this.stride
      packed[to++] = word
      packed[to++] = length
      for (let at = 0; at + 4 <= length; at += 4) packed[to++] = view.getInt32(from + at, true)
      packed[to] = tailOf(view, from, length)
    })
    return packed
  }
}

/** The last four bytes; all of fewer. */
function tailOf(view: DataView, from: number, length: number): number {
  if (length >= 4) return view.getInt32(from + length - 4, true)
  let tail = 0
  for (let at = 0; at < length; at++) tail |= view.getUint8(from + at) << (8 * at)
  return tail
}
