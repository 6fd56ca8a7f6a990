import { describe, expect, test } from 'vitest'
import { FeatureEngine } from '../src/mod.ts'
import { batchOf, dayMs, featureInput, hourMs, openStore, type Payment, plan, vectors } from './fixture.ts'

const latenessMs = 6 * hourMs
const inputs = new Map([
  [
    'payments',
    featureInput(
      { customer: 'string', shop: 'integer', amount: 'number', at: 'timestamp' },
      { keyField: 'customer', timeField: 'at', latenessMs },
    ),
  ],
  [
    'labels',
    featureInput({ shop: 'integer', at: 'timestamp', fraud: 'boolean' }, { keyField: 'shop', predict: false, latenessMs: 2 * dayMs }),
  ],
])
const columns = {
  count_1h: { window: 'count', history: 'customer', length: '1h' },
  sum_10h: { window: 'sum', of: 'amount', history: 'customer', length: '10h' },
  sum_late: { window: 'sum', of: 'amount', history: 'customer', length: '2h', delay: '3h' },
  frauds: { window: 'count', of: 'fraud', history: 'shop', length: '1d', delay: '1d' },
}
const asOfPlan = plan(
  {
    histories: {
      customer: { input: 'payments', key: 'customer', values: ['amount'] },
      shop: { input: 'labels', key: 'shop', values: ['fraud'] },
    },
    columns,
    vector: Object.keys(columns),
  },
  inputs,
)
const start = Date.parse('2024-05-01T00:00:00Z')
const hour = (hours: number): number => start + hours * hourMs
const payments: readonly Payment[] = [0, 1, 2, 5, 5, 9].map((hours, index) => ({
  customer: 'a',
  shop: 7,
  amount: 2 ** index,
  timeMs: hour(hours),
}))
const labels: readonly Payment[] = [-20, -1, 3].map((hours) => ({ shop: 7, fraud: true, timeMs: hour(hours) }))

async function served(): Promise<FeatureEngine> {
  const engine = new FeatureEngine({ plan: asOfPlan, store: await openStore() })
  await vectors(engine, 'labels', labels, { firstOffset: 0 })
  await vectors(engine, 'payments', payments, { firstOffset: 0 })
  return engine
}

/** By definition: what a call must see, with itself as the current event. */
function asOf(timeMs: number, amount: number): readonly number[] {
  const within = (from: number, until: number): readonly Payment[] =>
    [...payments, { amount, timeMs }].filter((payment) => payment.timeMs > from && payment.timeMs <= until)
  const sum = (of: readonly Payment[]): number => of.reduce((total, payment) => total + payment.amount!, 0)
  return [
    within(timeMs - hourMs, timeMs).length,
    sum(within(timeMs - 10 * hourMs, timeMs)),
    sum(within(timeMs - 5 * hourMs, timeMs - 3 * hourMs)),
    labels.filter((label) => label.timeMs > timeMs - 2 * dayMs && label.timeMs <= timeMs - dayMs).length,
  ]
}

