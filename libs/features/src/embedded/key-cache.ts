import { KeyGenerations } from '../key-generations.ts'
import type { KeyHistory } from '../windows/key-history.ts'

/** Of the limit; what is dirty may take the rest. */
const generationShare = 5 / 16

/** Key histories in memory. Dirty ones are kept beside the generations, whatever becomes of the rest. */
export class KeyCache {
  private readonly recent: KeyGenerations<number, KeyHistory>
  private readonly dirty = new KeyGenerations<number, KeyHistory>(Infinity, () => 0)

  constructor(limitBytes: number) {
    this.recent = new KeyGenerations(limitBytes * generationShare, ({ bytes }) => bytes)
  }

  get(historyId: number, key: string): KeyHistory | undefined {
    const found = this.recent.get(historyId, key)
    if (found !== undefined) return found
    const dirty = this.dirty.get(historyId, key)
    if (dirty !== undefined) this.put(dirty)
    return dirty
  }

  /** Without touching it. */
  holds(historyId: number, key: string): boolean {
    return this.recent.holds(historyId, key) || this.dirty.holds(historyId, key)
  }

  put(history: KeyHistory): void {
    this.recent.put(history.historyId, history.key, history)
  }

  /** It came to be dirty, and takes so many bytes more. */
  changed(history: KeyHistory, grownBytes: number): void {
    this.recent.grew(grownBytes)
    this.dirty.put(history.historyId, history.key, history)
  }

  /** It is as its row has it. */
  clean({ historyId, key }: KeyHistory): void {
    this.dirty.forget(historyId, key)
  }

  /** Between slices: one slice's keys stay, however many, until they are written. */
  trim(): void {
    this.recent.trim()
  }
}
