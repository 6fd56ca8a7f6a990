/** By group and key. */
type Generation<G, V> = Map<G, Map<string, V>>

/**
 * Values in memory by group and key, in two generations: what is touched moves to the young one; when that holds its share, the old one is forgotten and the
 * young one becomes it. As good as least-recently-used here, and a touch costs one look-up.
 */
export class KeyGenerations<G, V> {
  private young: Generation<G, V> = new Map()
  private old: Generation<G, V> = new Map()
  private youngBytes = 0
  private readonly shareBytes: number
  private readonly bytesOf: (value: V, key: string) => number

  /**
   * @param shareBytes of a generation
   * @param bytesOf what a value and its key take
   */
  constructor(shareBytes: number, bytesOf: (value: V, key: string) => number) {
    this.shareBytes = shareBytes
    this.bytesOf = bytesOf
  }

  get(group: G, key: string): V | undefined {
    const found = this.young.get(group)?.get(key)
    if (found !== undefined) return found
    const older = this.old.get(group)?.get(key)
    if (older !== undefined) this.put(group, key, older)
    return older
  }

  /** Without touching it. */
  holds(group: G, key: string): boolean {
    return this.young.get(group)?.has(key) === true || this.old.get(group)?.has(key) === true
  }

  put(group: G, key: string, value: V): void {
    this.forget(group, key)
    let keys = this.young.get(group)
    if (keys === undefined) {
      keys = new Map()
      this.young.set(group, keys)
    }
    keys.set(key, value)
    this.youngBytes += this.bytesOf(value, key)
  }

  /** A value that is held takes so many bytes more. */
  grew(bytes: number): void {
    this.youngBytes += bytes
  }

  forget(group: G, key: string): void {
    this.old.get(group)?.delete(key)
    const keys = this.young.get(group)
    const held = keys?.get(key)
    if (held === undefined) return
    keys!.delete(key)
    this.shrink(this.bytesOf(held, key))
  }

  release(group: G): void {
    this.old.delete(group)
    for (const [key, held] of this.young.get(group) ?? []) this.shrink(this.bytesOf(held, key))
    this.young.delete(group)
  }

  /** Between slices: one slice's keys stay, however many, until they are written. */
  trim(): void {
    if (this.youngBytes <= this.shareBytes) return
    this.old = this.young
    this.young = new Map()
    this.youngBytes = 0
  }

  /** What values grow by may be told late, or while they are old. */
  private shrink(bytes: number): void {
    this.youngBytes = Math.max(0, this.youngBytes - bytes)
  }
}
