import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { FieldType } from '../src/mod.ts'
import { columnOf, type Fields, madeOf, planOf, refusalOf, rowsOf, vectorsOf } from './rows.ts'

const day = (text: string): number => Date.parse(text)
const A = undefined

describe('Steps, row by row, with what is absent', () => {
  test.each<[string, FieldType, unknown[], unknown[], unknown[]]>([
    ['trim', 'string', ['trim'], ['  a b\t', A, 'c'], ['a b', '', 'c']],
    ['lower', 'string', ['lower'], ['ÄB', A], ['äb', '']],
    ['upper', 'string', ['upper'], ['äb', A], ['ÄB', '']],
    ['replace', 'string', [{ replace: { pattern: '[^0-9]+', with: '-' } }], ['a1b22', A], ['-1-22', '']],
    ['replace with a group', 'string', [{ replace: { pattern: '(\\d+)x', with: '$1' } }], ['12x3x'], ['123']],
    ['range absent', 'number', [{ range: { min: 0, max: 10 } }], [-1, 0, 10, 11, A], [NaN, 0, 10, NaN, NaN]],
    ['range clip', 'number', [{ range: { max: 10, else: 'clip' } }], [-1, 11, A], [-1, 10, NaN]],
    ['impute a number', 'number', [{ impute: 7 }], [3, A], [3, 7]],
    ['impute a category', 'timestamp', ['hour', { impute: 23 }], [0, A], [0, 23]],
    ['impute a number that is no category', 'timestamp', ['hour', { impute: -1 }], [0, A], [0, -1]],
    ['impute text', 'string', [{ impute: 'none' }], ['a', A], ['a', 'none']],
    ['clip', 'number', [{ clip: [0, 10] }], [-1, 5, 11, A], [0, 5, 10, NaN]],
    ['log', 'number', ['log'], [0, Math.E - 1, A], [0, 1, NaN]],
    ['standardise', 'number', [{ standardise: { mean: 10, deviation: 4 } }], [12, A], [0.5, NaN]],
    ['normalise', 'number', [{ normalise: { min: 10, max: 20 } }], [10, 15, 25, A], [0, 0.5, 1.5, NaN]],
    ['bucketise', 'number', [{ bucketise: [1, 10] }], [0, 1, 9, 10, A], [0, 1, 1, 2, NaN]],
    [
      'a step of numbers after buckets',
      'number',
      [{ bucketise: [1, 10] }, { standardise: { mean: 1, deviation: 2 } }],
      [0, 10, A],
      [-0.5, 0.5, NaN],
    ],
    ['above', 'number', [{ above: 5 }], [5, 5.000001, A], [0, 1, NaN]],
    ['below', 'number', [{ below: 0 }], [0, -5e-324, A], [0, 1, NaN]],
    ['atLeast, atMost', 'integer', [{ atLeast: 5 }, { atMost: 0 }], [4, 5], [1, 0]],
    ['a flag as a number', 'boolean', [{ standardise: { mean: 0.5, deviation: 0.5 } }], [true, false, A], [1, -1, NaN]],
    [
      'cycle',
      'number',
      [{ cycle: 4 }],
      [0, A],
      [
        [0, 1],
        [NaN, NaN],
      ],
    ],
    ['vocabulary of text', 'string', [{ vocabulary: ['b', 'a'] }], ['a', 'b', 'c', A], [1, 0, NaN, NaN]],
    ['vocabulary with unknown', 'string', [{ vocabulary: ['b', 'a'], unknown: 2 }], ['a', 'c', A], [1, 2, NaN]],
    ['unknown as one of the words', 'string', [{ vocabulary: ['other', 'a'], unknown: 0 }], ['a', 'c'], [1, 0]],
    ['vocabulary of integers', 'integer', [{ vocabulary: [100, -3, 7] }], [-3, 7, 100, 8], [1, 2, 0, NaN]],
    ['vocabulary of numbers far apart', 'number', [{ vocabulary: [0.5, 1e12] }], [1e12, 0.5, 0, A], [1, 0, NaN, NaN]],
    ['hash of text', 'string', [{ hash: { buckets: 1000 } }], ['test', A], [0xba6bd213 % 1000, NaN]],
    ['hash with a seed', 'string', [{ hash: { buckets: 1000, seed: 0x9747b28c } }], ['aaaa'], [0x5a97808a % 1000]],
    ['hash of numbers', 'number', [{ hash: { buckets: 1 } }], [0, -0, A], [0, 0, NaN]],
  ])('%s', (_name, type, steps, values, expected) => {
    expect(madeOf(type, steps, values as never)).toEqual(expected)
  })

  test('a hash of -0 is that of 0, and a whole number hashes alike as an integer and as a number', () => {
    const steps = [{ hash: { buckets: 1_000_000 } }]
    expect(madeOf('number', steps, [-0, 7])).toEqual(madeOf('integer', steps, [0, 7]))
  })

  test('impute takes the value of another column or field, of its kind', () => {
    const fields: Fields = { a: 'number', b: 'number', c: 'string', d: 'string', at: 'timestamp', seen: 'timestamp' }
    const columns = {
      number: { field: 'a', steps: [{ impute: { column: 'twice' } }] },
      twice: { expression: 'b * 2.0' },
      text: { field: 'c', steps: [{ impute: { column: 'd' } }] },
      hour: { field: 'at', steps: [{ impute: { column: 'seen' } }, 'hour'] },
    }
    const plan = planOf({ columns, vector: ['a'] }, fields)
    const batch = rowsOf(fields, [
      { a: 1, b: 5, c: 'x', d: 'y', at: 0, seen: 3_600_000 },
      { b: 5, d: 'y', seen: 7_200_000 },
    ])
    expect(columnOf(plan, 'number', batch).values).toEqual([1, 10])
    expect(columnOf(plan, 'text', batch).values).toEqual(['x', 'y'])
    expect(columnOf(plan, 'hour', batch).values).toEqual([0, 2])
  })

  test('oneHot alone has a flag for every category that there is', () => {
    const fields: Fields = { at: 'timestamp', word: 'string', amount: 'number', online: 'boolean' }
    const columns = {
      month: { field: 'at', steps: ['quarter', 'oneHot'] },
      word: { field: 'word', steps: [{ vocabulary: ['b', 'a'], unknown: 2 }, 'oneHot'] },
      size: { field: 'amount', steps: [{ bucketise: [10] }, 'oneHot'] },
      online: { field: 'online', steps: ['oneHot'] },
    }
    const plan = planOf({ columns, vector: ['month', 'word', 'size', 'online'] }, fields)
    const names = 'month=1 month=2 month=3 month=4 word=b word=a word=unknown size=0 size=1 online=0 online=1'
    expect(plan.vector.names).toEqual(names.split(' '))
    const batch = rowsOf(fields, [{ at: day('2024-05-01T00:00:00Z'), word: 'x', amount: 3, online: true }, {}])
    expect(vectorsOf(plan, batch).rows).toEqual([
      [0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1],
      [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ])
  })

  test('a vocabulary may stand in a file, one word a line', () => {
    const files = new Map([['./words.txt', 'b\r\na\n\n']])
    expect(madeOf('string', [{ vocabulary: { file: './words.txt' } }], ['a', 'b', 'c'], { files })).toEqual([1, 0, NaN])
    const twice = new Map([['./words.txt', 'b\nb\n']])
    expect(refusalOf(() => madeOf('string', [{ vocabulary: { file: './words.txt' } }], [], { files: twice }))).toEqual({
      field: 'columns.made.steps[0].vocabulary.file',
      message: './words.txt has "b" twice, as words 1 and 2: each once',
    })
  })

  test('a range that fails takes the row, and no other', () => {
    const fields: Fields = { amount: 'number' }
    const section = { columns: { amount: { field: 'amount', steps: [{ range: { min: 0, else: 'fail' } }] } }, vector: ['amount'] }
    const { rows, failures } = vectorsOf(planOf(section, fields), rowsOf(fields, [{ amount: 1 }, { amount: -1 }, {}]))
    expect(rows[0]).toEqual([1])
    expect(rows[2]).toEqual([NaN])
    expect(failures.map(({ row, error }) => [row, error.code, error.field, error.message])).toEqual([
      [1, 'INVALID_ARGUMENT', 'amount', 'column "amount": -1 is outside its range, 0 to Infinity'],
    ])
  })

  test('what is beyond FP32 takes the row', () => {
    const fields: Fields = { amount: 'number' }
    const section = { columns: { big: { expression: 'amount * amount' } }, vector: ['big'] }
    const { failures } = vectorsOf(planOf(section, fields), rowsOf(fields, [{ amount: 1e30 }, { amount: 2 }]))
    expect(failures).toMatchObject([{ row: 0, error: { code: 'OUT_OF_RANGE', field: 'big' } }])
  })
})

describe('Text to vectors', () => {
  test('n-grams of words are counted by hash; of text without words there are none', () => {
    const rows = madeOf('string', [{ ngrams: { of: 'word', min: 1, max: 2, buckets: 64 } }], ['a b, a', '!', A]) as number[][]
    const total = rows.map((row) => row.reduce((sum, value) => sum + value, 0))
    // a, b, a, "a b", "b a"
    expect(total).toEqual([5, 0, 0])
    const binary = madeOf('string', [{ ngrams: { buckets: 64, weight: 'binary' } }], ['a b, a']) as number[][]
    expect(binary[0]!.filter((value) => value === 1)).toHaveLength(2)
  })

  test('n-grams of characters are of code points', () => {
    const [first, second] = madeOf('string', [{ ngrams: { of: 'char', min: 2, max: 2, buckets: 4096 } }], ['aéb', 'éb']) as number[][]
    expect(first!.reduce((sum, value) => sum + value, 0)).toBe(2)
    expect(second!.every((value, bucket) => value <= first![bucket]!)).toBe(true)
  })
})

const parts = ['minute', 'hour', 'weekday', 'weekend', 'day', 'dayOfYear', 'month', 'quarter', 'year'] as const

/** By the runtime's calendar, in the words of a formatted date. */
function partsByIntl(timeMs: number, zone: string): Record<(typeof parts)[number], number> {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone: zone,
    hourCycle: 'h23',
    weekday: 'short',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
  })
  const found = Object.fromEntries(format.formatToParts(timeMs).map(({ type, value }) => [type, value]))
  const [year, month, ofMonth] = [Number(found['year']), Number(found['month']), Number(found['day'])]
  const weekday = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'].indexOf(found['weekday']!)
  return {
    minute: Number(found['minute']),
    hour: Number(found['hour']),
    weekday,
    weekend: weekday >= 5 ? 1 : 0,
    day: ofMonth,
    dayOfYear: (Date.UTC(year, month - 1, ofMonth) - Date.UTC(year, 0, 1)) / 86_400_000 + 1,
    month,
    quarter: Math.ceil(month / 3),
    year,
  }
}

