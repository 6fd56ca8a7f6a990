import { type BytesColumn, textColumn } from '@spillway/core'
import { hashTexts } from './murmur3.ts'
import type { TextColumn } from './text-column.ts'

/** Widest that a table is made, slots a word, so that every word has a slot of its own; larger ones are probed. */
const mostSlots = 64

/** Words by number, found by their UTF-8 bytes: a table over their hashes. */
export class ByteVocabulary {
  readonly size: number
  private readonly words: BytesColumn
  private readonly view: DataView
  private readonly hashes: Uint32Array
  /** Number of a word, -1 is free; open addressing. */
  private slots: Int32Array

  /** @param words each once */
  constructor(words: readonly string[]) {
    this.size = words.length
    this.words = textColumn(words)
    const { bytes, offsets } = this.words
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.hashes = new Uint32Array(words.length)
    hashTexts(bytes, offsets, 0, this.hashes)
    const least = 2 ** Math.ceil(Math.log2(Math.max(2, words.length * 2)))
    this.slots = new Int32Array(0)
    for (let slots = least; slots <= Math.max(least, words.length * mostSlots); slots *= 2) if (this.fill(slots)) return
    this.fill(least)
  }

  /** -1 for absent text, `unknown` for what is no word. */
  findAll(text: TextColumn, unknown: number, found: Int32Array): Int32Array {
    const { hashes: rowHashes } = text
    const { bytes, offsets } = text.bytes
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const { slots, hashes, view: known } = this
    const { bytes: knownBytes, offsets: starts } = this.words
    const mask = slots.length - 1
    for (let row = 0; row < found.length; row++) {
      const from = offsets[row]!
      const to = offsets[row + 1]!
      const hash = rowHashes[row]!
      let number = from === to ? -1 : unknown
      for (let slot = hash & mask; slots[slot]! >= 0; slot = (slot + 1) & mask) {
        const word = slots[slot]!
        let other = starts[word]!
        if (hashes[word] !== hash || starts[word + 1]! - other !== to - from) continue
        let at = from
        for (; at + 4 <= to && view.getInt32(at, true) === known.getInt32(other, true); at += 4) other += 4
        for (; at < to && bytes[at] === knownBytes[other]; at++) other++
        if (at < to) continue
        number = word
        break
      }
      found[row] = number
    }
    return found
  }

  /** Whether every word got the slot of its hash. */
  private fill(count: number): boolean {
    this.slots = new Int32Array(count).fill(-1)
    let own = true
    for (let word = 0; word < this.size; word++) {
      let slot = this.hashes[word]! & (count - 1)
      while (this.slots[slot] !== -1) {
        own = false
        slot = (slot + 1) & (count - 1)
      }
      this.slots[slot] = word
    }
    return own
  }
}
