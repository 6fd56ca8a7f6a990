import { type BytesColumn, textColumn } from '@spillway/core'
import { murmur3 } from './murmur3.ts'
import type { TextColumn } from './text-column.ts'

/** Words by number, found by their UTF-8 bytes: an open-addressing table over their hashes, at most half full. */
export class ByteVocabulary {
  readonly size: number
  private readonly words: BytesColumn
  private readonly hashes: Uint32Array
  /** Number of a word + 1; 0 is free. */
  private readonly slots: Int32Array

  /** @param words each once */
  constructor(words: readonly string[]) {
    this.size = words.length
    this.words = textColumn(words)
    this.hashes = new Uint32Array(words.length)
    this.slots = new Int32Array(2 ** Math.ceil(Math.log2(Math.max(2, words.length * 2))))
    const { bytes, offsets } = this.words
    for (let word = 0; word < words.length; word++) {
      const hash = murmur3(bytes, offsets[word]!, offsets[word + 1]!, 0)
      this.hashes[word] = hash
      let slot = hash & (this.slots.length - 1)
      while (this.slots[slot] !== 0) slot = (slot + 1) & (this.slots.length - 1)
      this.slots[slot] = word + 1
    }
  }

  /** Number of the word; `unknown` where it is none. @param hash `murmur3` of the bytes, seed 0 */
  find(bytes: Uint8Array, from: number, to: number, hash: number, unknown: number): number {
    const { slots, hashes } = this
    const mask = slots.length - 1
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const word = slots[slot]! - 1
      if (word < 0) return unknown
      if (hashes[word] === hash && this.isWord(word, bytes, from, to)) return word
    }
  }

  /** -1 for absent text, `unknown` for what is no word. */
  findAll(text: TextColumn, unknown: number): Int32Array {
    const { hashes, rowCount } = text
    const { bytes, offsets } = text.bytes
    const found = new Int32Array(rowCount)
    for (let row = 0; row < rowCount; row++) {
      const from = offsets[row]!
      const to = offsets[row + 1]!
      found[row] = from === to ? -1 : this.find(bytes, from, to, hashes[row]!, unknown)
    }
    return found
  }

  private isWord(word: number, bytes: Uint8Array, from: number, to: number): boolean {
    const { bytes: known, offsets } = this.words
    const start = offsets[word]!
    if (offsets[word + 1]! - start !== to - from) return false
    for (let at = from, other = start; at < to; at++, other++) if (bytes[at] !== known[other]) return false
    return true
  }
}