describe('Date parts', () => {
  test.each(['UTC', 'Europe/Paris', 'America/New_York', 'Asia/Kathmandu', 'Australia/Lord_Howe'])(
    'in %s are those of the calendar',
    (zone) => {
      fc.assert(
        fc.property(
          fc.array(fc.date({ min: new Date('1973-01-01'), max: new Date('2037-12-31'), noInvalidDate: true }), { minLength: 1 }),
          (dates) => {
            const times = dates.map((date) => date.getTime())
            const calendar = times.map((timeMs) => partsByIntl(timeMs, zone))
            for (const part of parts) {
              const step = zone === 'UTC' ? part : { [part]: { zone } }
              expect(madeOf('timestamp', [step], times)).toEqual(calendar.map((found) => found[part]))
            }
          },
        ),
        { numRuns: 20 },
      )
    },
  )

  test('an absent time has none, and neither has one beyond the calendar', () => {
    expect(madeOf('timestamp', ['year'], [A, 9e15, 0])).toEqual([NaN, NaN, 1970])
    expect(madeOf('timestamp', [{ month: { zone: 'Europe/Paris' } }], [A, -9e15, 0])).toEqual([NaN, NaN, 1])
  })

  test('years before 1970 and leap days are counted as the calendar has them', () => {
    expect(madeOf('timestamp', ['dayOfYear'], [day('2024-12-31T00:00:00Z'), day('1900-03-01T00:00:00Z')])).toEqual([366, 60])
    expect(madeOf('timestamp', ['weekday'], [day('1969-12-31T23:00:00Z')])).toEqual([2])
  })
})
