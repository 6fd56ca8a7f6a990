import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
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
const kinds = ['count', 'sum', 'mean', 'min', 'max'] as const
const spans = [
  { length: '2h', delay: '0h', lengthMs: 2 * hourMs, delayMs: 0 },
  { length: '10h', delay: '0h', lengthMs: 10 * hourMs, delayMs: 0 },
  { length: '5h', delay: '3h', lengthMs: 5 * hourMs, delayMs: 3 * hourMs },
] as const
const columns = Object.fromEntries(
  spans.flatMap(({ length, delay }) =>
    kinds.map((window) => [
      `${window}_${length}`,
      { window, history: 'customer', length, delay, ...(window !== 'count' && { of: 'amount' }) },
    ]),
  ),
)
const windowPlan = plan(
  { histories: { customer: { input: 'payments', key: 'customer', values: ['amount'] } }, columns, vector: Object.keys(columns) },
  inputs,
)

/** By definition, and nothing else: what a row's vector must be, given all that was accepted before it. */
function byDefinition(events: readonly Payment[]): (readonly number[] | string)[] {
  const accepted: Payment[] = []
  return events.map((event) => {
    const before = accepted.filter(({ customer }) => customer === event.customer)
    if (before.some(({ timeMs }) => event.timeMs < timeMs - latenessMs)) return 'OUT_OF_RANGE'
    accepted.push(event)
    return spans.flatMap(({ lengthMs, delayMs }) => {
      const until = event.timeMs - delayMs
      const within = [...before, event].filter(({ timeMs }) => timeMs > until - lengthMs && timeMs <= until)
      const values = within.map(({ amount }) => amount!).filter((amount) => !Number.isNaN(amount))
      const sum = values.reduce((total, value) => total + value, 0)
      const some = values.length > 0
      return [within.length, sum, some ? sum / values.length : 0, some ? Math.min(...values) : 0, some ? Math.max(...values) : 0].map(
        (value) => Math.fround(value),
      )
    })
  })
}

// Whole hours, so that events meet each other and the windows' edges; whole amounts, so that sums are exact in any order.
const payment = fc.record({
  customer: fc.constantFrom('a', 'b', 'ü'),
  amount: fc.oneof({ weight: 9, arbitrary: fc.integer({ min: -50, max: 50 }) }, { weight: 1, arbitrary: fc.constant(NaN) }),
  driftMs: fc.integer({ min: -7, max: 12 }).map((hours) => hours * hourMs),
})

/** Event time goes on in hops, back and forth; now and then too far back. */
const stream = fc.array(payment, { minLength: 1, maxLength: 80 }).map((steps) => {
  let timeMs = 1_000 * dayMs
  return steps.map(({ customer, amount, driftMs }) => {
    const event = { customer, amount, timeMs: timeMs + driftMs }
    timeMs = Math.max(timeMs, event.timeMs)
    return event
  })
})

test('Given events in any order, when they pass in one slice, then every window is what its definition says', async () => {
  await fc.assert(
    fc.asyncProperty(stream, async (events) => {
      const engine = new FeatureEngine({ plan: windowPlan, store: await openStore() })
      expect(await vectors(engine, 'payments', events, { firstOffset: 5 })).toEqual(byDefinition(events))
    }),
    { numRuns: 150 },
  )
})

/** A run of the processor: how many events each slice takes, and what becomes of it. */
const fates = fc.array(fc.record({ size: fc.integer({ min: 1, max: 25 }), fate: fc.constantFrom('commit', 'again', 'again', 'restart') }), {
  minLength: 1,
  maxLength: 12,
})

test('Given slices that are cut anyhow and given again, with restarts and a tiny cache, then every window is still what its definition says', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'features-'))
  let run = 0
  await fc.assert(
    fc.asyncProperty(stream, fates, async (events, slices) => {
      const path = join(folder, `${run++}.db`)
      const expected = byDefinition(events)
      // Whatever is left at the end is taken whole, twice.
      let store = await openStore(path, 3000)
      let engine = new FeatureEngine({ plan: windowPlan, store })
      let committed = 0
      for (const { size, fate } of [...slices, { size: events.length, fate: 'again' }, { size: events.length, fate: 'commit' }]) {
        const slice = events.slice(committed, committed + size)
        if (slice.length === 0) break
        expect(await vectors(engine, 'payments', slice, { firstOffset: committed })).toEqual(expected.slice(committed, committed + size))
        if (fate === 'commit') committed += slice.length
        if (fate !== 'restart') continue
        await store.drain()
        store = await openStore(path, 3000)
        engine = new FeatureEngine({ plan: windowPlan, store })
      }
      await store.drain()
    }),
    { numRuns: 60 },
  )
  rmSync(folder, { recursive: true })
})

