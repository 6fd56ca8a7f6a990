import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Batch, parseDurationMs, rowMeta, type Tensor } from '@spillway/core'
import { compileFeatures, EmbeddedHistoryStore, FeatureEngine, type FeatureInput, featuresSchema } from '@spillway/features'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { type Day, handbookDays, handbookFolder, readDay, readReference } from './handbook-data.ts'

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

interface Mismatch {
  readonly transaction: number
  readonly customer: number
  readonly timeMs: number
  readonly feature: string
  readonly got: number
  readonly expected: number
}

/**
 * Means are FP32 here and 10 digits there, where the rolling sum leaves up to 1e-12 of what went out of the window behind; amounts are in cents, so no true
 * mean or share is below 1e-9. Counts and flags are equal or not.
 */
function agrees(got: number, expected: number): boolean {
  return Math.abs(got - expected) <= Math.max(1e-6 * Math.abs(expected), 1e-9)
}

function compare(day: Day, batch: Batch, names: readonly string[], reference: ReadonlyMap<number, readonly number[]>): Mismatch[] {
  const vector = batch.columns.get('features')!.data as Float32Array
  const mismatches: Mismatch[] = []
  for (let row = 0; row < batch.rowCount; row++) {
    const transaction = day.ids[row]!
    const expected = [day.amounts[row]!, ...reference.get(transaction)!]
    names.forEach((feature, index) => {
      const got = vector[row * names.length + index]!
      if (!agrees(got, expected[index]!))
        mismatches.push({ transaction, customer: day.customers[row]!, timeMs: day.timesMs[row]!, feature, got, expected: expected[index]! })
    })
  }
  return mismatches
}

test.skipIf(days.length === 0)(
  'Given all transactions and labels, when they are replayed, then the 15 features are those that pandas computed',
  async () => {
    const plan = compileFeatures(featuresSchema.parse(definitionInReadme()), inputs)
    const store = new EmbeddedHistoryStore({ path: ':memory:' })
    await store.start(new AbortController().signal)
    const engine = new FeatureEngine({ plan, store })
    const mismatches: Mismatch[] = []
    const tied = new Set<string>()
    let firstOffset = 0
    let compared = 0
    for (const name of days) {
      const day = readDay(folder, name)
      const { batch, failures } = await engine.compute(batchOf('transactions', day, firstOffset), 'transactions', 'stream')
      expect(failures).toEqual([])
      expect((await engine.compute(batchOf('labels', day, firstOffset), 'labels', 'stream')).failures).toEqual([])
      firstOffset += day.ids.length
      const reference = readReference(folder, name)
      if (reference === undefined) continue
      expect(reference.size).toBe(batch.rowCount)
      compared += batch.rowCount
      noteTies(day, tied)
      mismatches.push(...compare(day, batch, plan.vector.names, reference))
    }
    await store.drain()
    const rows = new Set(mismatches.map(({ transaction }) => transaction))
    console.info(`${firstOffset} transactions replayed, ${compared} compared, ${rows.size} differ`)
    // pandas sorts a customer's transactions of one second in no defined order; here the log's order decides.
    const unexplained = mismatches.filter(
      ({ customer, timeMs, feature }) => !(tied.has(`${customer}/${timeMs}`) && feature.startsWith('customer_')),
    )
    expect(unexplained).toEqual([])
    expect(rows.size).toBeLessThanOrEqual(8)
    expect(compared).toBeGreaterThan(200_000)
  },
  60_000,
)

/** Customers with more than one transaction in the same second. */
function noteTies(day: Day, tied: Set<string>): void {
  const seen = new Set<string>()
  day.ids.forEach((_, row) => {
    const at = `${day.customers[row]}/${day.timesMs[row]}`
    if (seen.has(at)) tied.add(at)
    seen.add(at)
  })
}