describe('A call', () => {
  test('about any time sees what had happened by then, and nothing after; itself is the current event', async () => {
    const engine = await served()
    for (const hours of [3, 4.99, 5, 5.01, 9, 10, 30, 100]) {
      const answer = await vectors(engine, 'payments', [{ customer: 'a', shop: 7, amount: 1000, timeMs: hour(hours) }], 'request')
      expect([hours, answer]).toEqual([hours, [asOf(hour(hours), 1000)]])
    }
  })

  test('about what the stream has answered gets that answer, where the stream had not yet gone on', async () => {
    const engine = new FeatureEngine({ plan: asOfPlan, store: await openStore() })
    await vectors(engine, 'labels', labels, { firstOffset: 0 })
    for (const [offset, payment] of payments.entries()) {
      const asked = await vectors(engine, 'payments', [payment], 'request')
      expect(await vectors(engine, 'payments', [payment], { firstOffset: offset })).toEqual(asked)
    }
  })

  test('reads anew each time, and its rows see neither each other nor leave anything behind', async () => {
    const engine = await served()
    const asked = Array.from({ length: 3 }, () => ({ customer: 'a', shop: 7, amount: 1000, timeMs: hour(9) }))
    const expected = asOf(hour(9), 1000)
    expect(await vectors(engine, 'payments', asked, 'request')).toEqual([expected, expected, expected])
    await vectors(engine, 'payments', [{ customer: 'a', shop: 7, amount: 4096, timeMs: hour(9) }], { firstOffset: 6 })
    expect((await vectors(engine, 'payments', asked.slice(1), 'request'))[0]).toEqual([
      expected[0]! + 1,
      expected[1]! + 4096,
      ...expected.slice(2),
    ])
  })

  test('about a time that the histories no longer hold whole is refused, naming what is kept', async () => {
    const engine = await served()
    // Kept: the longest window, 10 h, and the lateness on top, 6 h, before the newest event at 9 h.
    const asked = [3, 2.99].map((hours) => ({ customer: 'a', shop: 7, amount: 1000, timeMs: hour(hours) }))
    const { failures } = await engine.compute(batchOf('payments', asked), 'payments', 'request')
    expect(failures.map(({ row, error }) => [row, error.code, error.field, error.message])).toEqual([
      [
        1,
        'OUT_OF_RANGE',
        'at',
        'at is 2024-05-01T02:59:24.000Z: its windows look back to 2024-04-30T16:59:24.000Z, and the history of customer a is kept from 2024-04-30T17:00:00.000Z on',
      ],
    ])
    // A key that is not known has nothing that could be missing.
    expect(await vectors(engine, 'payments', [{ customer: 'b', shop: 9, amount: 1, timeMs: hour(-500) }], 'request')).toEqual([
      [1, 1, 0, 0],
    ])
  })

  test('may reach further back than a stream’s events may be late, where a history is told to keep more', async () => {
    const histories = { customer: { input: 'payments', key: 'customer', values: ['amount'], retention: '3d' } }
    const kept = plan({ histories, columns: { sum_10h: columns.sum_10h }, vector: ['sum_10h'] }, inputs)
    const engine = new FeatureEngine({ plan: kept, store: await openStore() })
    await vectors(engine, 'payments', [...payments, { customer: 'a', amount: 1, timeMs: hour(48) }], { firstOffset: 0 })
    const asked = [{ customer: 'a', amount: 1000, timeMs: hour(2) }]
    expect(await vectors(engine, 'payments', asked, 'request')).toEqual([[1007]])
    expect(await vectors(engine, 'payments', asked, { firstOffset: 7 })).toEqual(['OUT_OF_RANGE'])
  })
})

test('A row that only cannot have a vector fails, and has happened all the same: later windows hold it, and given again at its position it counts once', async () => {
  const counted = plan(
    {
      histories: { customer: { input: 'payments', key: 'customer', values: ['amount'] } },
      columns: {
        count: { window: 'count', history: 'customer', length: '1d' },
        fit: { field: 'amount', steps: [{ range: { max: 10, else: 'fail' } }] },
      },
      vector: ['count', 'fit'],
    },
    inputs,
  )
  const engine = new FeatureEngine({ plan: counted, store: await openStore() })
  const events = [1, 11, 3].map((amount, index) => ({ customer: 'a', amount, timeMs: hour(index) }))
  expect(await vectors(engine, 'payments', events, { firstOffset: 0 })).toEqual([[1, 1], 'INVALID_ARGUMENT', [3, 3]])
  expect(await vectors(engine, 'payments', [{ ...events[1]!, amount: 2 }], { firstOffset: 1 })).toEqual([[2, 2]])
  expect(await vectors(engine, 'payments', [{ customer: 'a', amount: 4, timeMs: hour(3) }], { firstOffset: 3 })).toEqual([[4, 4]])
})

test('An engine whose plan has look-ups says so where they were not given', async () => {
  const lookups = { merchants: { file: 'm.csv', key: 'shop', values: { risk: 'number' } } }
  const of = plan({ lookups, columns: { risk: { lookup: 'merchants', of: 'risk' } }, vector: ['risk'] })
  const store = await openStore()
  expect(() => new FeatureEngine({ plan: of, store })).toThrow(/needs lookup "merchants"/)
})
