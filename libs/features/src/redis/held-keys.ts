import type { KeyHistory } from '../windows/key-history.ts'

/** A key's stored value as it was last seen, unpacked. */
export interface HeldKey {
  readonly history: KeyHistory
  /** Bytes of the stored value; 0 where there is none. */
  length: number
  /** Its first bytes: with the length they tell whether it has changed. */
  header: Buffer
  /** Bytes of its first block: the rest was appended since the value was last written as a whole. */
  sealedLength: number
  /** Epoch ms; 0 where it is not known. */
  expiresAtMs: number
}

/** What a key costs beside its history. Estimated, rounded up. */
const overheadBytes = 300

/** By owner and stored key. */
type Generation = Map<string, Map<string, HeldKey>>

/**
 * Keys in memory, by owner, in two generations: what is touched moves to the young one; when that holds half the limit, the old one is forgotten and the young
 * one becomes it. As good as least-recently-used here, and a touch costs one look-up.
 */
export class HeldKeys {
  private young: Generation = new Map()
  private old: Generation = new Map()
  private youngBytes = 0
  private readonly limitBytes: number

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes
  }

  get(owner: string, key: string): HeldKey | undefined {
    const found = this.young.get(owner)?.get(key)
    if (found !== undefined) return found
    const older = this.old.get(owner)?.get(key)
    if (older === undefined) return undefined
    this.old.get(owner)!.delete(key)
    this.put(owner, key, older)
    return older
  }

  put(owner: string, key: string, held: HeldKey): void {
    let keys = this.young.get(owner)
    if (keys === undefined) {
      keys = new Map()
      this.young.set(owner, keys)
    }
    const before = keys.get(key)
    keys.set(key, held)
    this.grew(bytesOf(key, held) - (before === undefined ? 0 : bytesOf(key, before)))
  }

  /** A key that is held takes so many bytes more. */
  grew(bytes: number): void {
    this.youngBytes += bytes
    if (this.youngBytes * 2 <= this.limitBytes) return
    this.old = this.young
    this.young = new Map()
    this.youngBytes = 0
  }

  forget(owner: string, key: string): void {
    this.young.get(owner)?.delete(key)
    this.old.get(owner)?.delete(key)
  }

  release(owner: string): void {
    this.young.delete(owner)
    this.old.delete(owner)
  }
}

function bytesOf(key: string, { history }: HeldKey): number {
  return overheadBytes + key.length + history.bytes
}
