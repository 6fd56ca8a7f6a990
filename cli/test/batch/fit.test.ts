import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openTable } from '../../src/tables/read-table.ts'
import { spillway } from '../command.ts'
import { playedDays, writeInputs, writePipeline } from './fixture.ts'

const folder = mkdtempSync(join(tmpdir(), 'spillway-fit-'))
const statistics = join(folder, 'statistics.json')
const events = playedDays(30)
let inputs: readonly string[]
let pipeline: string

beforeAll(() => {
  inputs = writeInputs(folder, events)
  pipeline = writePipeline(folder, {
    features: {
      statistics: 'statistics.json',
      histories: { customer: { input: 'transactions', key: 'customer_id', values: ['amount'] } },
      columns: {
        size: { field: 'amount', steps: [{ standardise: 'fitted' }] },
        count: { window: 'count', history: 'customer', length: '7d' },
        busy: { column: 'count', steps: [{ normalise: 'fitted' }] },
      },
      vector: ['size', 'busy'],
    },
  })
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

it('fits statistics that an export is then made with', async () => {
  const early = await spillway(['validate', pipeline], folder)
  expect([early.code, early.stderr]).toEqual([2, expect.stringMatching(/statistics\.json cannot be read.*spillway features fit/)])
  const fitted = await spillway(['features', 'fit', '--pipeline', pipeline, ...inputs, '--out', statistics], folder)
  expect(fitted.code, fitted.stderr).toBe(0)
  const amounts = events.filter(({ topic }) => topic === 'transactions').map(({ transaction: { amount } }) => amount)
  const mean = amounts.reduce((sum, amount) => sum + amount, 0) / amounts.length
  const artefact = JSON.parse(readFileSync(statistics, 'utf8')) as { rows: number; columns: { size: { steps: { 0: { mean: number } } } } }
  expect([artefact.rows, artefact.columns.size.steps[0].mean]).toEqual([amounts.length, expect.closeTo(mean, 6)])
  const out = join(folder, 'fitted.parquet')
  const exported = await spillway(['features', 'export', '--pipeline', pipeline, ...inputs, '--out', out], folder)
  expect(exported.code, exported.stderr).toBe(0)
  let sum = 0
  let most = -Infinity
  for await (const { numbers } of (await openTable(out)).read({ texts: [], numbers: ['size', 'busy'] })) {
    for (const size of numbers.get('size')!) sum += size
    for (const busy of numbers.get('busy')!) most = Math.max(most, busy)
  }
  expect([sum / amounts.length, most]).toEqual([expect.closeTo(0, 5), 1])
})

it('refuses to fit to no rows, and writes nothing', async () => {
  const out = join(folder, 'none.json')
  const args = ['features', 'fit', '--pipeline', pipeline, ...inputs, '--from', '2030-01-01', '--out', out]
  const { code, stderr } = await spillway(args, folder)
  expect([code, stderr, existsSync(out)]).toEqual([2, expect.stringMatching(/there is no row to fit to/), false])
})
