import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { HistoryEntry } from '../src/mod.ts'
import { EntryColumns } from '../src/windows/entry-columns.ts'
import { KeyHistory } from '../src/windows/key-history.ts'
import { decodeBlocks, encodeBlock } from '../src/windows/packed.ts'

const special = fc.constantFrom(0, -0, NaN, Infinity, -Infinity, 1, -1, 5e-324, 2 ** 53 - 1, -(2 ** 53), 1.7976931348623157e308)
const numbers = [
  fc.double(),
  special,
  fc.integer({ min: -100_000, max: 10_000_000 }).map((cents) => cents / 100),
  fc.constantFrom(0, 1),
  fc.constantFrom(0, 1, NaN),
  fc.constantFrom(2 ** 52 + 3, 2 ** 52 + 9, NaN),
  fc.maxSafeInteger(),
  fc.oneof(fc.double(), special, fc.integer()),
]
const times = [
  fc.constantFrom(1, 1000, 60_000, 3_600_000, 86_400_000).chain((unitMs) => fc.integer({ min: -1e6, max: 2e6 }).map((n) => n * unitMs)),
  fc.maxSafeInteger(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
]

/** Entries whose columns each are of one sort, as those of a field are. */
const entries = fc
  .tuple(
    fc.constantFrom(...times),
    fc.array(fc.constantFrom(...numbers), { maxLength: 3 }),
    fc.constantFrom(fc.maxSafeNat(), fc.nat(1e6), fc.nat(3)),
  )
  .chain(([time, values, offset]) =>
    fc.array(
      fc.record({
        timeMs: time,
        origin: fc.oneof(fc.nat(2), fc.nat(2 ** 32 - 1)),
        offset,
        values: fc.tuple(...values),
      }) as fc.Arbitrary<HistoryEntry>,
      { minLength: 1, maxLength: 120 },
    ),
  )

/** Sorted, each (time, origin, offset) once: the first of them. */
function byDefinition(entries: readonly HistoryEntry[]): HistoryEntry[] {
  const sorted = entries.toSorted((a, b) => a.timeMs - b.timeMs || a.origin - b.origin || a.offset - b.offset)
  return sorted.filter((entry, i) => {
    const before = sorted[i - 1]
    return before === undefined || before.timeMs !== entry.timeMs || before.origin !== entry.origin || before.offset !== entry.offset
  })
}

function entriesOf({ count, times: at, origins, offsets, values, valueCount }: EntryColumns): HistoryEntry[] {
  return Array.from({ length: count }, (_, i) => ({
    timeMs: at[i]!,
    origin: origins[i]!,
    offset: offsets[i]!,
    values: Array.from(values.subarray(i * valueCount, (i + 1) * valueCount)),
  }))
}

function decoded(bytes: Uint8Array, valueCount: number): HistoryEntry[] {
  const columns = new EntryColumns(valueCount)
  decodeBlocks(bytes, columns)
  return entriesOf(columns)
}

describe('A packed history', () => {
  test('gives back every bit of what was packed, in order, each entry once', () => {
    fc.assert(
      fc.property(entries, (given) => {
        expect(decoded(encodeBlock(given, given[0]!.values.length), given[0]!.values.length)).toEqual(byDefinition(given))
      }),
      { numRuns: 1000 },
    )
  })

  test('may be appended to: its blocks are read as one', () => {
    fc.assert(
      fc.property(entries, fc.array(fc.nat(119), { maxLength: 5 }), (given, cuts) => {
        const at = [0, ...cuts.filter((cut) => cut < given.length).sort((a, b) => a - b), given.length]
        const blocks = at.slice(1).map((end, i) => encodeBlock(given.slice(at[i]!, end), given[0]!.values.length))
        expect(decoded(Buffer.concat(blocks), given[0]!.values.length)).toEqual(byDefinition(given))
      }),
    )
  })

  test('that is cut off, or not of as many values, is DATA_LOSS', () => {
    const block = encodeBlock(
      Array.from({ length: 10 }, (_, i) => ({ timeMs: 1e12 + i * 1000, origin: 1, offset: i, values: [i / 100, i / 7, i % 2, NaN] })),
      4,
    )
    for (let length = 1; length < block.length; length++)
      expect(() => decoded(block.subarray(0, length), 4)).toThrow(expect.objectContaining({ code: 'DATA_LOSS' }))
    for (const broken of [
      Buffer.concat([block, Buffer.from([0])]),
      Buffer.from('nothing of ours'),
      Buffer.from([0xb1, 255, 255, 255, 127, 4]),
    ])
      expect(() => decoded(broken, 4)).toThrow(expect.objectContaining({ code: 'DATA_LOSS' }))
    const history = new KeyHistory({ name: 'h', valueCount: 1, retentionMs: 1 }, 1, 'k')
    expect(() => history.unpack(block)).toThrow(
      expect.objectContaining({
        code: 'DATA_LOSS',
        message: expect.stringMatching(/^history h of k, \d+ bytes: a block of 4 values/) as string,
      }),
    )
    expect(history.count).toBe(0)
  })

  test('of a card’s payments takes less than ten bytes each', () => {
    const payments = Array.from({ length: 90 }, (_, i) => ({
      timeMs: 1_522_540_800_000 + i * 43_200_000 + ((i * 7919) % 40_000) * 1000,
      origin: 3,
      offset: 120_000 + i * 600 + (i % 7),
      values: [((i * 104_729) % 20_000) / 100],
    }))
    expect(encodeBlock(payments, 1).length).toBeLessThan(900)
  })
})
