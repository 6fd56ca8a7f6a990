import { bytesColumn, textColumn } from '@spillway/core'
import { murmur3 } from './murmur3.ts'
import type { TermsDefinition } from './step-definition.ts'
import { TextColumn } from './text-column.ts'

/** Runs of letters, digits and underscores. */
const wordPattern = /[\p{L}\p{N}_]+/gu

/**
 * The terms of texts: every run of `min` to `max` neighbouring words (one space between) or characters (Unicode code points), as a range of UTF-8 bytes.
 */
export class TermReader {
  private readonly definition: TermsDefinition

  constructor(definition: TermsDefinition) {
    this.definition = definition
  }

  /** @param take is given each term's bytes, `from` (inclusive) to `to` (exclusive) */
  read(text: string, take: (bytes: Uint8Array, from: number, to: number) => void): void {
    const { of, min, max } = this.definition
    const joined = of === 'word' ? (text.match(wordPattern) ?? []).join(' ') : text
    if (joined === '') return
    const { bytes } = textColumn([joined])
    const starts = of === 'word' ? wordStarts(bytes) : characterStarts(bytes)
    // A word's space belongs to no term that it ends.
    const gap = of === 'word' ? 1 : 0
    const units = starts.length
    const endOf = (unit: number): number => (unit + 1 < units ? starts[unit + 1]! - gap : bytes.length)
    for (let length = min; length <= max; length++)
      for (let unit = 0; unit + length <= units; unit++) take(bytes, starts[unit]!, endOf(unit + length - 1))
  }

  /** The terms of every text, one after the other, each with its text's row. */
  readAll(texts: readonly string[]): { readonly texts: TextColumn; readonly rows: readonly number[] } {
    const parts: Uint8Array[] = []
    const rows: number[] = []
    texts.forEach((text, row) => {
      this.read(text, (bytes, from, to) => {
        parts.push(bytes.subarray(from, to))
        rows.push(row)
      })
    })
    return { texts: TextColumn.ofBytes(bytesColumn(parts)), rows }
  }

  /** MurmurHash3 x86 32 of each term, seed 0. */
  readHashes(text: string, take: (hash: number) => void): void {
    this.read(text, (bytes, from, to) => take(murmur3(bytes, from, to, 0)))
  }
}

function wordStarts(bytes: Uint8Array): number[] {
  const starts = [0]
  for (let at = 0; at < bytes.length; at++) if (bytes[at] === 0x20) starts.push(at + 1)
  return starts
}

function characterStarts(bytes: Uint8Array): number[] {
  const starts: number[] = []
  for (let at = 0; at < bytes.length; at++) if ((bytes[at]! & 0xc0) !== 0x80) starts.push(at)
  return starts
}
