import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Statistics, StatisticsFitter, statisticsText } from '@spillway/features'
import { afterAll, beforeEach, expect, test } from 'vitest'
import { loadPipeline, parsePipeline } from '../src/mod.ts'

const folder = mkdtempSync(join(tmpdir(), 'spillway-attachments-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const source = `pipeline: test
inputs: { visits: { key: user, fields: { user: string, age: number } } }
features:
  statistics: ./statistics.json
  columns:
    years: { field: age, steps: [{ standardise: fitted }] }
    twice: { module: ./double.ts, export: double, from: [age] }
  vector: [years, twice]
cascade: { tiers: [{ model: m }] }
`

const file = join(folder, 'pipeline.yaml')
beforeEach(() => {
  writeFileSync(file, source)
  writeFileSync(
    join(folder, 'double.ts'),
    'export const double = ([age]: { values: Float64Array }[]) => age!.values.map((value) => value * 2)\n',
  )
})

test('a pipeline is loaded to be fitted, and with what it was fitted to', async () => {
  const unfitted = await loadPipeline(file, { unfitted: true })
  expect(unfitted.features.unfitted).toBe(true)
  const { definition, inputs, options } = unfitted.featureSource
  const fitter = new StatisticsFitter(definition!, inputs, options)
  expect(fitter.plan.hash).toBe(unfitted.features.hash)
  await expect(loadPipeline(file)).rejects.toThrow(
    /pipeline\.yaml:4: features\.statistics: \.\/statistics\.json cannot be read: .*features fit/,
  )
})

test('statistics of other features are refused, with the file, its line and the path', async () => {
  writeFileSync(join(folder, 'statistics.json'), '{"format":')
  await expect(loadPipeline(file)).rejects.toThrow(/pipeline\.yaml:4: features\.statistics: \.\/statistics\.json: no JSON/)
  const other: Statistics = {
    format: 'spillway-feature-statistics',
    version: 1,
    madeAt: '2026-01-01T00:00:00.000Z',
    rows: 1,
    sampled: 1,
    seed: 0,
    from: '2026-01-01T00:00:00.000Z',
    to: '2026-01-01T00:00:00.000Z',
    columns: {},
  }
  writeFileSync(join(folder, 'statistics.json'), statisticsText(other))
  await expect(loadPipeline(file)).rejects.toThrow(/pipeline\.yaml:6: features\.columns\.years/)
})

test('a module of a column is refused with the column', async () => {
  writeFileSync(file, source.replace('./double.ts', './triple.ts'))
  await expect(loadPipeline(file, { unfitted: true })).rejects.toThrow(
    /pipeline\.yaml:7: features\.columns\.twice\.module: .*triple\.ts cannot be loaded/,
  )
})

test('a file that names others is no text by itself', () => {
  expect(() => parsePipeline(source, 'p.yaml')).toThrow(/p\.yaml:4: features\.statistics: it names other files/)
})
