import {
  type Batch,
  bytesColumn,
  column,
  emptyBatch,
  type FixedTensor,
  type Mode,
  type Stage,
  type StageContext,
  type StageResult,
} from '@spillway/core'
import { EmbeddedHistoryStore, FeatureEngine } from '@spillway/features'
import { parsePipeline } from '@spillway/mesh'
import { compileEventReader } from '@spillway/wire'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { preprocessingStages } from '../src/mod.ts'

const pipeline = parsePipeline(
  `
pipeline: test
inputs:
  payments: { key: card, time: at, lateness: 1d, fields: { card: string, amount: number, at: timestamp, secret: { type: string, optional: true } } }
  labels: { predict: false, key: card, time: at, fields: { card: string, at: timestamp, fraud: boolean } }
features:
  histories:
    card: { input: payments, key: card, values: [amount] }
    frauds: { input: labels, key: card, values: [fraud] }
  columns:
    count_1h: { window: count, history: card, length: 1h }
    mean_1h: { window: mean, of: amount, history: card, length: 1h }
    frauds_1d: { window: count, history: frauds, length: 1d, delay: 1d }
  vector: [amount, count_1h, mean_1h, frauds_1d]
cascade: { tiers: [{ model: m }] }
outputs: { predictions: { include: [card, amount] } }
alignment: { maxSkew: 1d }
`,
  'test.yaml',
)
const noon = Date.UTC(2024, 0, 10, 12)
const minute = 60_000
const day = 86_400_000

let store: EmbeddedHistoryStore
let stages: ReadonlyMap<string, Stage>

beforeEach(async () => {
  store = new EmbeddedHistoryStore({ path: ':memory:' })
  await store.start(new AbortController().signal)
  stages = new Map(preprocessingStages(pipeline, new FeatureEngine({ plan: pipeline.features, store })).map((stage) => [stage.name, stage]))
})
afterEach(() => store.drain())

interface Place {
  readonly input: 'payments' | 'labels'
  readonly firstOffset?: number
  readonly mode?: Mode
}

/** Takes events through the input's stage, as a slice of partition 0 from an offset on. */
function processed(events: readonly object[], { input, firstOffset = 0, mode = 'stream' }: Place): Promise<StageResult> {
  const values = bytesColumn(events.map((event) => Buffer.from(JSON.stringify(event))))
  const records = { count: events.length, values, timestampsMs: new Float64Array(events.length) }
  const offsets = BigInt64Array.from(events, (_, row) => BigInt(firstOffset + row))
  const source = mode === 'stream' ? { topic: input, partition: 0, offsets } : undefined
  const { batch } = compileEventReader(pipeline.inputs.get(input)!.definition).read(records, source, noon)
  const context: StageContext = { signal: new AbortController().signal, mode }
  return stages.get(`preprocessing.${input}`)!.process(batch, context)
}

function vectors({ outputs }: StageResult): readonly (readonly number[])[] {
  const batch: Batch = outputs.get('features') ?? emptyBatch
  const data = batch.rowCount === 0 ? new Float32Array(0) : (column(batch, 'features') as FixedTensor).data
  return Array.from({ length: batch.rowCount }, (_, row) => Array.from(data.subarray(row * 4, row * 4 + 4), Number))
}

const payment = (amount: number, atMs: number, card = 'k'): object => ({ card, amount, at: new Date(atMs).toISOString(), secret: 's' })

test('an event becomes its features, and history for the next; only what the prediction repeats goes on', async () => {
  const first = await processed([payment(10, noon), payment(20, noon + minute), payment(5, noon, 'other')], { input: 'payments' })
  expect(vectors(first)).toEqual([
    [10, 1, 10, 0],
    [20, 2, 15, 0],
    [5, 1, 5, 0],
  ])
  expect([...first.outputs.get('features')!.columns.keys()].toSorted()).toEqual(['amount', 'card', 'features'])
  const second = await processed([payment(60, noon + 2 * minute)], { input: 'payments', firstOffset: 3 })
  expect(vectors(second)).toEqual([[60, 3, 30, 0]])
})

test('a slice that is given again gives the same numbers', async () => {
  const events = [payment(10, noon), payment(20, noon + minute)]
  const once = vectors(await processed(events, { input: 'payments' }))
  await processed([payment(99, noon + 2 * minute)], { input: 'payments', firstOffset: 2 })
  expect(vectors(await processed(events, { input: 'payments' }))).toEqual(once)
})

test('a request reads history and leaves it as it is', async () => {
  await processed([payment(10, noon)], { input: 'payments' })
  for (let call = 0; call < 2; call++)
    expect(
      vectors(await processed([payment(20, noon + minute), payment(40, noon + minute)], { input: 'payments', mode: 'request' })),
    ).toEqual([
      [20, 2, 15, 0],
      [40, 2, 25, 0],
    ])
})

test('an input that is not predicted gives no rows, and feeds the windows of another', async () => {
  const label = { card: 'k', at: new Date(noon - day - minute).toISOString(), fraud: true }
  expect(await processed([label], { input: 'labels' })).toEqual({ outputs: new Map(), failures: [] })
  expect(vectors(await processed([payment(10, noon)], { input: 'payments' }))).toEqual([[10, 1, 10, 1]])
})

test('an event that is too late fails, alone, and is in no history', async () => {
  const events = [payment(10, noon), payment(500, noon - day - minute), payment(20, noon + minute)]
  const result = await processed(events, { input: 'payments' })
  expect(vectors(result)).toEqual([
    [10, 1, 10, 0],
    [20, 2, 15, 0],
  ])
  expect(result.failures).toEqual([
    { row: 1, error: expect.objectContaining({ code: 'OUT_OF_RANGE', message: expect.stringContaining('card k') as string }) as Error },
  ])
})
