import { bytesCount, type BytesColumn, sliceBytes, textColumn, textValues } from '@spillway/core'
import { hashTexts } from './murmur3.ts'

/** Texts, one a row, '' where absent: as UTF-8 bytes, as strings and as hashes, each made when first asked for. */
export class TextColumn {
  readonly rowCount: number
  private given: BytesColumn | undefined
  private decoded: readonly string[] | undefined
  private hashed: Uint32Array | undefined

  private constructor(rowCount: number, given: BytesColumn | undefined, decoded: readonly string[] | undefined) {
    this.rowCount = rowCount
    this.given = given
    this.decoded = decoded
  }

  static ofBytes(bytes: BytesColumn): TextColumn {
    return new TextColumn(bytesCount(bytes), bytes, undefined)
  }

  static of(strings: readonly string[]): TextColumn {
    return new TextColumn(strings.length, undefined, strings)
  }

  get bytes(): BytesColumn {
    this.given ??= textColumn(this.decoded!)
    return this.given
  }

  get strings(): readonly string[] {
    this.decoded ??= textValues(this.given!)
    return this.decoded
  }

  /** MurmurHash3 x86 32 of each text's UTF-8 bytes, seed 0; those of no bytes for an absent one. */
  get hashes(): Uint32Array {
    this.hashed ??= this.hashesOf(0)
    return this.hashed
  }

  hashesOf(seed: number): Uint32Array {
    if (seed === 0 && this.hashed !== undefined) return this.hashed
    const { bytes, offsets } = this.bytes
    const hashes = new Uint32Array(this.rowCount)
    hashTexts(bytes, offsets, seed, hashes)
    return hashes
  }

  slice(start: number, end: number): TextColumn {
    return this.given === undefined
      ? new TextColumn(end - start, undefined, this.decoded!.slice(start, end))
      : TextColumn.ofBytes(sliceBytes(this.given, start, end))
  }
}
