import { celEnv, CelScalar, isCelError, parse, plan as celPlan } from '@bufbuild/cel'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ByteVocabulary } from '../src/columns/byte-vocabulary.ts'
import { hashNumbers, hashTexts, murmur3 } from '../src/columns/murmur3.ts'
import { Scratch } from '../src/columns/scratch.ts'
import { TextColumn } from '../src/columns/text-column.ts'
import { type ColumnData, featuresSchema, moduleRequests } from '../src/mod.ts'
import { columnOf, type Fields, planOf, refusalOf, type Row, rowsOf, vectorsOf } from './rows.ts'

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)

test('MurmurHash3 x86 32 is that of its published test vectors', () => {
  const hash = (text: string, seed: number): number => murmur3(bytesOf(text), 0, bytesOf(text).length, seed)
  expect(hash('', 0)).toBe(0)
  expect(hash('', 1)).toBe(0x514e28b7)
  expect(hash('', 0xffffffff)).toBe(0x81f16f39)
  expect(hash('test', 0)).toBe(0xba6bd213)
  expect(hash('test', 0x9747b28c)).toBe(0x704b81dc)
  expect(hash('Hello, world!', 0)).toBe(0xc0363e43)
  expect(hash('The quick brown fox jumps over the lazy dog', 0)).toBe(0x2e4ff723)
  expect(hash('aaa', 0x9747b28c)).toBe(0x283e0130)
})

test('hashes of rows are hashes of their bytes', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'binary' })), fc.nat(), (texts, seed) => {
      const all = texts.map(bytesOf)
      const offsets = new Uint32Array(all.length + 1)
      all.forEach((one, row) => (offsets[row + 1] = offsets[row]! + one.length))
      const hashes = new Uint32Array(all.length)
      hashTexts(new Uint8Array(Buffer.concat(all)), offsets, seed, hashes)
      expect([...hashes]).toEqual(all.map((one) => murmur3(one, 0, one.length, seed)))
    }),
  )
  fc.assert(
    fc.property(fc.double(), (value) => {
      const hashes = new Uint32Array(1)
      hashNumbers(Float64Array.of(value), 0, hashes)
      expect(hashes[0]).toBe(murmur3(new Uint8Array(Float64Array.of(value + 0).buffer), 0, 8, 0))
    }),
  )
})

test('words are found by their bytes, be they few, many or long', () => {
  const word = fc.string({ unit: 'grapheme', maxLength: 40 })
  fc.assert(
    fc.property(fc.uniqueArray(word, { minLength: 1, maxLength: 300 }), fc.array(word), (words, others) => {
      const texts = [...words, ...others, ...words.map((known) => `${known}!`)]
      const found = new ByteVocabulary(words).findAll(TextColumn.of(texts), -2, new Int32Array(texts.length))
      const places = new Map(words.map((known, index) => [known, index]))
      expect([...found]).toEqual(texts.map((text) => places.get(text) ?? (text === '' ? -1 : -2)))
    }),
    { numRuns: 50 },
  )
  const many = Array.from({ length: 3000 }, (_, index) => `word-${index}`)
  const found = new ByteVocabulary(many).findAll(TextColumn.of([...many, 'word-3000']), -2, new Int32Array(3001))
  expect([...found]).toEqual([...many.keys(), -2])
})

const fields: Fields = {
  amount: 'number',
  mean: 'number',
  shop: 'integer',
  channel: 'string',
  country: 'string',
  at: 'timestamp',
  online: 'boolean',
}

function column(definition: unknown, rows: readonly Row[], more: Record<string, unknown> = {}): ReturnType<typeof columnOf> {
  return columnOf(planOf({ columns: { made: definition, ...more }, vector: ['amount'] }, fields), 'made', rowsOf(fields, rows))
}

function refused(definition: unknown, more: Record<string, unknown> = {}): ReturnType<typeof refusalOf> {
  return refusalOf(() => planOf({ columns: { made: definition, ...more }, vector: ['amount'] }, fields))
}

