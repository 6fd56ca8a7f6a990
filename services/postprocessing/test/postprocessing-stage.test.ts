import { DEGRADED, FINAL_TIER } from '@spillway/cascade'
import { type Batch, bytesAt, type BytesColumn, column, fp64, rowMeta, type StageContext, tensor, type Tensor, text } from '@spillway/core'
import { eventColumn, parsePipeline } from '@spillway/mesh'
import { expect, test } from 'vitest'
import { postprocessingStage } from '../src/mod.ts'

const pipeline = parsePipeline(
  `
pipeline: test
inputs: { events: { fields: { account: integer, amount: number, note: { type: string, optional: true }, at: timestamp, vip: boolean } } }
cascade: { tiers: [{ model: m }] }
outputs: { predictions: { include: [account, amount, note, at, vip] }, alerts: { atLeast: 0.5 } }
`,
  'test.yaml',
)
const context: StageContext = { signal: new AbortController().signal, mode: 'stream' }

function scored(scores: readonly number[], reason: number): Batch {
  const rowCount = scores.length
  const ids = scores.map((_, row) => `e-${row}`)
  const meta = rowMeta(rowCount, { ids, eventTimesMs: Float64Array.from(scores, (_, row) => Date.UTC(2018, 3, 1) + row) })
  const all = <T>(value: T): T[] => scores.map(() => value)
  return {
    rowCount,
    meta,
    columns: new Map<string, Tensor>([
      ['score', fp64(Float64Array.from(scores))],
      ['model', text(all('m"x'))],
      ['model_version', text(all('7'))],
      ['reason', tensor('UINT8', [rowCount], Uint8Array.from(all(reason)))],
      ['account', tensor('INT64', [rowCount], BigInt64Array.from(all(9_007_199_254_740_993n)))],
      ['amount', fp64(Float64Array.from(all(12.5)))],
      ['note', text(all('a "b"\n'))],
      ['at', fp64(Float64Array.from(all(Date.UTC(2020, 0, 2))))],
      ['vip', tensor('BOOL', [rowCount], Uint8Array.from(all(1)))],
    ]),
  }
}

function events(batch: Batch | undefined): readonly string[] {
  if (batch === undefined) return []
  const values = column(batch, eventColumn).data as BytesColumn
  return Array.from({ length: batch.rowCount }, (_, row) => Buffer.from(bytesAt(values, row)).toString())
}

test('a prediction is JSON: its own fields, then the ones included, 64-bit integers exact, text escaped', async () => {
  const { outputs, failures } = await postprocessingStage(pipeline).process(scored([0.25], FINAL_TIER), context)
  expect(failures).toEqual([])
  expect(events(outputs.get('predictions'))).toEqual([
    '{"id":"e-0","event_time":"2018-04-01T00:00:00.000Z","score":0.25,"decision":false,"tier":"m\\"x","reason":"final-tier","degraded":false,' +
      '"model_version":"7","account":9007199254740993,"amount":12.5,"note":"a \\"b\\"\\n","at":"2020-01-02T00:00:00.000Z","vip":true}',
  ])
  expect(outputs.has('alerts')).toBe(false)
})

test('an alert is the prediction of a row whose score is at least the threshold', async () => {
  const { outputs } = await postprocessingStage(pipeline).process(scored([0.499999, 0.5, 1, 0, Number.NaN], FINAL_TIER), context)
  const predictions = events(outputs.get('predictions'))
  expect(predictions.map((event) => (JSON.parse(event) as { decision: boolean }).decision)).toEqual([false, true, true, false, false])
  expect(events(outputs.get('alerts'))).toEqual([predictions[1], predictions[2]])
  expect(outputs.get('alerts')!.meta.ids).toEqual(['e-1', 'e-2'])
  expect(JSON.parse(predictions[4]!)).toMatchObject({ score: null })
})

test('an answer of a lower tier in place of a higher one says so', async () => {
  const { outputs } = await postprocessingStage(pipeline).process(scored([0.7], DEGRADED), context)
  expect(JSON.parse(events(outputs.get('predictions'))[0]!)).toMatchObject({ reason: 'degraded', degraded: true })
})
