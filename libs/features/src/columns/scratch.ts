/** Arrays of one length, handed out one after the other. */
class Shelf<T extends { readonly length: number }> {
  private arrays: T[] = []
  private used = 0
  private readonly make: (length: number) => T

  constructor(make: (length: number) => T) {
    this.make = make
  }

  clear(keep: boolean): void {
    if (!keep) this.arrays = []
    this.used = 0
  }

  take(length: number): T {
    const index = this.used++
    return (this.arrays[index] ??= this.make(length))
  }
}

/** Larger batches are rare, and their arrays are not worth keeping. */
const mostRows = 8192

/**
 * Arrays of a value a row that are used again from batch to batch, as long as batches are of one size: making them anew, and collecting them, costs more
 * than filling them. What they hold at first is left over from before.
 */
export class Scratch {
  private rowCount = 0
  private readonly floats = new Shelf((length) => new Float64Array(length))
  private readonly integers = new Shelf((length) => new Int32Array(length))
  private readonly words = new Shelf((length) => new Uint32Array(length))

  /** Everything handed out before is free again. */
  begin(rowCount: number): void {
    const keep = rowCount === this.rowCount && rowCount <= mostRows
    this.rowCount = rowCount
    this.floats.clear(keep)
    this.integers.clear(keep)
    this.words.clear(keep)
  }

  numbers(): Float64Array {
    return this.floats.take(this.rowCount)
  }

  indices(): Int32Array {
    return this.integers.take(this.rowCount)
  }

  hashes(): Uint32Array {
    return this.words.take(this.rowCount)
  }
}