describe('A cross', () => {
  const hashed = (...parts: readonly Uint8Array[]): number => {
    const words = Uint32Array.from(parts, (part) => murmur3(part, 0, part.length, 0))
    return murmur3(new Uint8Array(words.buffer), 0, words.byteLength, 0)
  }

  test('is the hash of its parts’ hashes; absent where a part is', () => {
    const rows = [{ channel: 'web', shop: 7 }, { shop: 7 }, { channel: 'web' }]
    expect(column({ cross: ['channel', 'shop'], buckets: 1000 }, rows).values).toEqual([
      hashed(bytesOf('web'), new Uint8Array(Float64Array.of(7).buffer)) % 1000,
      NaN,
      NaN,
    ])
    const three = column({ cross: ['channel', 'country', 'online'], buckets: 1000 }, [{ channel: 'web', country: 'AT', online: true }])
    expect(three.values).toEqual([hashed(bytesOf('web'), bytesOf('AT'), new Uint8Array(Float64Array.of(1).buffer)) % 1000])
  })

  test('without buckets has a category for every pair, where sizes are known', () => {
    const more = { size: { field: 'amount', steps: [{ bucketise: [10, 100] }] }, hour: { field: 'at', steps: ['hour'] } }
    const rows = [{ amount: 50, at: 5 * 3_600_000 }, { amount: 500, at: 23 * 3_600_000 }, { amount: 500 }]
    expect(column({ cross: ['size', 'hour'] }, rows, more).values).toEqual([1 * 24 + 5, 2 * 24 + 23, NaN])
    const flags = planOf({ columns: { made: { cross: ['size', 'online'], steps: ['oneHot'] }, ...more }, vector: ['made'] }, fields)
    expect(flags.vector.width).toBe(6)
  })

  test.each([
    ['a number that is no category', { cross: ['amount', 'shop'], buckets: 9 }, 'columns.made.cross[0]', /bucketise it/],
    [
      'sizes that are not known',
      { cross: ['channel', 'online'] },
      'columns.made.buckets',
      /how many categories "channel" has is not known/,
    ],
    ['an unknown name', { cross: ['channel', 'chanel'] }, 'columns.made.cross[1]', /neither a column nor a field of input "events"/],
    ['itself', { cross: ['channel', 'made'] }, 'columns.made.cross[1]', /round in a circle: made → made/],
  ])('of %s is refused', (_name, definition, field, message) => {
    expect(refused(definition)).toMatchObject({ field, message: expect.stringMatching(message) as string })
  })
})

test('a polynomial is every product of 2 to degree factors', () => {
  const plan = planOf({ columns: { made: { polynomial: ['amount', 'shop'], degree: 3 } }, vector: ['made'] }, fields)
  expect(plan.vector.names).toEqual(
    ['amount^2', 'amount*shop', 'shop^2', 'amount^3', 'amount^2*shop', 'amount*shop^2', 'shop^3'].map((name) => `made[${name}]`),
  )
  const { rows } = vectorsOf(plan, rowsOf(fields, [{ amount: 2, shop: 5 }, { amount: 2 }]))
  expect(rows).toEqual([
    [4, 10, 25, 8, 20, 50, 125],
    [4, NaN, NaN, 8, NaN, NaN, NaN],
  ])
})

