const emptySlot = -1

/** Distinct texts, numbered from 0 in the order in which they came: 12 bytes and its UTF-8 each, where a Map would take a hundred. */
export class TextIndex {
  private bytes = Buffer.allocUnsafe(1 << 16)
  /** One more than there are texts: text `i` is `bytes[ends[i] .. ends[i + 1])`. */
  private ends = new Float64Array(1 << 10)
  private slots = new Int32Array(1 << 11).fill(emptySlot)
  private count = 0

  get size(): number {
    return this.count
  }

  /** The text's number, new or not. */
  add(text: string): number {
    const start = this.ends[this.count]!
    const end = start + this.put(text, start)
    const slot = this.slotOf(start, end)
    const found = this.slots[slot]!
    if (found !== emptySlot) return found
    const number = this.count++
    this.slots[slot] = number
    if (this.count === this.ends.length) {
      const grown = new Float64Array(this.ends.length * 2)
      grown.set(this.ends)
      this.ends = grown
    }
    this.ends[this.count] = end
    if (this.count * 2 > this.slots.length) this.spread()
    return number
  }

  /** The text's number; -1 where it is not there. */
  find(text: string): number {
    const start = this.ends[this.count]!
    return this.slots[this.slotOf(start, start + this.put(text, start))]!
  }

  text(number: number): string {
    return this.bytes.toString('utf8', this.ends[number], this.ends[number + 1])
  }

  /** Writes a text behind the others. @returns its bytes */
  private put(text: string, start: number): number {
    // A UTF-16 unit takes at most three bytes of UTF-8.
    const room = text.length * 3
    if (start + room > this.bytes.length) {
      const grown = Buffer.allocUnsafe(Math.max(start + room, this.bytes.length * 2))
      this.bytes.copy(grown, 0, 0, start)
      this.bytes = grown
    }
    return this.bytes.write(text, start, 'utf8')
  }

  /** The slot of the text at `start .. end`, or the one where it would go. */
  private slotOf(start: number, end: number): number {
    const mask = this.slots.length - 1
    let slot = this.hash(start, end) & mask
    while (this.slots[slot] !== emptySlot && !this.equals(this.slots[slot]!, start, end)) slot = (slot + 1) & mask
    return slot
  }

  private equals(number: number, start: number, end: number): boolean {
    const from = this.ends[number]!
    const to = this.ends[number + 1]!
    if (to - from !== end - start) return false
    for (let i = 0; i < to - from; i++) if (this.bytes[from + i] !== this.bytes[start + i]) return false
    return true
  }

  /** FNV-1a, 32 bits (http://www.isthe.com/chongo/tech/comp/fnv/), its high bits folded into those that the mask keeps. */
  private hash(start: number, end: number): number {
    let hash = 0x811c9dc5
    for (let i = start; i < end; i++) hash = Math.imul(hash ^ this.bytes[i]!, 0x01000193)
    return (hash ^ (hash >>> 15)) >>> 0
  }

  private spread(): void {
    this.slots = new Int32Array(this.slots.length * 2).fill(emptySlot)
    for (let number = 0; number < this.count; number++) this.slots[this.slotOf(this.ends[number]!, this.ends[number + 1]!)] = number
  }
}
