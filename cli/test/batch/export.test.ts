import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import type { PlayEvent } from '@spillway/example-fraud'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openTable } from '../../src/tables/read-table.ts'
import { Command, examplePipeline, spillway } from '../command.ts'
import { filesIn, killedMidway, playedDays, rowsOf, writeInputs } from './fixture.ts'

const days = 150
const folder = mkdtempSync(join(tmpdir(), 'spillway-export-'))
let events: readonly PlayEvent[]
let inputs: readonly string[]
let reference: readonly string[]

const place = (name: string): string => join(folder, name)
const base = ['features', 'export', '--pipeline', examplePipeline]
const labelled = ['--fields', 'customer_id', '--label', 'labels.fraud', '--on', 'transaction_id']

async function exported(...args: readonly string[]): Promise<string> {
  const { code, stderr } = await spillway([...base, ...args], folder)
  expect(code, stderr).toBe(0)
  return stderr
}

beforeAll(async () => {
  events = playedDays(days)
  inputs = writeInputs(place('in'), events)
  await exported(...inputs, ...labelled, '--out', place('reference.parquet'))
  reference = await rowsOf(place('reference.parquet'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe('spillway features export', () => {
  it('writes a row a transaction, with its fields, its vector and the label that is known of it', async () => {
    const transactions = events.filter(({ topic }) => topic === 'transactions')
    const labels = new Map(
      events.filter(({ topic }) => topic === 'labels').map(({ transaction }) => [transaction.transactionId, transaction]),
    )
    const table = await openTable(place('reference.parquet'))
    const seen: unknown[] = []
    for await (const rows of table.read({ texts: ['id', 'key'], numbers: ['event_time', 'offset', 'customer_id', 'amount', 'fraud'] }))
      for (let row = 0; row < rows.rowCount; row++)
        seen.push([...rows.texts.values(), ...rows.numbers.values()].map((values) => values[row]))
    expect(seen).toEqual(
      transactions.map(({ transaction: { transactionId, customerId, timeMs, amount } }, row) => {
        const fraud = labels.get(transactionId)?.fraud
        const label = fraud === undefined ? NaN : Number(fraud)
        return [String(transactionId), String(customerId), timeMs, row, customerId, Math.fround(amount), label]
      }),
    )
    expect(table.metadata).toMatchObject({ 'spillway.pipeline': 'fraud', 'spillway.release': '1', 'spillway.label': 'labels.fraud' })
    expect(JSON.parse(table.metadata['spillway.features']!)).toHaveLength(15)
  })

  it('writes the same rows as CSV and as NDJSON', async () => {
    for (const format of ['csv', 'ndjson']) {
      await exported(...inputs, ...labelled, '--out', place(`same.${format}`))
      const { code, stdout } = await spillway(['features', 'diff', place(`same.${format}`), place('reference.parquet'), '--json'], folder)
      expect([code, JSON.parse(stdout)]).toMatchObject([0, { rowsCompared: reference.length, onlyInTraining: { rows: 0 } }])
    }
  })

  it('gives rows of a range the histories of all that came before it', async () => {
    await exported(...inputs, ...labelled, '--from', '2018-06-01', '--to', '2018-06-03T12:00:00Z', '--out', place('range.parquet'))
    const inRange = reference.filter((row) => row.split('|')[2]! >= '2018-06-01' && row.split('|')[2]! < '2018-06-03T12:00:00Z')
    expect(inRange.length).toBeGreaterThan(100)
    expect(await rowsOf(place('range.parquet'))).toEqual(inRange)
  })

  it('joins only labels that had arrived by a time: nothing where none had', async () => {
    const knownBy = '2018-05-01'
    await exported(...inputs, ...labelled, '--known-by', knownBy, '--out', place('known.parquet'))
    const without = reference.map((row) =>
      row.split('|')[2]! <= `${knownBy}T00:00:00.000Z` ? row : `${row.slice(0, row.lastIndexOf('|'))}|`,
    )
    expect(await rowsOf(place('known.parquet'))).toEqual(without)
  })

  it.each(['SIGKILL', 'SIGINT'] as const)('goes on after %s, and has each row once', async (signal) => {
    const [out, work] = [place(`${signal}-parts`), place(`${signal}-work`)]
    const args = [...base, ...inputs, ...labelled, '--out', out, '--work', work, '--checkpoint-every', '100ms']
    expect(await killedMidway(args, folder, work, signal), 'the run was over before it was stopped').toBe(true)
    expect(existsSync(join(out, '_table.json'))).toBe(false)
    await exported(...args.slice(base.length))
    expect(await rowsOf(out)).toEqual(reference)
    expect([existsSync(work), existsSync(join(out, '_table.json'))]).toEqual([false, true])
  })

  it('goes on with a single file, which appears when it is whole', async () => {
    const [out, work] = [place('whole.parquet'), place('whole.work')]
    const args = [...inputs, ...labelled, '--out', out, '--work', work, '--checkpoint-every', '100ms']
    for (let kill = 0; kill < 2; kill++) {
      await killedMidway([...base, ...args], folder, work)
      expect(existsSync(out)).toBe(false)
    }
    await exported(...args)
    expect(await rowsOf(out)).toEqual(reference)
  })

  it('leaves nothing behind where it is stopped without a work folder', async () => {
    const out = place('stopped')
    const command = new Command([...base, ...inputs, '--out', out, '--checkpoint-every', '50ms'], folder)
    for (const endMs = Date.now() + 20_000; Date.now() < endMs && filesIn(out).length === 0;) await wait(2)
    expect(await command.stop('SIGINT')).toBe(130)
    expect(filesIn(out)).toEqual([])
  })

  it('puts rows that cannot be processed aside, each with why, whether the run was stopped or not', async () => {
    const bad = writeInputs(place('bad'), events)
    const late = { transaction_id: 9_000_001, customer_id: 1, terminal_id: 1, amount: 5, tx_datetime: '2018-04-01T00:00:00Z' }
    appendFileSync(place('bad/transactions.ndjson'), `{"transaction_id":9000000}\nno json\n${JSON.stringify(late)}\n`)
    const [out, work] = [place('bad.parquet'), place('bad.work')]
    const args = [...base, ...bad, ...labelled, '--out', out, '--work', work, '--checkpoint-every', '100ms']
    await killedMidway(args, folder, work)
    const summary = await exported(...args.slice(base.length))
    expect(summary).toMatch(/rejected 3/)
    expect(await rowsOf(out)).toEqual(reference)
    const rejected = readFileSync(`${out}.rejected.ndjson`, 'utf8').trimEnd().split('\n')
    const found = rejected.map((line) => JSON.parse(line) as { offset: number }).sort((a, b) => a.offset - b.offset)
    expect(found).toEqual([
      expect.objectContaining({ code: 'INVALID_ARGUMENT', offset: reference.length, event: '{"transaction_id":9000000}' }),
      expect.objectContaining({ code: 'INVALID_ARGUMENT', offset: reference.length + 1, event: 'no json' }),
      expect.objectContaining({ code: 'OUT_OF_RANGE', id: '9000001', field: 'tx_datetime' }),
    ])
  })
})

describe('what is wrong is said in a line, with exit code 2', () => {
  it.each([
    [['--out', 'x.parquet'], /say where to read: --bus kafka:\/\/host:port, or --input transactions=FILE --input labels=FILE/],
    [['--input', 'transactions=in/transactions.ndjson', '--out', 'x.csv'], /give --input labels=FILE too/],
    [['--input', 'cards=x', '--out', 'x.csv'], /the pipeline has no input "cards": it has transactions, labels/],
    [['INPUTS', '--out', 'x.csv', '--format', 'parquet'], /is a csv file by its name, --format says parquet/],
    [
      ['INPUTS', '--out', 'x.xlsx'],
      /--out x\.xlsx: a file's name ends in \.parquet, \.csv, \.ndjson or \.jsonl; write x\.xlsx\/ for a folder/,
    ],
    [['INPUTS', '--out', 'x.csv.gz'], /--out x\.csv\.gz: a file's name ends in \.parquet, \.csv/],
    [['INPUTS', '--out', 'x.csv', '--fields', 'colour'], /input "transactions" has no field "colour": choose among transaction_id/],
    [['INPUTS', '--out', 'x.csv', '--fields', 'amount'], /two columns called "amount"/],
    [['INPUTS', '--out', 'x.csv', '--label', 'fraud'], /expected input\.field/],
    [['INPUTS', '--out', 'x.csv', '--label', 'labels.fraud', '--on', 'customer_id'], /input "labels" has no field "customer_id"/],
    [['INPUTS', '--out', 'x.csv', '--from', 'May'], /"May" is no time/],
    [['--input', 'transactions=absent', '--input', 'labels=absent', '--out', 'x.csv'], /there is no file absent/],
  ])('%j', async (args, message) => {
    const outcome = await spillway([...base, ...args.flatMap((arg) => (arg === 'INPUTS' ? inputs : [arg]))], folder)
    expect([outcome.code, outcome.stderr]).toEqual([2, expect.stringMatching(message)])
    expect(readdirSync(folder).filter((name) => name.startsWith('x.'))).toEqual([])
  })

  it('where the folder of a feature log has a file’s name', async () => {
    const args = ['features', 'log', '--pipeline', examplePipeline, '--bus', 'kafka://127.0.0.1:1']
    const { code, stderr } = await spillway([...args, '--out', 'x.parquet'], folder)
    expect([code, stderr]).toEqual([2, expect.stringMatching(/--out x\.parquet: is a folder of part files, whose kind --format says: /)])
    expect(existsSync(place('x.parquet'))).toBe(false)
  })

  it('refuses a work folder of another run, and a folder of another run’s parts', async () => {
    const [out, work] = [place('other'), place('other.work')]
    const args = [...base, ...inputs, '--out', out, '--work', work, '--checkpoint-every', '100ms']
    await killedMidway(args, folder, work)
    const changed = await spillway([...args, '--from', '2018-05-01'], folder)
    expect([changed.code, changed.stderr]).toEqual([2, expect.stringMatching(/begun otherwise \(from was none, is now 1525132800000\)/)])
    const anew = await spillway([...base, ...inputs, '--out', out], folder)
    expect([anew.code, anew.stderr]).toEqual([2, expect.stringMatching(/holds part files of another run/)])
  })
})