describe('An expression', () => {
  test.each<[string, string, Row, unknown]>([
    ['doubles', 'amount / (mean + 1.0)', { amount: 6, mean: 2 }, 2],
    ['division by 0.0', 'amount / (mean - mean)', { amount: 6, mean: 2 }, Infinity],
    ['an absent number', 'amount + mean', { amount: 6 }, NaN],
    ['an absent number that is not looked at', 'channel == "" ? 1.0 : amount', {}, NaN],
    ['flags', 'online && amount > 5.0', { online: true, amount: 6 }, 1],
    ['text', 'channel + "/" + country', { channel: 'web', country: 'AT' }, 'web/AT'],
    ['absent text', 'channel == ""', {}, 1],
    ['text tested', 'channel.startsWith("we") && country in ["AT", "CH"]', { channel: 'web', country: 'CH' }, 1],
    ['integers', 'shop % 10 + 1', { shop: 27 }, 8],
    ['integers compared with doubles', 'shop > amount', { shop: 27, amount: 26.5 }, 1],
    ['a time, in ms', 'at > 1000 ? double(at) / 1000.0 : 0.0', { at: 2500 }, 2.5],
    ['matches', 'channel.matches("^w.b$")', { channel: 'web' }, 1],
  ])('of %s', (_name, expression, row, expected) => {
    expect(column({ expression }, [row]).values).toEqual([expected])
  })

  test('over other columns, whatever their order', () => {
    expect(
      column({ expression: 'night ? big * 2.0 : 0.0' }, [{ amount: 20, at: 0 }], {
        night: { field: 'at', steps: ['hour', { atMost: 6 }] },
        big: { field: 'amount', steps: [{ clip: [0, 10] }] },
      }).values,
    ).toEqual([20])
  })

  test('that fails on a row takes that row', () => {
    const { values, failures } = column({ expression: '100 / shop' }, [{ shop: 5 }, { shop: 0 }])
    expect(values).toEqual([20, NaN])
    expect(failures).toMatchObject([
      { row: 1, error: { code: 'INVALID_ARGUMENT', field: 'made', message: /column "made": .*divide by zero/ } },
    ])
  })

  test.each([
    ['an unknown name', 'amuont + 1.0', /"amuont" is neither a column nor a field of input "events": choose among made, amount/],
    ['types that do not go together', 'amount + 1', /"\+" does not take \(double, int\): write whole numbers as 1\.0/],
    ['text as a number', 'amount * channel', /"\*" does not take \(double, string\)/],
    ['an unknown function', 'sqrt(amount)', /there is no function "sqrt": choose among double, int/],
    ['a condition of another type', 'amount ? 1.0 : 2.0', /"\?:" does not take \(double, double, double\)/],
    ['a list', '[amount]', /gives a list/],
    ['a macro', '[1.0].exists(x, x > amount)', /no fields of messages, maps or macros/],
    ['no expression', 'amount +', /1:9|end of input|expecting/],
  ])('of %s is refused', (_name, expression, message) => {
    expect(refused({ expression })).toMatchObject({ field: 'columns.made.expression', message: expect.stringMatching(message) as string })
  })

  test('over whole columns gives what the evaluator gives row by row', () => {
    const leaf = fc.constantFrom('amount', 'mean', '1.5', '-2.0', '0.0', 'double(shop)')
    const { number } = fc.letrec<{ number: string; flag: string }>((tie) => ({
      number: fc.oneof(
        { maxDepth: 4 },
        leaf,
        fc.tuple(tie('number'), fc.constantFrom('+', '-', '*', '/'), tie('number')).map(([a, sign, b]) => `(${a} ${sign} ${b})`),
        tie('number').map((a) => `-(${a})`),
        fc.tuple(tie('flag'), tie('number'), tie('number')).map(([flag, a, b]) => `(${flag} ? ${a} : ${b})`),
      ),
      flag: fc.oneof(
        { maxDepth: 4 },
        fc.constantFrom('online', 'true', 'false', 'shop > 3', 'shop != 7'),
        fc
          .tuple(tie('number'), fc.constantFrom('<', '<=', '>', '>=', '==', '!='), tie('number'))
          .map(([a, sign, b]) => `(${a} ${sign} ${b})`),
        fc.tuple(tie('flag'), fc.constantFrom('&&', '||'), tie('flag')).map(([a, sign, b]) => `(${a} ${sign} ${b})`),
        tie('flag').map((a) => `!(${a})`),
      ),
    }))
    const variables = { amount: CelScalar.DOUBLE, mean: CelScalar.DOUBLE, shop: CelScalar.INT, online: CelScalar.BOOL }
    const env = celEnv({ variables })
    fc.assert(
      fc.property(
        number,
        fc.array(fc.tuple(fc.double({ noNaN: true }), fc.double({ noNaN: true }), fc.integer(), fc.boolean())),
        (expression, given) => {
          const rows = given.map(([amount, mean, shop, online]) => ({ amount, mean, shop, online }))
          const evaluate = celPlan(env, parse(expression))
          const expected = rows.map((row) => {
            const result = evaluate({ ...row, shop: BigInt(row.shop) })
            if (isCelError(result)) throw result
            return result
          })
          expect(column({ expression }, rows).values).toEqual(expected)
        },
      ),
    )
  })
})

