import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { examplePipeline, spillway } from '../command.ts'
import { expectSameAnswers, killedMidway, linesOf, playedDays, rowsOf, writeInputs } from './fixture.ts'

const folder = mkdtempSync(join(tmpdir(), 'spillway-backfill-'))
const place = (name: string): string => join(folder, name)
const base = ['backfill', '--pipeline', examplePipeline]
const events = playedDays(90)
let inputs: readonly string[]

beforeAll(() => {
  inputs = writeInputs(place('in'), events)
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe('spillway backfill', () => {
  it('answers every event of files once, killed twice or not at all', async () => {
    const whole = await spillway([...base, ...inputs, '--out', place('whole')], folder)
    expect(whole.code, whole.stderr).toBe(0)
    const args = [...base, ...inputs, '--out', place('killed'), '--work', place('work'), '--checkpoint-every', '50ms']
    for (let kill = 0; kill < 2; kill++) await killedMidway(args, folder, place('work'))
    const last = await spillway(args, folder)
    expect(last.code, last.stderr).toBe(0)
    const predictions = linesOf(place('whole/predictions'))
    expect(predictions).toHaveLength(events.filter(({ topic }) => topic === 'transactions').length)
    expectSameAnswers(linesOf(place('killed/predictions')), predictions)
    expectSameAnswers(linesOf(place('killed/alerts')), linesOf(place('whole/alerts')))
    expect([existsSync(place('work')), existsSync(place('killed/dead-letters.ndjson'))]).toEqual([false, false])
  })

  it('writes the predictions of a range as typed columns', async () => {
    const args = [...base, ...inputs, '--out', place('typed'), '--format', 'parquet', '--from', '2018-06-01']
    const { code, stderr } = await spillway(args, folder)
    expect(code, stderr).toBe(0)
    const own = linesOf(place('whole/predictions'))
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter((prediction) => String(prediction['event_time']) >= '2018-06-01')
      .map((prediction) => Object.values(prediction).join('|'))
    // A score may be at a rounding edge: it is not what this is about.
    const withoutScore = (rows: readonly string[]): readonly string[] => rows.map((row) => row.split('|').toSpliced(2, 1).join('|')).sort()
    expect(withoutScore(await rowsOf(place('typed/predictions')))).toEqual(withoutScore(own))
  })

  it('refuses a file’s name, in whichever format, before it reads anything', async () => {
    for (const name of ['x.parquet', 'x.xlsx']) {
      const { code, stderr } = await spillway([...base, ...inputs, '--out', place(name)], folder)
      const message = `spillway: --out ${place(name)}: is a folder of part files, whose kind --format says: write ${place(name)}/ if it is to have this name\n`
      expect([code, stderr]).toEqual([2, message])
      expect(existsSync(place(name))).toBe(false)
    }
  })

  it('says what is missing', async () => {
    const nowhere = await spillway([...base, ...inputs], folder)
    expect([nowhere.code, nowhere.stderr]).toEqual([2, expect.stringMatching(/--out DIR or --out-topic-suffix SUFFIX, one of them/)])
    const noBus = await spillway([...base, ...inputs, '--out-topic-suffix', '.x', '--work', 'w'], folder)
    expect([noBus.code, noBus.stderr]).toEqual([2, expect.stringMatching(/give --bus, or --out for files/)])
  })
})
