import type { Batch } from '@spillway/core'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  FeatureEngine,
  type FeaturesDefinition,
  featuresSchema,
  parseStatistics,
  type Statistics,
  StatisticsFitter,
  statisticsText,
} from '../src/mod.ts'
import { batchOf, dayMs, inputs, openStore, plan, vectors } from './fixture.ts'
import { eventsOf, type Fields, planOf, refusalOf, type Row, rowsOf, vectorsOf } from './rows.ts'

const fields: Fields = { amount: 'number', shop: 'integer', channel: 'string', text: 'string', fraud: 'boolean' }
const madeAt = new Date('2026-01-02T03:04:05Z')

function rowsIn(batch: Batch): Parameters<StatisticsFitter['add']>[0] {
  return { input: 'events', batch, given: new Map(), rows: Array.from({ length: batch.rowCount }, (_, row) => row) }
}

function fitted(section: unknown, rows: readonly Row[], options: { readonly rows?: number; readonly seed?: number } = {}): Statistics {
  const fitter = new StatisticsFitter(featuresSchema.parse(section), eventsOf(fields), options)
  for (let start = 0; start < rows.length; start += 7) fitter.add(rowsIn(rowsOf(fields, rows.slice(start, start + 7))))
  return fitter.finish(madeAt)
}

function stepsOf(steps: readonly unknown[], values: readonly Row[string][], field = 'amount'): unknown {
  const section = { columns: { made: { field, steps } }, vector: ['amount'] }
  return fitted(
    section,
    values.map((value) => ({ [field]: value })),
  ).columns['made']!.steps
}