describe('A module', () => {
  const functions = {
    ratio: ({ amount, shop }: Record<string, ColumnData>, settings: { by: number }): ColumnData => ({
      kind: 'number',
      values: (amount!.values as Float64Array).map((value, row) => {
        if (value < 0) throw new Error(`amount ${value} is below 0`)
        return (value * settings.by) / (shop!.values as Float64Array)[row]!
      }),
    }),
    loud: ({ channel }: Record<string, ColumnData & { values: { strings: readonly string[] } }>) => ({
      kind: 'text',
      values: channel!.values.strings.map((text) => `${text}!`),
    }),
    short: (): ColumnData => ({ kind: 'number', values: new Float64Array(1) }),
    pair: (_columns: unknown, _settings: unknown, rowCount: number): ColumnData => ({
      kind: 'vector',
      values: new Float64Array(rowCount * 2),
      width: 2,
    }),
    notAFunction: 3,
  }
  const modules = new Map([['./transforms.ts', functions]])
  const made = (definition: Record<string, unknown>): ReturnType<typeof planOf> =>
    planOf({ columns: { made: { module: './transforms.ts', ...definition } }, vector: ['amount'] }, fields, { modules })

  test('makes a column of whole columns', () => {
    const plan = made({ export: 'ratio', from: ['amount', 'shop'], settings: { by: 10 } })
    expect(columnOf(plan, 'made', rowsOf(fields, [{ amount: 6, shop: 2 }, { shop: 2 }])).values).toEqual([30, NaN])
    const text = made({ export: 'loud', from: ['channel'], gives: 'text', steps: ['upper'] })
    expect(columnOf(text, 'made', rowsOf(fields, [{ channel: 'abc' }])).values).toEqual(['ABC!'])
  })

  test('that throws is asked row by row, and only fails rows that it cannot do', () => {
    const plan = made({ export: 'ratio', from: ['amount', 'shop'], settings: { by: 1 } })
    const { values, failures } = columnOf(
      plan,
      'made',
      rowsOf(fields, [
        { amount: 6, shop: 2 },
        { amount: -1, shop: 1 },
        { amount: 4, shop: 4 },
      ]),
    )
    expect(values).toEqual([3, NaN, 1])
    expect(failures).toMatchObject([
      { row: 1, error: { code: 'INVALID_ARGUMENT', field: 'made', message: 'column "made": amount -1 is below 0' } },
    ])
  })

  test('must give what it says: rows fail where it does not', () => {
    const rows = rowsOf(fields, [{}, {}])
    expect(columnOf(made({ export: 'pair', from: ['amount'] }), 'made', rows).failures).toMatchObject([
      { error: { message: 'column "made": it gave vector, and the column is declared as number (gives)' } },
      {},
    ])
    expect(columnOf(made({ export: 'pair', from: ['amount'], gives: { vector: 2 } }), 'made', rows).failures).toEqual([])
  })

  test('is named to whoever imports it, and refused where it was not, or has no such function', () => {
    const section = { columns: { made: { module: './transforms.ts', export: 'sum', from: ['amount'] } }, vector: ['made'] }
    expect(moduleRequests(featuresSchema.parse(section))).toEqual(['./transforms.ts'])
    expect(refusalOf(() => planOf(section, fields))).toMatchObject({ field: 'columns.made.module' })
    expect(refusalOf(() => planOf(section, fields, { modules }))).toEqual({
      field: 'columns.made.export',
      message: './transforms.ts exports no function "sum": choose among ratio, loud, short, pair',
    })
  })

  test('changes the plan’s hash with its function', () => {
    const one = made({ export: 'short', from: ['amount'] })
    const other = new Map([['./transforms.ts', { short: (): unknown => 4 }]])
    const section = { columns: { made: { module: './transforms.ts', export: 'short', from: ['amount'] } }, vector: ['amount'] }
    expect(one.hash).toMatch(/^[0-9a-f]{16}$/)
    expect(planOf(section, fields, { modules: other }).hash).not.toBe(one.hash)
    expect(made({ export: 'short', from: ['amount'] }).hash).toBe(one.hash)
  })
})

