import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { FeatureEngine } from '../src/mod.ts'
import { batchOf, dayMs, featureInput, hourMs, openStore, type Payment, plan, vectors } from './fixture.ts'

const latenessMs = 6 * hourMs
const inputs = new Map([
  [
    'payments',
    featureInput(
      { customer: 'string', shop: 'integer', amount: 'number', at: 'timestamp', channel: 'string', online: 'boolean' },
      { keyField: 'customer', timeField: 'at', latenessMs },
    ),
  ],
  [
    'labels',
    featureInput(
      { shop: 'integer', at: 'timestamp', fraud: 'boolean', amount: 'number', channel: 'string' },
      { keyField: 'shop', predict: false, latenessMs: 4 * dayMs },
    ),
  ],
])
const histories = {
  customer: { input: 'payments', key: 'customer', values: ['amount', 'channel', 'online'] },
  pair: { input: 'payments', key: ['customer', 'shop'], values: ['amount'] },
  shop: { input: 'labels', key: 'shop', values: ['channel', 'amount', 'fraud'] },
}
type Value = 'amount' | 'channel' | 'online' | 'fraud'
type Kind = 'count' | 'sum' | 'mean' | 'share' | 'min' | 'max' | 'distinct' | 'last' | 'sinceLast'

const made: readonly { kind: Kind; of?: Value; width?: number }[] = [
  { kind: 'count' },
  { kind: 'count', of: 'channel' },
  { kind: 'sum', of: 'amount' },
  { kind: 'mean', of: 'amount' },
  { kind: 'min', of: 'amount' },
  { kind: 'max', of: 'amount' },
  { kind: 'distinct', of: 'amount' },
  { kind: 'distinct', of: 'channel' },
  { kind: 'last', of: 'amount', width: 3 },
  { kind: 'last', of: 'amount' },
  { kind: 'sinceLast' },
  { kind: 'sinceLast', of: 'amount' },
]

interface Window {
  readonly name: string
  readonly history: keyof typeof histories
  readonly kind: Kind
  readonly of?: Value
  readonly width?: number
  readonly lengthMs: number
  readonly delayMs: number
  readonly current?: boolean
  readonly empty?: number
}

const spans = [
  { history: 'customer', lengthMs: 2 * hourMs, delayMs: 0 },
  { history: 'customer', lengthMs: 30 * hourMs, delayMs: 0 },
  { history: 'customer', lengthMs: 30 * hourMs, delayMs: 0, current: false, empty: -1 },
  { history: 'customer', lengthMs: 5 * hourMs, delayMs: 0, current: true },
  { history: 'customer', lengthMs: 5 * hourMs, delayMs: 3 * hourMs },
  { history: 'pair', lengthMs: 9 * hourMs, delayMs: 0 },
  { history: 'shop', lengthMs: 40 * hourMs, delayMs: 2 * hourMs },
  { history: 'shop', lengthMs: 4 * hourMs, delayMs: 2 * hourMs, empty: -5 },
] as const

const windows: readonly Window[] = [
  ...spans.flatMap((span) =>
    made
      .filter(({ of }) => span.history !== 'pair' || of === undefined || of === 'amount')
      .map((one) => ({
        ...span,
        ...one,
        name: `${span.history}_${span.lengthMs}_${span.delayMs}_${'current' in span ? span.current : ''}_${one.kind}_${one.of}_${one.width}`,
      })),
  ),
  { name: 'share', history: 'customer', kind: 'share', of: 'online', lengthMs: dayMs, delayMs: 0 },
  { name: 'frauds', history: 'shop', kind: 'share', of: 'fraud', lengthMs: dayMs, delayMs: hourMs },
]
const kindsPlan = plan(
  {
    histories,
    columns: Object.fromEntries(
      windows.map(({ name, history, kind, of, width, lengthMs, delayMs, current, empty }) => [
        name,
        {
          window: kind,
          history,
          length: `${lengthMs}ms`,
          delay: `${delayMs}ms`,
          ...(of !== undefined && { of }),
          ...(width !== undefined && { count: width }),
          ...(current !== undefined && { current }),
          ...(empty !== undefined && { empty }),
        },
      ]),
    ),
    vector: windows.map(({ name }) => name),
  },
  inputs,
)

