import type { KeyHistory } from '../windows/key-history.ts'

/** Of the limit; what is dirty may take the rest. */
const generationShare = 5 / 16

/**
 * Key histories in memory, in two generations: what is touched moves to the young one; when that holds its share of the limit, the old one is forgotten and
 * the young one becomes it. As good as least-recently-used here, and a touch costs one look-up. Dirty ones are kept beside, whatever becomes of the rest.
 */
export class KeyCache {
  private young = new Generation()
  private old = new Generation()
  private readonly dirty = new Generation()
  private youngBytes = 0
  private readonly limitBytes: number

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes
  }

  get(historyId: number, key: string): KeyHistory | undefined {
    const found = this.young.get(historyId, key)
    if (found !== undefined) return found
    const older = this.old.get(historyId, key) ?? this.dirty.get(historyId, key)
    if (older !== undefined) this.put(older)
    return older
  }

  /** Without touching it. */
  holds(historyId: number, key: string): boolean {
    return [this.young, this.old, this.dirty].some((generation) => generation.get(historyId, key) !== undefined)
  }

  put(history: KeyHistory): void {
    this.young.put(history)
    this.youngBytes += history.bytes
  }

  /** It came to be dirty, and takes so many bytes more. */
  changed(history: KeyHistory, grownBytes: number): void {
    this.youngBytes += grownBytes
    this.dirty.put(history)
  }

  /** It is as its row has it. */
  clean(history: KeyHistory): void {
    this.dirty.remove(history)
  }

  /** Between slices: one slice's keys stay, however many, until they are written. */
  trim(): void {
    if (this.youngBytes <= this.limitBytes * generationShare) return
    this.old = this.young
    this.young = new Generation()
    this.youngBytes = 0
  }
}

/** By history and key. */
class Generation {
  private readonly histories = new Map<number, Map<string, KeyHistory>>()

  get(historyId: number, key: string): KeyHistory | undefined {
    return this.histories.get(historyId)?.get(key)
  }

  put(history: KeyHistory): void {
    let keys = this.histories.get(history.historyId)
    if (keys === undefined) {
      keys = new Map()
      this.histories.set(history.historyId, keys)
    }
    keys.set(history.key, history)
  }

  remove({ historyId, key }: KeyHistory): void {
    this.histories.get(historyId)?.delete(key)
  }
}
