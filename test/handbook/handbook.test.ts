import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Batch, parseDurationMs, rowMeta, type Tensor } from '@spillway/core'
import { compileFeatures, EmbeddedHistoryStore, FeatureEngine, type FeatureInput, featuresSchema } from '@spillway/features'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { type Day, handbookDays, handbookFolder, hasReference, readDay } from './handbook-data.ts'
import { compareWithReference, comparisonText } from './reference.ts'

/**
 * The fraud features against reference data made with pandas: every transaction is replayed with its label, through the code that serves.
 * The definition is the one in the features' README.
 */
const folder = handbookFolder()
const days = handbookDays(folder)
if (days.length === 0) console.warn(`SKIPPED: no reference data in ${folder} (SPILLWAY_HANDBOOK names another folder)`)

const types = {
  transactions: { customer_id: 'integer', terminal_id: 'integer', amount: 'number', tx_datetime: 'timestamp' },
  labels: { terminal_id: 'integer', tx_datetime: 'timestamp', fraud: 'boolean' },
} as const

const inputs = new Map<string, FeatureInput>([
  [
    'transactions',
    { fields: new Map(Object.entries(types.transactions)), keyField: 'customer_id', latenessMs: parseDurationMs('7d'), predict: true },
  ],
  [
    'labels',
    { fields: new Map(Object.entries(types.labels)), keyField: 'terminal_id', latenessMs: parseDurationMs('30d'), predict: false },
  ],
])

function definitionInReadme(): unknown {
  const readme = readFileSync(join(import.meta.dirname, '../../libs/features/README.md'), 'utf8')
  const section = readme.split('```yaml').find((text) => text.trimStart().startsWith('features:'))
  return (parse(section!.split('```')[0]!) as { features: unknown }).features
}

function integers(values: Float64Array): Tensor {
  return { datatype: 'INT64', shape: [values.length], data: BigInt64Array.from(values, BigInt) }
}

function batchOf(input: string, day: Day, firstOffset: number): Batch {
  const rowCount = day.ids.length
  const meta = rowMeta(rowCount, {
    eventTimesMs: day.timesMs,
    topics: new Array<string>(rowCount).fill(input),
    partitions: new Int32Array(rowCount),
    offsets: BigInt64Array.from({ length: rowCount }, (_, row) => BigInt(firstOffset + row)),
  })
  const shape = [rowCount]
  const columns = new Map<string, Tensor>([
    ['customer_id', integers(day.customers)],
    ['terminal_id', integers(day.terminals)],
    ['amount', { datatype: 'FP64', shape, data: day.amounts }],
    ['tx_datetime', { datatype: 'FP64', shape, data: day.timesMs }],
    ['fraud', { datatype: 'BOOL', shape, data: day.frauds }],
  ])
  return { rowCount, meta, columns }
}

test.skipIf(days.length === 0)(
  'Given all transactions and labels, when they are replayed, then the 15 features are those that pandas computed',
  async () => {
    const plan = compileFeatures(featuresSchema.parse(definitionInReadme()), inputs)
    const store = new EmbeddedHistoryStore({ path: ':memory:' })
    await store.start(new AbortController().signal)
    const engine = new FeatureEngine({ plan, store })
    const vectors = new Map<number, Float32Array>()
    const replayed: Day[] = []
    const width = plan.vector.names.length
    let firstOffset = 0
    for (const name of days) {
      const day = readDay(folder, name)
      const { batch, failures } = await engine.compute(batchOf('transactions', day, firstOffset), 'transactions', 'stream')
      expect(failures).toEqual([])
      expect((await engine.compute(batchOf('labels', day, firstOffset), 'labels', 'stream')).failures).toEqual([])
      firstOffset += day.ids.length
      if (!hasReference(folder, name)) continue
      replayed.push(day)
      const data = batch.columns.get('features')!.data as Float32Array
      day.ids.forEach((id, row) => vectors.set(id, data.subarray(row * width, (row + 1) * width)))
    }
    await store.drain()
    const comparison = compareWithReference(folder, replayed, plan.vector.names, (transaction) => vectors.get(transaction))
    console.info(comparisonText('engine', comparison))
    expect(comparison.unexplained).toEqual([])
    expect(comparison.missing).toEqual([])
    expect(comparison.ties.size).toBeLessThanOrEqual(8)
    expect(comparison.compared).toBeGreaterThan(200_000)
  },
  60_000,
)