/** Exact for numbers that are multiples of 2^-80. */
function exactSum(values: readonly number[]): number {
  return Number(values.reduce((sum, value) => sum + BigInt(value * 2 ** 80), 0n)) / 2 ** 80
}

function valueOf(event: Payment, of: Value | undefined): unknown {
  if (of === undefined) return 1
  if (of === 'channel') return event.channel === undefined || event.channel === '' ? NaN : event.channel
  return of === 'amount' ? event.amount : Number(event[of] ?? false)
}

/** By definition, and nothing else. @param before all events that the window may hold but the row itself, in the order of their offsets. */
function byDefinition(window: Window, row: Payment, before: readonly Payment[]): number[] {
  const { history, kind, of, lengthMs, delayMs, width = 1 } = window
  const newest = kind === 'last' || kind === 'sinceLast'
  const { current = !newest, empty = newest ? NaN : 0 } = window
  const until = row.timeMs - delayMs
  const all = history === 'shop' || !current ? before : [...before, row]
  const within = all
    .filter(
      (event) => (history !== 'shop' ? event.customer === row.customer : true) && (history !== 'customer' ? event.shop === row.shop : true),
    )
    .filter(({ timeMs }) => timeMs > until - lengthMs && timeMs <= until)
    .toSorted((a, b) => a.timeMs - b.timeMs)
  const present = within.filter((event) => !Number.isNaN(valueOf(event, of)))
  const values = present.map((event) => valueOf(event, of) as number)
  if (kind === 'last') return Array.from({ length: width }, (_, i) => values.at(-1 - i) ?? empty)
  if (values.length === 0) return [empty]
  switch (kind) {
    case 'count':
      return [values.length]
    case 'sum':
      return [exactSum(values)]
    case 'mean':
    case 'share':
      return [exactSum(values) / values.length]
    case 'min':
      return [Math.min(...values)]
    case 'max':
      return [Math.max(...values)]
    case 'distinct':
      return [new Set(values).size]
    case 'sinceLast':
      return [(row.timeMs - present.at(-1)!.timeMs) / 1000]
  }
}

/** What a slice of payments must give, given the payments and labels before it. */
function expected(slice: readonly Payment[], payments: readonly Payment[], labels: readonly Payment[]): (readonly number[] | string)[] {
  const accepted = [...payments]
  return slice.map((event) => {
    const isLate = (before: readonly Payment[]): boolean => before.some(({ timeMs }) => event.timeMs < timeMs - latenessMs)
    if (isLate(accepted.filter(({ customer }) => customer === event.customer))) return 'OUT_OF_RANGE'
    const vector = windows.flatMap((window) => byDefinition(window, event, window.history === 'shop' ? labels : accepted))
    accepted.push(event)
    return vector.map(Math.fround)
  })
}

const event = fc.record({
  customer: fc.constantFrom('a', 'ü'),
  shop: fc.constantFrom(1, 2),
  // Sums of these depend on their order, unless they are exact.
  amount: fc.oneof(
    { weight: 9, arbitrary: fc.integer({ min: -50_000, max: 50_000 }).map((n) => n / 1000) },
    { weight: 1, arbitrary: fc.constant(NaN) },
  ),
  channel: fc.constantFrom('', 'web', 'shop', 'büro', '店'),
  online: fc.boolean(),
  fraud: fc.boolean(),
  driftMs: fc.integer({ min: -7, max: 4 }).map((hours) => hours * hourMs),
})

const runs = fc.array(
  fc.record({
    input: fc.constantFrom('payments', 'payments', 'labels'),
    steps: fc.array(event, { minLength: 1, maxLength: 40 }),
    fate: fc.constantFrom('commit', 'commit', 'again', 'restart'),
  }),
  { minLength: 1, maxLength: 8 },
)

const folder = mkdtempSync(join(tmpdir(), 'features-kinds-'))
afterAll(() => rmSync(folder, { recursive: true }))

