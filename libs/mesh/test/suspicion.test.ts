import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isIn, noteOf, partsOf, suspicionOf } from '../src/suspicion.ts'

/** Processes that try the parts one after the other, and die of those that hold a culprit; ends when one survives. */
function lives(
  rowCount: number,
  culprits: readonly number[],
  limit: number,
): { readonly deaths: number; readonly given: readonly number[] } {
  let note: string | undefined
  for (let deaths = 0; deaths < limit; deaths++) {
    const self = `process-${deaths}`
    const suspicion = suspicionOf(note, self)
    const fatal = partsOf(suspicion, [0, rowCount]).find(([from, to]) =>
      culprits.some((row) => row >= from && row < to && !isIn(suspicion.culprits, row)),
    )
    if (fatal === undefined) {
      const rows = Array.from({ length: rowCount }, (_, row) => row)
      return { deaths, given: rows.filter((row) => isIn(suspicion.culprits, row)) }
    }
    note = noteOf(self, suspicion, fatal)
    expect(note.length).toBeLessThanOrEqual(1000)
  }
  throw new Error('a crash loop')
}

describe('who died over which rows', () => {
  test('is found for one culprit within the bound, whatever the size of the slice', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5000 }), fc.nat(), (rowCount, at) => {
        const culprit = at % rowCount
        const { deaths, given } = lives(rowCount, [culprit], 20)
        expect(given).toEqual([culprit])
        expect(deaths).toBeLessThanOrEqual(Math.max(3, Math.ceil(Math.log(rowCount) / Math.log(16)) + 2))
      }),
    )
  })

  test('is found for several culprits of one slice, and takes no other row', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(999), { minLength: 1, maxLength: 10 }), (culprits) => {
        const { given } = lives(1000, culprits, 100)
        expect(given).toEqual(culprits.toSorted((a, b) => a - b))
      }),
      { numRuns: 30 },
    )
  })

  test('ends where more rows are culprits than a note has room for: what is then died over is given up whole', () => {
    const culprits = Array.from({ length: 300 }, (_, i) => 10_000 + i)
    const { given } = lives(20_000, culprits, 1000)
    for (const row of culprits) expect(given).toContain(row)
  })

  test('the parts hold each row once, in order, also where they are some of a slice’s rows', () => {
    const suspicion = { deaths: 1, range: [10, 100] as const, alone: 0, culprits: [] }
    for (const [from, to] of [
      [0, 200],
      [50, 60],
      [0, 5],
      [150, 200],
      [99, 101],
    ] as const) {
      const rows = partsOf(suspicion, [from, to]).flatMap(([start, end]) => Array.from({ length: end - start }, (_, i) => start + i))
      expect(rows).toEqual(Array.from({ length: to - from }, (_, i) => from + i))
    }
  })

  test('a process’s own word, one that tried nothing when it ended, and another version’s tell of no death', () => {
    const none = suspicionOf(undefined, 'me')
    expect(suspicionOf(noteOf('me', none, [0, 10]), 'me')).toEqual(none)
    expect(suspicionOf(noteOf('other', none), 'me')).toEqual(none)
    for (const text of ['', 'null', '{"by":"x"}', 'a word']) expect(suspicionOf(text, 'me')).toEqual(none)
    expect(suspicionOf(noteOf('other', none, [0, 10]), 'me')).toEqual({ deaths: 1, range: [0, 10], alone: 0, culprits: [] })
  })
})
