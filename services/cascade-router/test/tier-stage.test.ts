import { join } from 'node:path'
import { DEGRADED, ESCALATED, FINAL_TIER } from '@spillway/cascade'
import type { Batch } from '@spillway/core'
import { parsePipeline } from '@spillway/mesh'
import { LocalModelClient, ModelManager } from '@spillway/serving'
import { describe, expect, test } from 'vitest'
import { logistic, logisticModel, writeModel } from '../../../libs/serving/test/onnx-builder.ts'
import { answers, cascade, features, never, pipelineWith, request, rows, sixDecimals, stream, TierRig } from './tier-fixture.ts'

const tiers = new TierRig()

test('where the model’s traffic is split, each row goes to the version of its key, and its answer names it', async () => {
  for (const version of [1, 2]) await writeModel(tiers.repository, 'canary', version, logisticModel([1], version))
  const models = new ModelManager({
    repository: tiers.repository,
    models: ['canary'],
    listed: [{ name: 'canary', basePath: join(tiers.repository, 'canary'), policy: { kind: 'all' } }],
    telemetry: tiers.telemetry,
  })
  tiers.open.push(models)
  await models.start(never)
  models.setTraffic('canary', {
    split: [
      { to: '1', weight: 1 },
      { to: '2', weight: 1 },
    ],
  })
  const client = new LocalModelClient(models)
  const [stage] = await tiers.stagesOf(pipelineWith('{ model: canary }'), client)
  const keys = Array.from({ length: 40 }, (_, row) => `card-${row % 20}`)
  const given = rows(keys.map((_, row) => row / 40))
  const { outputs } = await stage!.process({ ...given, meta: { ...given.meta, keys } }, stream)
  const answered = answers(outputs.get('accepted'))
  expect(new Set(answered.map(({ version }) => version))).toEqual(new Set(['1', '2']))
  for (const [row, { version, score }] of answered.entries()) {
    expect(version).toBe(answered[(row + 20) % 40]!.version)
    expect(score).toBeCloseTo(logistic([1], Number(version), [row / 40]), 5)
  }
})

describe('a tier', () => {
  test('accepts what it is sure about and escalates the rest; the last one answers all', async () => {
    const [cheap, heavy] = await tiers.stagesOf(pipelineWith(cascade))
    const { outputs, failures } = await cheap!.process(rows([-5, 0, 5, 0.5]), stream)
    expect(failures).toEqual([])
    expect(answers(outputs.get('accepted'))).toEqual([
      { offset: 0, score: sixDecimals(logistic([1], 0, [-5])), model: 'cheap', version: '3', reason: 1 },
      { offset: 2, score: sixDecimals(logistic([1], 0, [5])), model: 'cheap', version: '3', reason: 2 },
    ])
    const escalated = outputs.get('escalated')!
    expect(answers(escalated).map(({ offset, reason }) => [offset, reason])).toEqual([
      [1, ESCALATED],
      [3, ESCALATED],
    ])
    const final = await heavy!.process(escalated, stream)
    expect([...final.outputs.keys()]).toEqual(['accepted'])
    expect(answers(final.outputs.get('accepted'))).toEqual([
      { offset: 1, score: sixDecimals(logistic([2], 1, [0])), model: 'heavy', version: '1', reason: FINAL_TIER },
      { offset: 3, score: sixDecimals(logistic([2], 1, [0.5])), model: 'heavy', version: '1', reason: FINAL_TIER },
    ])
  })

  test('takes the class that the file names as the score', async () => {
    const given = await tiers.local.infer({
      model: 'classes',
      inputs: new Map([['features', features([0.3, -2])]]),
      rowCount: 2,
      deadlineMs: Infinity,
      signal: never,
    })
    const all = given.outputs.get('score')!.data as Float32Array
    for (const index of [0, 1, 2]) {
      const [stage] = await tiers.stagesOf(pipelineWith(`{ model: classes, class: ${index} }`))
      const { outputs } = await stage!.process(rows([0.3, -2]), stream)
      expect(answers(outputs.get('accepted')).map(({ score }) => score)).toEqual([all[index]!, all[3 + index]!].map(sixDecimals))
    }
  })

  test('that is the first fails the rows of a call whose deadline is over, and only those', async () => {
    const [cheap] = await tiers.stagesOf(pipelineWith(cascade))
    const { outputs, failures } = await cheap!.process(rows([5, 6, 7], [Infinity, Date.now() - 1, Date.now() + 60_000]), request)
    expect(answers(outputs.get('accepted')).map(({ offset }) => offset)).toEqual([0, 2])
    expect(failures).toEqual([
      {
        row: 1,
        error: expect.objectContaining({ code: 'DEADLINE_EXCEEDED', message: expect.stringContaining('"cheap"') as string }) as Error,
      },
    ])
  })
})

