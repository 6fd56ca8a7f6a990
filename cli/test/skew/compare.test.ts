import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { compare, type Comparison } from '../../src/skew/compare.ts'
import { openTable } from '../../src/tables/read-table.ts'
import type { TableColumn, TableFormat } from '../../src/tables/table.ts'
import { tableWriter } from '../../src/tables/write-table.ts'
import { spillway } from '../command.ts'

const folder = mkdtempSync(join(tmpdir(), 'spillway-skew-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

interface Row {
  readonly id: string
  readonly offset: number
  readonly amount: number
  readonly count: number
}

const columns: readonly TableColumn[] = [
  { name: 'id', kind: 'string', nullable: false },
  { name: 'topic', kind: 'string', nullable: false },
  { name: 'partition', kind: 'int64', nullable: false },
  { name: 'offset', kind: 'int64', nullable: false },
  { name: 'amount', kind: 'float', nullable: true },
  { name: 'count', kind: 'float', nullable: true },
]

let written = 0

async function table(rows: readonly Row[], definition = 'abc', format: TableFormat = 'parquet'): Promise<string> {
  const path = join(folder, `${written++}.${format}`)
  const writer = tableWriter(path, format, {
    columns,
    metadata: { 'spillway.definition': definition, 'spillway.features': '["amount","count"]' },
  })
  await writer.write({
    rowCount: rows.length,
    columns: [
      rows.map(({ id }) => id),
      rows.map(() => 'transactions'),
      BigInt64Array.from(rows, () => 0n),
      BigInt64Array.from(rows, ({ offset }) => BigInt(offset)),
      Float32Array.from(rows, ({ amount }) => amount),
      Float32Array.from(rows, ({ count }) => count),
    ],
  })
  await writer.finish()
  return path
}

async function compared(log: string, training: string, tolerance = 1e-6): Promise<Comparison> {
  return compare({ log: await openTable(log), training: await openTable(training), tolerance, limit: 3 })
}

const row = (id: number, change: Partial<Row> = {}): Row => ({ id: `t${id}`, offset: id, amount: id / 3, count: id % 7, ...change })
const rows = (count: number): Row[] => Array.from({ length: count }, (_, id) => row(id))

describe('comparison of what was served with what is trained on', () => {
  it('finds nothing where the rows are the same, in whatever order', async () => {
    const found = await compared(await table(rows(500).toReversed()), await table(rows(500)))
    expect(found).toMatchObject({ rowsCompared: 500, rowsThatDiffer: 0, skew: [], onlyInLog: { rows: 0 }, onlyInTraining: { rows: 0 } })
    expect(found.drift.map(({ stability }) => stability)).toEqual([0, 0])
  })

  it('says which features differ, in how many rows, by how much, and gives examples', async () => {
    const live = rows(100).map((own, id) => (id % 10 === 0 ? { ...own, count: own.count + 2 } : id === 55 ? { ...own, amount: NaN } : own))
    const found = await compared(await table(live), await table(rows(100)))
    expect(found.skew).toEqual([
      { feature: 'count', rows: 10, largest: 2 },
      { feature: 'amount', rows: 1, largest: NaN },
    ])
    expect(found.rowsThatDiffer).toBe(11)
    expect(found.examples).toEqual([
      { id: 't0', feature: 'count', live: 2, training: 0 },
      { id: 't10', feature: 'count', live: 5, training: 3 },
      { id: 't20', feature: 'count', live: 8, training: 6 },
    ])
  })

  it('names rows that only one of them has', async () => {
    const found = await compared(await table(rows(10).slice(2)), await table(rows(8)))
    expect([found.onlyInLog, found.onlyInTraining]).toEqual([
      { rows: 2, examples: ['t8', 't9'] },
      { rows: 2, examples: ['t0', 't1'] },
    ])
  })

  it('tells rows of one id apart by their position', async () => {
    const same = [row(1), row(1, { offset: 2, amount: 9 }), row(1, { offset: 3, amount: 8 })]
    const found = await compared(await table(same.toReversed()), await table(same))
    expect(found).toMatchObject({ rowsCompared: 3, rowsThatDiffer: 0, onlyInTraining: { rows: 0 } })
  })

  it('takes values within the tolerance for the same, relative where they are large', async () => {
    const log = await table([row(1, { amount: 1_000_001 })])
    const training = await table([row(1, { amount: 1_000_000 })])
    expect((await compared(log, training, 1e-5)).rowsThatDiffer).toBe(0)
    expect((await compared(log, training, 1e-7)).rowsThatDiffer).toBe(1)
  })

  it('tells of rows that were made by different definitions', async () => {
    const found = await compared(await table(rows(3), 'new'), await table(rows(3), 'old'))
    expect(found.definitions).toEqual({ log: { new: 3 }, training: { old: 3 } })
  })

  it('measures drift: deciles of training, missing values a bin of their own', async () => {
    const shifted = rows(1000).map((own) => ({ ...own, amount: own.amount + 100, count: Number(own.id.slice(1)) < 500 ? NaN : own.count }))
    const { drift } = await compared(await table(shifted), await table(rows(1000)))
    const [amount, count] = drift
    expect(amount!.training).toMatchObject({ rows: 1000, missingShare: 0, mean: expect.closeTo(166.5, 3) as number })
    expect(amount!.live.p50 - amount!.training.p50).toBeCloseTo(100, 3)
    // 300 of 1,000 rows left the three lowest deciles (100 each) and are in the highest: 3 * (0.0001 - 0.1) ln(0.001) + (0.4 - 0.1) ln(4).
    expect(amount!.stability).toBeCloseTo(3 * (0.1 - 0.0001) * Math.log(1000) + 0.3 * Math.log(4), 2)
    expect(count!.live.missingShare).toBe(0.5)
    expect(count!.stability).toBeGreaterThan(1)
  })
})

describe('spillway features diff', () => {
  it('ends with 0 without skew, 1 with it or with a drift that is asked about, 2 where nothing can be compared', async () => {
    const training = await table(rows(100))
    const [same, skewed, strange] = [await table(rows(100)), await table([row(1, { count: 6 })]), await table([row(1000)])]
    const run = async (...args: string[]): Promise<number | null> => (await spillway(['features', 'diff', ...args], folder)).code
    expect(await run(same, training)).toBe(0)
    expect(await run(skewed, training)).toBe(1)
    expect(await run(await table(rows(50)), training)).toBe(0)
    expect(await run(await table(rows(50)), training, '--fail-on-drift', '0.2')).toBe(1)
    expect(await run(strange, training)).toBe(2)
    expect(await run(join(folder, 'absent.parquet'), training)).toBe(2)
  })

  it('shows values as they were written', async () => {
    const [log, training] = [await table([row(1, { amount: 4.48 })]), await table([row(1, { amount: 0.1 })])]
    const { stdout } = await spillway(['features', 'diff', log, training], folder)
    expect(stdout).toMatch(/t1 +amount +4\.48 +0\.1\n/)
  })

  it('reads CSV, whose columns are its features but for a row’s own', async () => {
    const outcome = await spillway(['features', 'diff', await table(rows(5), '', 'csv'), await table(rows(5), '', 'csv'), '--json'], folder)
    expect(outcome.code, outcome.stderr).toBe(0)
    expect(JSON.parse(outcome.stdout)).toMatchObject({ features: ['amount', 'count'], rowsCompared: 5 })
  })
})
