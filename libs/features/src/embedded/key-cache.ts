import type { KeyHistory } from '../windows/key-history.ts'

/**
 * Key histories in memory, in two generations: what is touched moves to the young one; when that holds half the limit, the old one is forgotten and the young
 * one becomes it. As good as least-recently-used here, and a touch costs one look-up. Dirty ones are carried over, never forgotten.
 */
export class KeyCache {
  private young: Generation = new Map()
  private old: Generation = new Map()
  private youngBytes = 0
  private readonly limitBytes: number

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes
  }

  get(historyId: number, key: string): KeyHistory | undefined {
    const found = this.young.get(historyId)?.get(key)
    if (found !== undefined) return found
    const older = this.old.get(historyId)?.get(key)
    if (older !== undefined) this.put(older)
    return older
  }

  /** Without touching it. */
  holds(historyId: number, key: string): boolean {
    return this.young.get(historyId)?.has(key) === true || this.old.get(historyId)?.has(key) === true
  }

  put(history: KeyHistory): void {
    const { historyId, key } = history
    let keys = this.young.get(historyId)
    if (keys === undefined) {
      keys = new Map()
      this.young.set(historyId, keys)
    }
    keys.set(key, history)
    this.grew(history.bytes)
  }

  /** A history in the cache takes so many bytes more. */
  grew(bytes: number): void {
    this.youngBytes += bytes
    if (this.youngBytes * 2 > this.limitBytes) this.turn()
  }

  private turn(): void {
    const forgotten = this.old
    this.old = this.young
    this.young = new Map()
    this.youngBytes = 0
    for (const [historyId, keys] of forgotten) {
      const kept = this.old.get(historyId)
      for (const [key, history] of keys) {
        if (history.dirtySince === 0 || kept?.get(key) === history) continue
        let dirty = this.young.get(historyId)
        if (dirty === undefined) {
          dirty = new Map()
          this.young.set(historyId, dirty)
        }
        dirty.set(key, history)
        this.youngBytes += history.bytes
      }
    }
  }
}

/** By history and key. */
type Generation = Map<number, Map<string, KeyHistory>>
