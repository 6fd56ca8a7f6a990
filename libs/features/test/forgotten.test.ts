import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { FeatureEngine } from '../src/mod.ts'
import { batchOf, dayMs, featureInput, hourMs, openStore, type Payment, plan, vectors } from './fixture.ts'

const folder = mkdtempSync(join(tmpdir(), 'feature-forgotten-'))
afterAll(() => rmSync(folder, { recursive: true }))

const inputs = new Map([
  [
    'payments',
    featureInput({ customer: 'string', shop: 'integer', at: 'timestamp' }, { keyField: 'customer', timeField: 'at', latenessMs: hourMs }),
  ],
])
const section = {
  histories: { customer: { input: 'payments', key: 'customer', values: [] } },
  columns: { n: { window: 'count', history: 'customer', length: '1d' } },
  vector: ['n'],
}
const sliceRows = 50
/** One an hour, over sixty days. */
const events: readonly Payment[] = Array.from({ length: 60 * 24 }, (_, hour) => ({ customer: 'c', timeMs: 1000 * dayMs + hour * hourMs }))

describe('Given a topic that is read from its beginning again, on histories that let its oldest events go', () => {
  test.each([{ cacheBytes: 1 }, { cacheBytes: undefined }])('then every row is what it was ($cacheBytes)', async ({ cacheBytes }) => {
    const path = join(folder, `again-${cacheBytes}.db`)
    let store = await openStore(path, cacheBytes)
    const run = async (): Promise<(readonly number[] | string)[]> => {
      const engine = new FeatureEngine({ plan: plan(section, inputs), store })
      const found = []
      for (let offset = 0; offset < events.length; offset += sliceRows)
        found.push(...(await vectors(engine, 'payments', events.slice(offset, offset + sliceRows), { firstOffset: offset })))
      return found
    }
    const first = await run()
    expect(first).toEqual(events.map((_, hour) => [Math.min(24, hour + 1)]))
    for (let round = 0; round < 2; round++) {
      await store.drain()
      store = await openStore(path, cacheBytes)
      const again = await run()
      expect(again).toEqual(first)
    }
    await store.drain()
  })
})

describe('A history of the input itself by another key than the partition’s', () => {
  const byShop = {
    histories: { shop: { input: 'payments', key: 'shop', values: [] } },
    columns: { n: { window: 'count', history: 'shop', length: '1d', delay: '8d' } },
    vector: ['n'],
  }

  test('keeps what a partition may need that is behind another by the largest skew', () => {
    expect(plan(byShop, inputs).histories[0]!.retentionMs).toBe(9 * dayMs + hourMs + 7 * dayMs)
  })

  test('has no number for a row whose partition is further behind than that', async () => {
    const store = await openStore()
    const engine = new FeatureEngine({ plan: plan(byShop, inputs), store })
    for (let offset = 0; offset < events.length; offset += sliceRows)
      await vectors(engine, 'payments', events.slice(offset, offset + sliceRows), { firstOffset: offset })
    const late = batchOf(
      'payments',
      [
        { ...events[10 * 24]!, customer: 'other' },
        { ...events.at(-1)!, customer: 'other' },
      ],
      0,
    )
    const { batch, failures } = await engine.compute(
      { ...late, meta: { ...late.meta, partitions: Int32Array.of(1, 1) } },
      'payments',
      'stream',
    )
    expect(failures.map(({ row, error }) => [row, error.code])).toEqual([[0, 'OUT_OF_RANGE']])
    expect([...(batch.columns.get('features')!.data as Float32Array)]).toEqual([24])
  })
})

test('Histories that inputs look up are kept for as much skew as an alignment that goes by the delay allows', () => {
  const both = new Map([
    ...inputs,
    [
      'labels',
      featureInput({ shop: 'integer', at: 'timestamp' }, { keyField: 'shop', timeField: 'at', latenessMs: hourMs, predict: false }),
    ],
  ])
  const { histories } = plan(
    {
      histories: { shop: { input: 'labels', key: 'shop', values: [] } },
      columns: { n: { window: 'count', history: 'shop', length: '1d', delay: '60d' } },
      vector: ['n'],
    },
    both,
  )
  expect(histories[0]!.retentionMs).toBe(61 * dayMs + hourMs + 15 * dayMs)
})
