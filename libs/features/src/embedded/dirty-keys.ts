import type { KeyHistory } from '../windows/key-history.ts'

/** A start reads the journal: 32 MiB are about a second. */
const journalLimitBytes = 32 * 1024 * 1024
/** Of the cache, at most so much waits to be packed; less than the half that a generation holds. */
const mostDirty = 3 / 8
/** One key is packed for so many entries appended: the journal then holds about that many entries a key in use. */
const entriesPerPack = 32
/** A key of very many entries is packed that much less often, so that what an append costs does not grow with it. */
const packedPerEntry = 8 / 3

function packCost({ count }: KeyHistory): number {
  return Math.max(entriesPerPack, count / packedPerEntry)
}

/** The keys whose rows lack entries that are in the journal, in the order in which they came to. */
export class DirtyKeys {
  private readonly keys = new Set<KeyHistory>()
  private readonly limitBytes: number
  private bytes = 0
  /** All that the journal has taken since the start. */
  private journalBytes = 0
  /** Entries appended since a key was last packed. */
  private sincePack = 0

  /** @param cacheBytes of the memory that they are part of */
  constructor(cacheBytes: number) {
    this.limitBytes = cacheBytes * mostDirty
  }

  [Symbol.iterator](): Iterator<KeyHistory> {
    return this.keys[Symbol.iterator]()
  }

  /** The journal row `sequence` holds entries of it; it takes `grownBytes` more than before. */
  add(history: KeyHistory, sequence: number, grownBytes: number): void {
    if (history.dirtySince !== 0) {
      history.dirtyBytes += grownBytes
      this.bytes += grownBytes
      return
    }
    history.dirtySince = sequence
    history.dirtyFromByte = this.journalBytes
    history.dirtyBytes = history.bytes
    this.bytes += history.dirtyBytes
    this.keys.add(history)
  }

  journalled(bytes: number): void {
    this.journalBytes += bytes
  }

  /** The keys that an append of so many entries packs: at a steady pace, and as many more as keep memory and the journal within their limits. */
  waitingLongest(entryCount: number): readonly KeyHistory[] {
    const packed: KeyHistory[] = []
    let { bytes } = this
    this.sincePack += entryCount
    for (const history of this.keys) {
      const cost = packCost(history)
      if (this.sincePack < cost && bytes <= this.limitBytes && this.journalBytes - history.dirtyFromByte <= journalLimitBytes) return packed
      this.sincePack = Math.max(0, this.sincePack - cost)
      bytes -= history.dirtyBytes
      packed.push(history)
    }
    this.sincePack = 0
    return packed
  }

  /** The first journal row that is still needed when `packed`, the first of these keys, have rows of their own. */
  neededFrom(packed: readonly KeyHistory[], otherwise: number): number {
    let skip = packed.length
    for (const history of this.keys) if (skip-- <= 0) return history.dirtySince
    return otherwise
  }

  markClean(history: KeyHistory, rowId: number): void {
    history.rowId = rowId
    history.dirtySince = 0
    this.bytes -= history.dirtyBytes
    this.keys.delete(history)
  }
}