describe('Steps are fitted to the values that are there', () => {
  test('each to what the steps before it make', () => {
    const steps = stepsOf([{ impute: 'mean' }, { standardise: 'fitted' }], [1, undefined, 3, 5, undefined])
    // 1, 3, 3, 5, 3
    expect(steps).toEqual({ 0: { mean: 3 }, 1: { mean: 3, deviation: Math.sqrt(8 / 5) } })
  })

  test('as a loop over them all would', () => {
    fc.assert(
      fc.property(fc.array(fc.option(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { nil: undefined }), { minLength: 3 }), (values) => {
        const present = values.filter((value) => value !== undefined)
        fc.pre(new Set(present).size > 1)
        const mean = present.reduce((sum, value) => sum + value, 0) / present.length
        const deviation = Math.sqrt(present.reduce((sum, value) => sum + (value - mean) ** 2, 0) / present.length)
        fc.pre(deviation > 1e-6)
        const [standard] = Object.values(
          stepsOf([{ standardise: 'fitted' }], values) as Record<string, { mean: number; deviation: number }>,
        )
        expect(standard!.mean).toBeCloseTo(mean, 6)
        expect(standard!.deviation).toBeCloseTo(deviation, 6)
        expect(stepsOf([{ normalise: 'fitted' }], values)).toEqual({ 0: { min: Math.min(...present), max: Math.max(...present) } })
        const sorted = present.toSorted((a, b) => a - b)
        const [bounds] = Object.values(
          stepsOf([{ clip: { quantiles: [0, 0.5] } }], values) as Record<string, { low: number; high: number }>,
        )
        const middle = (sorted.length - 1) / 2
        expect(bounds!.low).toBe(sorted[0])
        expect(bounds!.high).toBeCloseTo((sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2, 6)
      }),
    )
  })

  test('quantile buckets, of which equal ones are one', () => {
    expect(stepsOf([{ bucketise: { quantiles: 4 } }], [0, 1, 2, 3, 4])).toEqual({ 0: { edges: [1, 2, 3] } })
    expect(stepsOf([{ bucketise: { quantiles: 4 } }], [0, 0, 0, 0, 4])).toEqual({ 0: { edges: [0] } })
  })

  test('a vocabulary has what is there most often, of equals the first by order', () => {
    const words = ['b', 'a', 'c', 'a', 'b', undefined, 'd']
    expect(stepsOf([{ vocabulary: { size: 3 } }], words, 'channel')).toEqual({ 0: { words: ['a', 'b', 'c'] } })
    expect(stepsOf([{ vocabulary: { size: 3, atLeast: 2 } }], words, 'channel')).toEqual({ 0: { words: ['a', 'b'] } })
    expect(stepsOf([{ vocabulary: { size: 2 } }], [7, 7, -1], 'shop')).toEqual({ 0: { words: [7, -1] } })
  })

  test('tf-idf is as counted by hand', () => {
    const section = { columns: { made: { field: 'text', steps: ['lower', { tfidf: { size: 2 } }] } }, vector: ['made'] }
    // Terms: the 3 times in 2 texts, cat 2 in 2, dog 1 in 1 (left out); 3 texts count, the absent one does not.
    const rows = ['The cat the', 'the dog', 'cat', undefined].map((text) => ({ text }))
    const statistics = fitted(section, rows)
    const idf = Math.log(4 / 3) + 1
    expect(statistics.columns['made']!.steps).toEqual({ 1: { terms: ['cat', 'the'], idf: [idf, idf] } })
    const compiled = planOf(section, fields, { statistics })
    expect(compiled.vector.names).toEqual(['made=cat', 'made=the'])
    const { rows: made } = vectorsOf(compiled, rowsOf(fields, [...rows, { text: 'THE a cat' }]))
    const length = Math.sqrt(5)
    const expected = [
      [1 / length, 2 / length],
      [0, 1],
      [1, 0],
      [0, 0],
      [Math.SQRT1_2, Math.SQRT1_2],
    ]
    made.forEach((vector, row) => vector.forEach((value, element) => expect(value).toBeCloseTo(expected[row]![element]!, 6)))
  })

  test('columns made from fitted ones are fitted to what those give', () => {
    const columns = {
      standard: { field: 'amount', steps: [{ standardise: 'fitted' }] },
      size: { column: 'standard', steps: [{ bucketise: { quantiles: 2 } }] },
      squared: { expression: 'standard * standard', steps: [{ standardise: 'fitted' }] },
    }
    const rows = [1, 2, 3, 4, 5].map((amount) => ({ amount }))
    const { columns: found } = fitted({ columns, vector: ['standard'] }, rows)
    expect(found['size']!.steps).toEqual({ 0: { edges: [0] } })
    expect((found['squared']!.steps as Record<string, { mean: number }>)['0']!.mean).toBeCloseTo(1, 12)
  })
})

test('more rows than are kept are sampled, each as likely, the same with the same seed', () => {
  const rows = Array.from({ length: 4000 }, (_, amount) => ({ amount }))
  const section = { columns: { made: { field: 'amount', steps: [{ standardise: 'fitted' }] } }, vector: ['made'] }
  const sample = fitted(section, rows, { rows: 500, seed: 1 })
  expect(sample).toMatchObject({ rows: 4000, sampled: 500, seed: 1 })
  expect(fitted(section, rows, { rows: 500, seed: 1 })).toEqual(sample)
  expect(fitted(section, rows, { rows: 500, seed: 2 })).not.toEqual({ ...sample, seed: 2 })
  const { mean, deviation } = (sample.columns['made']!.steps as Record<string, { mean: number; deviation: number }>)['0']!
  // Four standard errors of 500 draws.
  expect(Math.abs(mean - 1999.5)).toBeLessThan((4 * 1155) / Math.sqrt(500))
  expect(Math.abs(deviation - 1154.7)).toBeLessThan(120)
})

describe('Selection', () => {
  const rows = Array.from({ length: 200 }, (_, row) => ({
    amount: row % 10,
    shop: 1000 * (row % 3),
    fraud: row % 10 > 6,
    channel: row % 2 === 0 ? 'a' : 'b',
  }))
  const columns = { flags: { field: 'channel', steps: [{ oneHot: ['a', 'b'] }] } }

  test('keeps the columns that vary most, or go with the label most, in the vector’s order', () => {
    const byVariance = { columns, vector: ['flags', 'amount', 'shop'], select: { atMost: 2, by: 'variance' } }
    const variance = fitted(byVariance, rows)
    expect(variance.selection!.kept.map(({ name }) => name)).toEqual(['shop', 'amount'])
    expect(planOf(byVariance, fields, { statistics: variance }).vector.names).toEqual(['amount', 'shop'])
    const byLabel = { columns, vector: ['flags', 'amount', 'shop'], select: { atMost: 1, by: 'correlation', label: 'fraud' } }
    expect(fitted(byLabel, rows).selection!.kept).toEqual([{ name: 'amount', score: expect.closeTo(0.8, 1) as number }])
  })

  test('takes labels of another input from whoever joins them', () => {
    const section = featuresSchema.parse({ vector: ['amount'], select: { atMost: 1, by: 'correlation', label: 'labels.fraud' } })
    const more = new Map([
      ...eventsOf(fields),
      ['labels', { fields: new Map([['fraud', 'boolean' as const]]), latenessMs: 0, predict: false }],
    ])
    const fitter = new StatisticsFitter(section, more)
    const batch = rowsOf(fields, [{ amount: 1 }, { amount: 2 }, { amount: 3 }])
    fitter.add(rowsIn(batch), Float64Array.of(0, 1, NaN))
    expect(fitter.finish(madeAt).selection!.kept).toEqual([{ name: 'amount', score: expect.closeTo(1, 9) as number }])
    const without = new StatisticsFitter(section, more)
    without.add(rowsIn(batch))
    expect(refusalOf(() => without.finish(madeAt))).toMatchObject({ field: 'select.label' })
  })

  test('is refused without statistics, of another vector, or with an unknown label', () => {
    const section = { columns, vector: ['flags', 'amount', 'shop'], select: { atMost: 2, by: 'variance' } }
    const statistics = fitted(section, rows)
    expect(refusalOf(() => planOf(section, fields))).toMatchObject({
      field: 'select',
      message: expect.stringContaining('spillway features fit') as string,
    })
    expect(refusalOf(() => planOf({ ...section, vector: ['flags', 'shop'] }, fields, { statistics }))).toMatchObject({ field: 'select' })
    const label = { ...section, select: { atMost: 2, by: 'correlation', label: 'frad' } }
    expect(refusalOf(() => planOf(label, fields))).toMatchObject({
      field: 'select.label',
      message: expect.stringContaining('events.fraud') as string,
    })
  })
})

describe('A fitted step is refused', () => {
  const section = {
    columns: { made: { field: 'amount', steps: [{ impute: 'mean' }, { standardise: 'fitted' }, { clip: [0, 1] }] } },
    vector: ['made'],
  }
  const statistics = fitted(section, [{ amount: 1 }, { amount: 2 }])

  test('without statistics', () => {
    expect(refusalOf(() => planOf(section, fields))).toEqual({
      field: 'columns.made.steps[0]',
      message: 'it needs statistics: run spillway features fit, and name the file as features.statistics',
    })
  })

  test('with those of another definition of it; what comes after the last fitted step does not matter', () => {
    const changed = (steps: readonly unknown[], field = 'amount'): unknown => ({ columns: { made: { field, steps } }, vector: ['made'] })
    const refused = expect.stringContaining('fitted to another definition of column "made"') as string
    expect(refusalOf(() => planOf(changed([{ impute: 0 }, { standardise: 'fitted' }]), fields, { statistics }))).toMatchObject({
      message: refused,
    })
    expect(refusalOf(() => planOf(changed([{ impute: 'mean' }, { standardise: 'fitted' }], 'shop'), fields, { statistics }))).toMatchObject(
      { message: refused },
    )
    expect(refusalOf(() => planOf(section, { ...fields, amount: 'integer' }, { statistics }))).toMatchObject({ message: refused })
    expect(planOf(changed([{ impute: 'mean' }, { standardise: 'fitted' }, 'log']), fields, { statistics }).vector.width).toBe(1)
  })

  test('with statistics that do not fit it, of no rows, or of other columns', () => {
    const withSteps = (steps: Record<string, unknown>): Statistics => ({
      ...statistics,
      columns: { made: { ...statistics.columns['made']!, steps } },
    })
    expect(refusalOf(() => planOf(section, fields, { statistics: withSteps({ 0: { mean: 1 }, 1: { mean: 1, deviation: 0 } }) }))).toEqual({
      field: 'columns.made.steps[1]',
      message:
        'the statistics do not fit it: columns.made.steps.1.deviation: a deviation is above 0: every value was the same: run spillway features fit again',
    })
    expect(refusalOf(() => planOf(section, fields, { statistics: { ...statistics, rows: 0 } }))).toMatchObject({ field: 'statistics' })
    expect(refusalOf(() => planOf(section, fields, { statistics: { ...statistics, columns: {} } }))).toMatchObject({
      field: 'columns.made.steps[0]',
      message: expect.stringContaining('nothing on column "made"') as string,
    })
  })

  test('to be fitted to no rows, to no values, or to one value alone', () => {
    expect(refusalOf(() => fitted(section, []))).toMatchObject({
      field: 'statistics',
      message: expect.stringContaining('no row to fit to') as string,
    })
    expect(refusalOf(() => fitted(section, [{}, {}]))).toEqual({
      field: 'columns.made.steps[0]',
      message: 'none of the rows to fit it on has a value of column "made"',
    })
    expect(refusalOf(() => fitted(section, [{ amount: 2 }, { amount: 2 }]))).toEqual({
      field: 'columns.made.steps[1]',
      message: 'every value of column "made" is 2: it has no deviation to divide by',
    })
  })
})

test('the artefact reads as it was written, and what is none is refused', () => {
  const section = { columns: { made: { field: 'amount', steps: [{ impute: 'mean' }] } }, vector: ['made'] }
  const statistics = fitted(section, [{ amount: 1 }])
  expect(statistics).toMatchObject({
    format: 'spillway-feature-statistics',
    version: 1,
    madeAt: '2026-01-02T03:04:05.000Z',
    rows: 1,
    sampled: 1,
  })
  expect(parseStatistics(statisticsText(statistics), 'statistics.json')).toEqual(statistics)
  for (const text of ['{', '{"format":"other"}', statisticsText({ ...statistics, version: 2 as 1 })])
    expect(refusalOf(() => parseStatistics(text, 'statistics.json'))).toMatchObject({
      field: 'statistics',
      message: expect.stringContaining('statistics.json: ') as string,
    })
  expect(planOf(section, fields, { statistics }).hash).not.toBe(
    planOf(section, fields, { statistics: fitted(section, [{ amount: 2 }]) }).hash,
  )
})

test('a replay through the engine fits to what windows see, and those statistics then serve', async () => {
  const section: FeaturesDefinition = featuresSchema.parse({
    histories: { customer: { input: 'payments', key: 'customer', values: ['amount'] } },
    columns: { mean: { window: 'mean', of: 'amount', history: 'customer', length: '1d', steps: [{ standardise: 'fitted' }] } },
    vector: ['mean'],
  })
  const fitter = new StatisticsFitter(section, inputs)
  expect(fitter.plan.unfitted).toBe(true)
  const engine = new FeatureEngine({ plan: fitter.plan, store: await openStore(), observe: (rows) => fitter.add(rows) })
  const payments = [1, 3, 8].map((amount, index) => ({ amount, timeMs: index * 1000 }))
  const late = { amount: 100, timeMs: -40 * dayMs }
  const { failures } = await engine.compute(batchOf('payments', [...payments, late], 0), 'payments', 'stream')
  expect(failures).toHaveLength(1)
  const statistics = fitter.finish(madeAt)
  // Means of 1, of 1 and 3, of 1, 3 and 8; the late payment failed.
  const means = [1, 2, 4]
  const mean = 7 / 3
  const deviation = Math.sqrt(means.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 3)
  expect(statistics).toMatchObject({ rows: 3, from: '1970-01-01T00:00:00.000Z', to: '1970-01-01T00:00:02.000Z' })
  expect(statistics.columns['mean']!.steps).toEqual({
    0: { mean: expect.closeTo(mean, 12) as number, deviation: expect.closeTo(deviation, 12) as number },
  })
})

test('the last known value stands for an absent one', async () => {
  const section = {
    histories: { customer: { input: 'payments', key: 'customer', values: ['amount'] } },
    columns: { amount: { field: 'amount', steps: [{ impute: { last: 'customer', within: '1d' } }, { impute: -1 }] } },
    vector: ['amount'],
  }
  const engine = new FeatureEngine({ plan: plan(section), store: await openStore() })
  const payments = [
    { customer: 'a', amount: 5, timeMs: 0 },
    { customer: 'a', amount: NaN, timeMs: 1000 },
    { customer: 'b', amount: NaN, timeMs: 2000 },
    { customer: 'a', amount: NaN, timeMs: 3000 + dayMs },
  ]
  expect(await vectors(engine, 'payments', payments, { firstOffset: 0 })).toEqual([[5], [5], [-1], [-1]])
  const wrongHistory = { ...section, columns: { amount: { field: 'amount', steps: [{ impute: { last: 'client', within: '1d' } }] } } }
  expect(refusalOf(() => plan(wrongHistory))).toMatchObject({ field: 'columns.amount.steps[0].impute.last' })
})