describe('The vector', () => {
  const columns = {
    spend_1d: { field: 'amount' },
    spend_7d: { field: 'mean' },
    spend_30d: { field: 'shop' },
    hour: { field: 'at', steps: ['hour'] },
  }
  const names = (vector: readonly string[]): readonly string[] => planOf({ columns, vector }, fields).vector.names

  test('takes columns and fields by the start of their names, and leaves out', () => {
    expect(names(['hour', 'spend_*', '-spend_7d'])).toEqual(['hour', 'spend_1d', 'spend_30d'])
    expect(names(['*', '-spend_*'])).toEqual(['hour', 'amount', 'mean', 'shop', 'online'].filter((name) => name !== ''))
    expect(names(['a*', 'spend_1d', 'spend_*'])).toEqual(['amount', 'spend_1d', 'spend_7d', 'spend_30d'])
  })

  test.each([
    ['a pattern that nothing goes by', ['sepnd_*'], 'vector[0]', /no column or field of numbers is called "sepnd_\*"/],
    ['leaving out what is not there', ['hour', '-spend_1d'], 'vector[1]', /it leaves out nothing/],
    ['nothing left', ['hour', '-hour'], 'vector', /everything is left out/],
    ['text', ['channel'], 'vector[0]', /field "channel" is a string/],
  ])('with %s is refused', (_name, vector, field, message) => {
    expect(refusalOf(() => names(vector))).toMatchObject({ field, message: expect.stringMatching(message) as string })
  })
})

test('rows are computed alike, however they are cut into batches', () => {
  const columns = {
    word: { field: 'channel', steps: ['lower', { vocabulary: ['web', 'shop'], unknown: 2 }, 'oneHot'] },
    hashed: { field: 'channel', steps: [{ hash: { buckets: 50 } }] },
    cross: { cross: ['channel', 'shop', 'online'], buckets: 77 },
    pair: { cross: ['channel', 'country'], buckets: 77 },
    ratio: { expression: 'amount / mean' },
    checked: { expression: '10 / shop' },
    products: { polynomial: ['amount', 'mean'] },
    terms: { field: 'country', steps: [{ ngrams: { of: 'char', min: 1, max: 2, buckets: 8 } }] },
    hour: { field: 'at', steps: [{ hour: { zone: 'Europe/Vienna' } }, { cycle: 24 }] },
    standard: { field: 'amount', steps: [{ impute: { column: 'mean' } }, { standardise: { mean: 3, deviation: 2 } }] },
  }
  const plan = planOf({ columns, vector: Object.keys(columns) }, fields)
  const value = fc.option(fc.float({ noNaN: true, noDefaultInfinity: true, min: -1000, max: 1000 }), { nil: undefined })
  const word = fc.option(fc.constantFrom('Web', 'shop', 'ü', 'other'), { nil: undefined })
  const row = fc.record({
    amount: value,
    mean: value,
    shop: fc.integer({ min: -2, max: 2 }),
    channel: word,
    country: word,
    at: fc.option(fc.integer({ min: 0, max: 2e12 }), { nil: undefined }),
    online: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(row, { maxLength: 40 }), fc.integer({ min: 1, max: 40 }), (rows, size) => {
      const whole = vectorsOf(plan, rowsOf(fields, rows))
      const scratch = new Scratch()
      const vectors: (readonly number[])[] = []
      const failed: number[] = []
      for (let start = 0; start < rows.length; start += size) {
        const part = vectorsOf(plan, rowsOf(fields, rows.slice(start, start + size)), scratch)
        vectors.push(...part.rows)
        failed.push(...part.failures.map((failure) => failure.row + start))
      }
      expect(vectors).toEqual(whole.rows)
      expect(failed.toSorted((a, b) => a - b)).toEqual(whole.failures.map((failure) => failure.row).toSorted((a, b) => a - b))
    }),
  )
})
