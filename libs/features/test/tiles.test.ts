import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { HistoryEntry } from '../src/mod.ts'
import { Aggregates } from '../src/windows/aggregates.ts'
import { DistinctCount } from '../src/windows/distinct-count.ts'
import { ExactSum } from '../src/windows/exact-sum.ts'
import { KeyHistory } from '../src/windows/key-history.ts'
import type { WindowKind, WindowOutput } from '../src/mod.ts'

describe('A sum', () => {
  const scaled = (value: number): bigint => BigInt(value * 2 ** 200) << 200n
  const number = fc
    .tuple(fc.integer({ min: -(2 ** 31), max: 2 ** 31 }), fc.integer({ min: -120, max: 120 }))
    .map(([mantissa, exponent]) => mantissa * 2 ** exponent)

  test('is exact, rounded once, however its numbers fell into partial sums', () => {
    fc.assert(
      fc.property(fc.array(fc.array(number, { maxLength: 40 }), { maxLength: 12 }), (parts) => {
        const whole = new ExactSum()
        for (const part of parts) {
          const partial = new ExactSum()
          for (const value of part) partial.add(value)
          whole.addSum(partial)
        }
        const exact = parts.flat().reduce((sum, value) => sum + scaled(value), 0n)
        expect(whole.value).toBe((Number(exact >> 200n === 0n ? 0n : exact) / 2 ** 200 / 2 ** 200) as number)
      }),
      { numRuns: 500 },
    )
  })

  test('half way between two numbers is decided by what is far below', () => {
    for (const [low, expected] of [
      [2 ** -100, 1 + 2 ** -52],
      [-(2 ** -100), 1],
      [0, 1],
    ] as const) {
      const sum = new ExactSum()
      for (const value of [2 ** -53, 2 ** 200, low, 1, -(2 ** 200)]) sum.add(value)
      expect(sum.value).toBe(expected)
    }
  })
})

const outputs = (['count', 'sum', 'mean', 'min', 'max'] as const satisfies readonly WindowKind[]).map((kind): WindowOutput => ({
  kind,
  column: 0,
  length: 0,
  ofValue: kind !== 'count',
  empty: -7,
  width: 1,
}))

/** What is done to one key: an entry comes, in order or late, from one of three partitions; or it is packed, which drops what is old. */
const steps = fc.array(
  fc.record({
    lateMs: fc.oneof({ weight: 6, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(400) }),
    aheadMs: fc.nat(4),
    origin: fc.oneof({ weight: 5, arbitrary: fc.constant(1) }, { weight: 1, arbitrary: fc.integer({ min: 2, max: 3 }) }),
    value: fc.oneof(
      fc.integer({ min: -30, max: 30 }).map((n) => n / 10),
      fc.constant(NaN),
      fc.constant(-0),
    ),
    packed: fc.oneof({ weight: 40, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
    from: fc.nat(700),
    length: fc.nat(700),
    lastOffset: fc.nat(700),
  }),
  { minLength: 200, maxLength: 700, size: 'max' },
)

describe('Tiles', () => {
  test('give what a walk over all entries gives, bit for bit, for any order of arrival and any reader', () => {
    fc.assert(
      fc.property(steps, fc.constantFrom(1, 2, 5), (given, tileSize) => {
        const history = new KeyHistory({ name: 'h', valueCount: 1, retentionMs: 900 }, 1, 'k', tileSize)
        let newestMs = 0
        given.forEach(({ lateMs, aheadMs, origin, value, packed, from, length, lastOffset }, offset) => {
          newestMs += aheadMs
          const entry: HistoryEntry = { timeMs: newestMs - lateMs, origin, offset, values: [value] }
          history.add([entry])
          if (offset % 7 === 0) history.add([entry])
          if (packed) history.pack()
          if (offset % 4 !== 0) return
          const start = Math.min(from, history.count)
          const end = Math.min(start + length, history.count)
          const reader = { origin: 1 + (offset % 3), lastOffset: offset % 8 === 0 ? offset : lastOffset }
          for (const sort of [() => new Aggregates(0, 1), () => new Aggregates(-1, 1), () => new DistinctCount(0, 1)]) {
            const [walked, tiled] = [sort(), sort()]
            walked.addEntries(history, start, end, -Infinity, reader)
            if (history.tiles === undefined) continue
            ;(history.tiles.gather as (into: unknown, from: number, to: number, reader: unknown) => void).call(
              history.tiles,
              tiled,
              start,
              end,
              reader,
            )
            for (const output of outputs)
              expect(Object.is(tiled.result(output), walked.result(output)), `${output.kind} of ${start} to ${end}`).toBe(true)
          }
        })
        for (let i = 1; i < history.count; i++) expect(history.compare(i - 1, i)).toBeLessThan(0)
      }),
      { numRuns: 20 },
    )
  })

  test('make a window over very many entries a walk over few', () => {
    const history = new KeyHistory({ name: 'h', valueCount: 1, retentionMs: 1e12 }, 1, 'k')
    for (let offset = 0; offset < 100_000; offset++) history.add([{ timeMs: offset, origin: 1, offset, values: [offset / 100] }])
    const reader = { origin: 1, lastOffset: Infinity }
    history.tiles!.gather(new Aggregates(0, 1), 17, 99_990, reader)
    // What was summed up is not walked over again.
    let walked = 0
    const gathered = new Aggregates(0, 1)
    const addEntries = gathered.addEntries.bind(gathered)
    gathered.addEntries = (entries, from, to, ...rest) => {
      walked += to - from
      return addEntries(entries, from, to, ...rest)
    }
    history.tiles!.gather(gathered, 17, 99_990, reader)
    expect(gathered.result(outputs[0]!)).toBe(99_973)
    expect(walked).toBeLessThan(300)
    const before = history.bytes
    expect(before - history.capacity * 28).toBeLessThan(history.capacity * 28 * 0.3)
    history.add([{ timeMs: 50_000, origin: 2, offset: 1, values: [1] }])
    expect(history.bytes).toBeLessThan(before)
  })
})

describe('More different values than are counted exactly', () => {
  test.each([300, 2000, 30_000, 500_000])('are estimated within three standard errors: %d', (count) => {
    const errors = Array.from({ length: 20 }, (_, round) => {
      const distinct = new DistinctCount(0, 1)
      for (let i = 0; i < count; i++) distinct.addNumber(round * 1e9 + i * 0.01)
      return (distinct.result(outputs[0]!) - count) / count
    })
    const standardError = 1.04 / 64
    expect(Math.abs(errors.reduce((sum, error) => sum + error, 0) / errors.length)).toBeLessThan((3 * standardError) / Math.sqrt(20))
    expect(Math.sqrt(errors.reduce((sum, error) => sum + error ** 2, 0) / errors.length)).toBeLessThan(1.6 * standardError)
  })
})
