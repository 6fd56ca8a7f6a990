import { expect, test } from 'vitest'
import { FeatureEngine } from '../src/mod.ts'
import { batchOf, openStore, type Payment, plan, vectors } from './fixture.ts'

async function column(definition: unknown, events: readonly Payment[]): Promise<(readonly number[] | string)[]> {
  const engine = new FeatureEngine({ plan: plan({ columns: { made: definition }, vector: ['made'] }), store: await openStore() })
  return vectors(engine, 'payments', events, 'request')
}

function amounts(...values: readonly number[]): readonly Payment[] {
  return values.map((amount) => ({ amount, timeMs: 0 }))
}

test.each([
  ['as it is', [], [3, -2, NaN], [3, -2, NaN]],
  ['impute', [{ impute: 7 }], [3, NaN], [3, 7]],
  ['clip', [{ clip: [0, 10] }], [-1, 5, 11, NaN], [0, 5, 10, NaN]],
  ['log', ['log'], [0, Math.E - 1], [0, 1]],
  ['standardise', [{ standardise: { mean: 10, deviation: 4 } }], [10, 12, 2], [0, 0.5, -2]],
  ['bucketise', [{ bucketise: [1, 10, 100] }], [0, 1, 9.9, 10, 1000, NaN], [0, 1, 1, 2, 3, NaN]],
  ['above', [{ above: 5 }], [5, 5.1, NaN], [0, 1, NaN]],
  ['below', [{ below: 5 }], [5, 4.9], [0, 1]],
  ['atLeast', [{ atLeast: 5 }], [5, 4.9], [1, 0]],
  ['atMost', [{ atMost: 5 }], [5, 5.1], [1, 0]],
  ['a chain, in order', [{ impute: 20 }, { clip: [0, 10] }, { standardise: { mean: 5, deviation: 5 } }], [NaN, 5], [1, 0]],
] as const)('%s', async (_name, steps, given, expected) => {
  const definition = { field: 'amount', ...(steps.length > 0 && { steps }) }
  expect((await column(definition, amounts(...given))).flat()).toEqual(expected.map((value) => Math.fround(value)))
})

test('hour and weekday are those of UTC, Monday being 0, before 1970 too', async () => {
  const times = ['2018-04-01T00:00:31Z', '2018-04-02T23:59:59.999Z', '1969-12-31T23:00:00Z', '2024-02-29T12:00:00Z'].map((text) => ({
    timeMs: Date.parse(text),
  }))
  expect((await column({ field: 'at', steps: ['weekday'] }, times)).flat()).toEqual([6, 0, 2, 3])
  expect((await column({ field: 'at', steps: ['hour'] }, times)).flat()).toEqual([0, 23, 23, 12])
})

test('oneHot matches text, and numbers after other steps; what is none of them is all 0', async () => {
  const channels = ['web', 'shop', 'other', ''].map((channel) => ({ channel, timeMs: 0 }))
  expect(await column({ field: 'channel', steps: [{ oneHot: ['web', 'shop'] }] }, channels)).toEqual([
    [1, 0],
    [0, 1],
    [0, 0],
    [0, 0],
  ])
  expect(await column({ field: 'amount', steps: [{ bucketise: [10] }, { oneHot: [0, 1] }] }, amounts(3, 30, NaN))).toEqual([
    [1, 0],
    [0, 1],
    [0, 0],
  ])
})

test('a column may be made from another, in whatever order they are written', async () => {
  const columns = { late: { column: 'hours', steps: [{ atLeast: 22 }] }, hours: { field: 'at', steps: ['hour'] } }
  const engine = new FeatureEngine({ plan: plan({ columns, vector: ['hours', 'late', 'online'] }), store: await openStore() })
  expect(await vectors(engine, 'payments', [{ timeMs: Date.parse('2018-04-01T23:00:00Z'), online: true }], 'request')).toEqual([[23, 1, 1]])
})

test('the input keeps its own columns beside the vector', async () => {
  const engine = new FeatureEngine({ plan: plan({ vector: ['amount'] }), store: await openStore() })
  const { batch } = await engine.compute(batchOf('payments', amounts(1, 2), 0), 'payments', 'stream')
  expect([...batch.columns.keys()]).toEqual(['customer', 'shop', 'amount', 'at', 'channel', 'online', 'fraud', 'features'])
  expect(batch.columns.get('features')).toMatchObject({ datatype: 'FP32', shape: [2, 1] })
})
