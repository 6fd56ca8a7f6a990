import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { asyncBufferFromFile, parquetMetadataAsync } from 'hyparquet'
import { afterAll, describe, expect, it } from 'vitest'
import { openTable } from '../../src/tables/read-table.ts'
import { type TableFormat, tableFormats, type TableRows, type TableSchema } from '../../src/tables/table.ts'
import { tableWriter } from '../../src/tables/write-table.ts'

const folder = mkdtempSync(join(tmpdir(), 'spillway-tables-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const schema: TableSchema = {
  columns: [
    { name: 'id', kind: 'string', nullable: false },
    { name: 'note', kind: 'string', nullable: true },
    { name: 'offset', kind: 'int64', nullable: false },
    { name: 'maybe', kind: 'int64', nullable: true },
    { name: 'amount', kind: 'float', nullable: true },
    { name: 'exact', kind: 'double', nullable: true },
    { name: 'fraud', kind: 'boolean', nullable: true },
    { name: 'event_time', kind: 'timestamp', nullable: false },
  ],
  metadata: { pipeline: 'fraud', release: '7' },
}

interface Row {
  readonly id: string
  readonly note: string | null
  readonly offset: bigint
  readonly maybe: bigint | null
  readonly amount: number
  readonly exact: number
  readonly fraud: boolean | null
  readonly timeMs: number
}

const anyRow: fc.Arbitrary<Row> = fc.record({
  id: fc.string({ unit: 'grapheme', minLength: 1 }),
  note: fc.option(fc.string({ unit: 'grapheme', minLength: 1 })),
  offset: fc.bigInt(0n, 2n ** 63n - 1n),
  maybe: fc.option(fc.bigInt(-(2n ** 53n) + 1n, 2n ** 53n - 1n)),
  amount: fc.float({ noDefaultInfinity: true }),
  exact: fc.double({ noDefaultInfinity: true }),
  fraud: fc.option(fc.boolean()),
  timeMs: fc.integer({ min: 0, max: 4_000_000_000_000 }),
})

function tableRows(rows: readonly Row[]): TableRows {
  return {
    rowCount: rows.length,
    columns: [
      rows.map((row) => row.id),
      rows.map((row) => row.note),
      BigInt64Array.from(rows, (row) => row.offset),
      rows.map((row) => row.maybe),
      Float32Array.from(rows, (row) => row.amount),
      Float64Array.from(rows, (row) => row.exact),
      rows.map((row) => row.fraud),
      Float64Array.from(rows, (row) => row.timeMs),
    ],
  }
}

async function write(path: string, format: TableFormat, batches: readonly (readonly Row[])[]): Promise<void> {
  const writer = tableWriter(path, format, schema)
  for (const batch of batches) await writer.write(tableRows(batch))
  expect(existsSync(path)).toBe(false)
  await writer.finish()
}

async function readBack(path: string): Promise<Record<string, unknown>[]> {
  const table = await openTable(path)
  const rows: Record<string, unknown>[] = []
  const numbers = ['maybe', 'amount', 'exact', 'fraud', 'event_time']
  for await (const batch of table.read({ texts: ['id', 'note', 'offset'], numbers }))
    for (let row = 0; row < batch.rowCount; row++)
      rows.push(
        Object.fromEntries([
          ...[...batch.texts].map(([name, values]) => [name, values[row]]),
          ...[...batch.numbers].map(([name, values]) => [name, values[row]]),
        ]),
      )
  return rows
}

function expected(row: Row): Record<string, unknown> {
  const number = (value: number | bigint | boolean | null): number => (value === null ? NaN : Number(value))
  return {
    id: row.id,
    note: row.note ?? '',
    offset: String(row.offset),
    maybe: number(row.maybe),
    amount: plain(row.amount),
    exact: plain(row.exact),
    fraud: number(row.fraud),
    event_time: row.timeMs,
  }
}

/** Text knows no negative zero worth the name. */
const plain = (value: number): number => (value === 0 ? 0 : value)

describe.each(tableFormats)('%s', (format) => {
  it('gives back what was written, batch after batch', async () => {
    let count = 0
    const batches = fc.array(fc.array(anyRow, { maxLength: 20 }), { minLength: 1, maxLength: 5 }).filter((all) => all.flat().length > 0)
    await fc.assert(
      fc.asyncProperty(batches, async (given) => {
        const path = join(folder, `${count++}.${format}`)
        await write(path, format, given)
        const read = await readBack(path)
        // An FP32 number may be written as a shorter one that is nearest to it.
        const held = read.map((row) => ({
          ...row,
          amount: plain(Math.fround(row['amount'] as number)),
          exact: plain(row['exact'] as number),
        }))
        expect(held).toEqual(given.flat().map(expected))
      }),
      { numRuns: 40 },
    )
  })

  it('leaves nothing behind where it is abandoned', async () => {
    const path = join(folder, `abandoned.${format}`)
    const writer = tableWriter(path, format, schema)
    await writer.write(tableRows([sample(1)]))
    await writer.abandon()
    expect(readdirSync(folder).filter((name) => name.includes('abandoned'))).toEqual([])
  })
})

function sample(row: number): Row {
  return { id: `${row}`, note: null, offset: BigInt(row), maybe: null, amount: row / 3, exact: row / 7, fraud: row % 2 === 0, timeMs: row }
}

it('writes Parquet in row groups of bounded size, typed, with what the table says of itself', async () => {
  const path = join(folder, 'large.parquet')
  const rows = Array.from({ length: 150_000 }, (_, row) => sample(row))
  await write(path, 'parquet', [rows.slice(0, 70_000), rows.slice(70_000, 70_001), rows.slice(70_001)])
  const metadata = await parquetMetadataAsync(await asyncBufferFromFile(path))
  expect(metadata.row_groups.map((group) => Number(group.num_rows))).toEqual([70_000, 80_000])
  expect(
    metadata.schema.slice(1).map(({ name, type, converted_type, repetition_type }) => [name, type, converted_type, repetition_type]),
  ).toEqual([
    ['id', 'BYTE_ARRAY', 'UTF8', 'REQUIRED'],
    ['note', 'BYTE_ARRAY', 'UTF8', 'OPTIONAL'],
    ['offset', 'INT64', undefined, 'REQUIRED'],
    ['maybe', 'INT64', undefined, 'OPTIONAL'],
    ['amount', 'FLOAT', undefined, 'REQUIRED'],
    ['exact', 'DOUBLE', undefined, 'REQUIRED'],
    ['fraud', 'BOOLEAN', undefined, 'OPTIONAL'],
    ['event_time', 'INT64', 'TIMESTAMP_MILLIS', 'REQUIRED'],
  ])
  expect((await openTable(path)).metadata).toEqual(schema.metadata)
  expect((await readBack(path))[149_999]).toEqual(expected({ ...sample(149_999), amount: Math.fround(149_999 / 3) }))
})

it('ends an NDJSON line at a line feed alone', async () => {
  const path = join(folder, 'separators.ndjson')
  const row = { ...sample(1), id: 'a\u2028b\u2029c\u0085d\re' }
  await write(path, 'ndjson', [[row]])
  expect(await readBack(path)).toMatchObject([{ id: row.id }])
})

it('writes CSV as RFC 4180 asks, FP32 numbers in the fewest digits', async () => {
  const path = join(folder, 'quoted.csv')
  const row = { ...sample(1), id: 'a "b", c\nd', amount: Math.fround(0.1), timeMs: Date.UTC(2018, 3, 1) }
  await write(path, 'csv', [[row]])
  expect(readFileSync(path, 'utf8')).toBe(
    'id,note,offset,maybe,amount,exact,fraud,event_time\n"a ""b"", c\nd",,1,,0.1,0.14285714285714285,false,2018-04-01T00:00:00.000Z\n',
  )
})

it('says what is wrong with a file that is no table', async () => {
  const path = join(folder, 'broken.parquet')
  writeFileSync(path, 'no parquet')
  await expect(openTable(path)).rejects.toThrow(/broken\.parquet: cannot be read as Parquet/)
  await expect(openTable(join(folder, 'absent.csv'))).rejects.toThrow(/absent\.csv: there is no such file/)
  const text = join(folder, 'table.txt')
  writeFileSync(text, 'a,b\n')
  await expect(openTable(text)).rejects.toThrow(/ends in \.parquet, \.csv or \.ndjson/)
})