describe('a score that is not a finite number', () => {
  const failure = (row: number, value: string): unknown => ({
    row,
    error: expect.objectContaining({
      code: 'INTERNAL',
      message: `model "raw" answered ${value} in its output "score", which is no score`,
    }) as Error,
  })

  test('is no answer: the last tier fails the row, and only that', async () => {
    const [raw] = await tiers.stagesOf(pipelineWith('{ model: raw }'))
    const { outputs, failures } = await raw!.process(rows([0.25, NaN, 0.5, Infinity, -Infinity]), stream)
    expect(answers(outputs.get('accepted')).map(({ offset, score }) => [offset, score])).toEqual([
      [0, 0.25],
      [2, 0.5],
    ])
    expect(failures).toEqual([failure(1, 'NaN'), failure(3, 'Infinity'), failure(4, '-Infinity')])
  })

  test('is for the next tier to answer', async () => {
    const [raw, heavy] = await tiers.stagesOf(pipelineWith('{ model: raw, accept: { below: 0.1, above: 0.9 } }, { model: heavy }'))
    const { outputs, failures } = await raw!.process(rows([0, Infinity, NaN]), stream)
    expect(failures).toEqual([])
    expect(answers(outputs.get('escalated')).map(({ offset }) => offset)).toEqual([1, 2])
    const final = await heavy!.process(rows([0.5]), stream)
    expect(answers(final.outputs.get('accepted')).map(({ model }) => model)).toEqual(['heavy'])
  })

  test('is no degraded answer either, where the next tier cannot be asked', async () => {
    const [raw, heavy] = await tiers.stagesOf(pipelineWith('{ model: raw, accept: { below: 0.1, above: 0.9 } }, { model: heavy }'))
    const { outputs } = await raw!.process(rows([0.5, NaN], [Infinity, Infinity]), stream)
    const escalated = outputs.get('escalated')!
    const late = { ...escalated, meta: { ...escalated.meta, deadlinesMs: Float64Array.of(Date.now() - 1, Date.now() - 1) } }
    const final = await heavy!.process(late, stream)
    expect(answers(final.outputs.get('accepted')).map(({ offset, reason }) => [offset, reason])).toEqual([[0, DEGRADED]])
    expect(final.failures).toMatchObject([
      {
        row: 1,
        error: { code: 'DEADLINE_EXCEEDED', message: expect.stringMatching(/"heavy".*model "raw".*NaN, which is no score$/) as string },
      },
    ])
  })
})

describe('rows of a stream that are late before the first tier', () => {
  const late = (): Batch => rows([5, 0.3], [Date.now() - 1, Date.now() - 1])

  test('are scored all the same, and those that it is not sure about are answered degraded by it', async () => {
    const [cheap, heavy] = await tiers.stagesOf(pipelineWith(cascade))
    const { outputs, failures } = await cheap!.process(late(), stream)
    expect(failures).toEqual([])
    expect(answers(outputs.get('accepted')).map(({ reason }) => reason)).toEqual([2])
    const final = await heavy!.process(outputs.get('escalated')!, stream)
    expect(answers(final.outputs.get('accepted')).map(({ model, reason }) => [model, reason])).toEqual([['cheap', DEGRADED]])
  })

  test('fail where the file says refuse', async () => {
    const [cheap] = await tiers.stagesOf(pipelineWith(cascade, ', deadline: { within: 1s, late: refuse }'))
    const { outputs, failures } = await cheap!.process(late(), stream)
    expect(outputs.size).toBe(0)
    expect(failures.map(({ error }) => error.code)).toEqual(['DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED'])
  })
})

describe('a model that does not fit the pipeline is named with the setting', () => {
  test.each([
    ['{ model: cheap, input: x }', 'cascade.tiers[0].input', /it has no input "x": choose among features/],
    ['{ model: cheap, score: p }', 'cascade.tiers[0].score', /it has no output "p": choose among score/],
    ['{ model: two-outputs }', 'cascade.tiers[0].score', /it has 2 outputs \(a, b\): say which one with "score:"/],
    ['{ model: classes }', 'cascade.tiers[0].class', /has 3 values a row: say which one is the score/],
    ['{ model: classes, class: 3 }', 'cascade.tiers[0].class', /"class" must be under 3/],
    ['{ model: cheap, accept: { below: 0.1 } }, { model: unknown }', undefined, /unknown/],
  ])('%s', async (text, field, message) => {
    await expect(tiers.stagesOf(pipelineWith(text))).rejects.toMatchObject({ field, message: expect.stringMatching(message) as string })
  })

  test('where its input takes other rows', async () => {
    const pipeline = parsePipeline(
      '{ pipeline: test, inputs: { events: { fields: { x: number, y: number } } }, cascade: { tiers: [{ model: cheap }] } }',
      'test.yaml',
    )
    await expect(tiers.stagesOf(pipeline)).rejects.toThrow(
      'its input "features" is FP32 [rows, 1], and the pipeline gives FP32 [rows, 2] (x, y)',
    )
  })
})