describe('A call', () => {
  const events: Payment[] = [
    { customer: 'a', amount: 10, timeMs: 1000 * dayMs },
    { customer: 'a', amount: 20, timeMs: 1000 * dayMs + 3 * hourMs },
    { customer: 'a', amount: 40, timeMs: 1000 * dayMs + 5 * hourMs },
  ]
  const columnsOf = {
    count: { window: 'count', history: 'customer', length: '10h' },
    sum: { window: 'sum', of: 'amount', history: 'customer', length: '10h' },
  }
  const callPlan = plan(
    { histories: { customer: { input: 'payments', key: 'customer', values: ['amount'] } }, columns: columnsOf, vector: ['count', 'sum'] },
    inputs,
  )

  test('sees itself and what the store holds up to its time, not the other rows of the call, and leaves nothing behind', async () => {
    const engine = new FeatureEngine({ plan: callPlan, store: await openStore() })
    await vectors(engine, 'payments', events, { firstOffset: 0 })
    const asked = [
      { customer: 'a', amount: 100, timeMs: events[1]!.timeMs },
      { customer: 'a', amount: 200, timeMs: events[2]!.timeMs },
      { customer: 'b', amount: 5, timeMs: events[2]!.timeMs },
      { customer: 'a', amount: 5, timeMs: events[2]!.timeMs - latenessMs - 1 },
    ]
    const answers = [[3, 130], [4, 270], [1, 5], 'OUT_OF_RANGE']
    expect(await vectors(engine, 'payments', asked, 'request')).toEqual(answers)
    expect(await vectors(engine, 'payments', asked, 'request')).toEqual(answers)
  })

  test('of an input that only feeds histories has no answer', async () => {
    const engine = new FeatureEngine({ plan: callPlan, store: await openStore() })
    expect(await engine.compute(batchOf('labels', events), 'labels', 'request')).toMatchObject({ batch: { rowCount: 0 }, failures: [] })
  })
})

describe('A history of another input', () => {
  const delayed = { history: 'shop', length: '1d', delay: '1d' }
  const shopColumns = { labels: { window: 'count', ...delayed }, frauds: { window: 'share', of: 'fraud', ...delayed, empty: -1 } }
  const shopPlan = plan(
    { histories: { shop: { input: 'labels', key: 'shop', values: ['fraud'] } }, columns: shopColumns, vector: ['labels', 'frauds'] },
    inputs,
  )
  const nowMs = 1000 * dayMs

  test('is looked up by time alone, a delay ago; empty is what the definition says', async () => {
    const engine = new FeatureEngine({ plan: shopPlan, store: await openStore() })
    const labels = [-2 * dayMs, -2 * dayMs + 1, -dayMs, -dayMs + 1].map((agoMs, index) => ({
      shop: 7,
      timeMs: nowMs + agoMs,
      fraud: index === 1,
    }))
    await vectors(engine, 'labels', labels, { firstOffset: 0 })
    const payments = [7, 8].map((shop) => ({ shop, timeMs: nowMs }))
    expect(await vectors(engine, 'payments', payments, { firstOffset: 0 })).toEqual([
      [2, 0.5],
      [0, -1],
    ])
  })

  test('that is no longer kept so far back is not guessed at', async () => {
    const engine = new FeatureEngine({ plan: shopPlan, store: await openStore() })
    await vectors(engine, 'labels', [{ shop: 7, timeMs: nowMs + 100 * dayMs, fraud: false }], { firstOffset: 0 })
    expect(
      await vectors(
        engine,
        'payments',
        [
          { shop: 7, timeMs: nowMs },
          { shop: 8, timeMs: nowMs },
        ],
        { firstOffset: 0 },
      ),
    ).toEqual(['OUT_OF_RANGE', [0, -1]])
  })
})

describe('A row that cannot be computed', () => {
  test('names what is wrong, harms no neighbour and is in no history', async () => {
    const engine = new FeatureEngine({ plan: windowPlan, store: await openStore() })
    const nowMs = Date.parse('2018-04-10T00:00:00Z')
    const events = [
      { customer: 'a', amount: 1, timeMs: nowMs },
      { customer: 'a', amount: 1, timeMs: nowMs - 26 * hourMs },
      { customer: '', amount: 1, timeMs: nowMs },
      { customer: 'a', amount: 1e300, timeMs: nowMs },
      { customer: 'a', amount: 1, timeMs: NaN },
      { customer: 'a', amount: 2, timeMs: nowMs },
    ]
    const { batch, failures } = await engine.compute(batchOf('payments', events, 0), 'payments', 'stream')
    expect(failures.map(({ row, error }) => [row, error.code, error.field])).toEqual([
      [1, 'OUT_OF_RANGE', 'at'],
      [2, 'INVALID_ARGUMENT', 'customer'],
      [3, 'OUT_OF_RANGE', 'amount'],
      [4, 'INVALID_ARGUMENT', 'at'],
    ])
    expect(failures[0]!.error.message).toBe(
      'at is 2018-04-08T22:00:00.000Z, 1d 2h before the newest event of customer a (2018-04-10T00:00:00.000Z): this input accepts up to 6h',
    )
    expect(batch.meta.offsets).toEqual(BigInt64Array.of(0n, 5n))
    expect((batch.columns.get('features')!.data as Float32Array)[windowPlan.vector.width]).toBe(2)
  })
})