describe('Windows of every kind', () => {
  test.each([
    { tileSize: 2, cacheBytes: 4000 },
    { tileSize: Infinity, cacheBytes: undefined },
  ])('are what their definitions say, with slices given again and restarts: tiles of $tileSize', async ({ tileSize, cacheBytes }) => {
    let run = 0
    await fc.assert(
      fc.asyncProperty(runs, async (slices) => {
        const path = join(folder, `${tileSize}-${run++}.db`)
        let store = await openStore(path, cacheBytes, tileSize)
        let engine = new FeatureEngine({ plan: kindsPlan, store })
        let timeMs = 1000 * dayMs
        const taken = { payments: [] as Payment[], labels: [] as Payment[] }
        const offsets = { payments: 0, labels: 0 }
        for (const { input, steps, fate } of slices) {
          const name = input as 'payments' | 'labels'
          const slice = steps.map((step) => {
            const made = { ...step, timeMs: timeMs + step.driftMs }
            timeMs = Math.max(timeMs, made.timeMs)
            return made
          })
          const wanted = name === 'payments' ? expected(slice, taken.payments, taken.labels) : []
          for (let time = 0; time < (fate === 'commit' ? 1 : 2); time++) {
            if (time === 1 && fate === 'restart') {
              await store.drain()
              store = await openStore(path, cacheBytes, tileSize)
              engine = new FeatureEngine({ plan: kindsPlan, store })
            }
            const found = await vectors(engine, name, slice, { firstOffset: offsets[name] })
            expect(found).toEqual(wanted)
          }
          offsets[name] += slice.length
          taken[name].push(...slice.filter((_, row) => wanted[row] !== 'OUT_OF_RANGE'))
        }
        // A call reads, and sees itself and all there is up to its time.
        const call = { ...slices[0]!.steps[0]!, timeMs }
        const all = expected([call], taken.payments, taken.labels)
        expect(await vectors(engine, 'payments', [call, call], 'request')).toEqual([...all, ...all])
        await store.drain()
      }),
      { numRuns: 20 },
    )
  })
})

test('Keys of several fields are told apart by each of them', async () => {
  const pairs = plan(
    { histories: { pair: histories.pair }, columns: { n: { window: 'count', history: 'pair', length: '1d' } }, vector: ['n'] },
    inputs,
  )
  expect(pairs.histories[0]).toMatchObject({ keyFields: ['customer', 'shop'], owned: true })
  const engine = new FeatureEngine({ plan: pairs, store: await openStore() })
  const events = [
    { customer: 'a', shop: 1 },
    { customer: 'a', shop: 11 },
    { customer: 'a1', shop: 1 },
    { customer: 'a', shop: 1 },
    { customer: '', shop: 1 },
  ].map((one) => ({ ...one, timeMs: dayMs }))
  expect(await vectors(engine, 'payments', events, { firstOffset: 0 })).toEqual([[1], [1], [1], [2], 'INVALID_ARGUMENT'])
})

test('More different values than are counted exactly are estimated, the same whatever their order and tiles', async () => {
  const many = plan(
    {
      histories: { customer: { input: 'payments', key: 'customer', values: ['amount'] } },
      columns: { n: { window: 'distinct', of: 'amount', history: 'customer', length: '30d' } },
      vector: ['n'],
    },
    inputs,
  )
  const events = Array.from({ length: 1500 }, (_, i) => ({ amount: i * 1.1, timeMs: dayMs + i }))
  const found: number[] = []
  for (const [tileSize, order] of [
    [2, events],
    [64, events.toReversed()],
    [Infinity, events],
  ] as const) {
    const engine = new FeatureEngine({ plan: many, store: await openStore(':memory:', undefined, tileSize) })
    for (let at = 0; at < order.length; at += 500)
      await engine.compute(batchOf('payments', order.slice(at, at + 500), at), 'payments', 'stream')
    const [answer] = await vectors(engine, 'payments', [{ amount: 0, timeMs: 2 * dayMs }], 'request')
    found.push((answer as number[])[0]!)
  }
  expect(new Set(found).size).toBe(1)
  expect(Math.abs(found[0]! - 1500) / 1500).toBeLessThan(0.05)
})
