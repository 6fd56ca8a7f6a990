import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { logistic, logisticModel, writeModel } from '../../libs/serving/test/onnx-builder.ts'
import { Command, freePorts, spillway } from './command.ts'

const weights = [0.02, 0.5]

/** A pipeline of one's own, under 20 lines. */
const pipeline = `pipeline: clicks
inputs:
  visits:
    key: visitor
    fields:
      visitor: string
      seconds: number
features:
  histories:
    visitor: { input: visits, key: visitor, values: [seconds] }
  columns:
    visits_1h: { window: count, history: visitor, length: 1h }
  vector: [seconds, visits_1h]
cascade:
  tiers:
    - { model: likely-buyer }
`

const event = (visitor: string, seconds: number): string => JSON.stringify({ visitor, seconds })

const folder = mkdtempSync(join(tmpdir(), 'spillway-first-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

it('serves a model from an empty folder with a pipeline file of under 20 lines', async () => {
  await writeModel(join(folder, 'models'), 'likely-buyer', 1, logisticModel(weights, -1))
  writeFileSync(join(folder, 'pipeline.yaml'), pipeline)
  expect(pipeline.split('\n').length).toBeLessThan(20)
  const up = new Command(['up', '--pipeline', 'pipeline.yaml', ...freePorts], folder)
  const [, gateway] = await up.printed(/Pipeline "clicks" is running: (http:\S+)/)
  try {
    const published = await spillway(['publish', 'visits', event('ann', 10), '--gateway', gateway!], folder)
    expect(published.code, published.stderr).toBe(0)
    await spillway(['publish', 'visits', event('ann', 20), '--gateway', gateway!], folder)
    const { stdout } = await spillway(['subscribe', 'predictions', '--from', 'earliest', '--count', '2', '--gateway', gateway!], folder)
    const scores = stdout
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as { score: number }).score)
    expect(scores).toEqual([expect.closeTo(logistic(weights, -1, [10, 1]), 5), expect.closeTo(logistic(weights, -1, [20, 2]), 5)])
    const predicted = await spillway(['predict', event('ann', 30), '--pipeline', 'clicks', '--gateway', gateway!], folder)
    const answer = JSON.parse(predicted.stdout) as { prediction: { score: number; tier: string } }
    expect(answer.prediction).toMatchObject({ score: expect.closeTo(logistic(weights, -1, [30, 3]), 5) as number, tier: 'likely-buyer' })
    const refused = await spillway(['predict', '{"visitor":"ann"}', '--pipeline', 'clicks', '--gateway', gateway!], folder)
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringMatching(/the gateway answered 400: .*"field":"seconds"/)])
  } finally {
    expect(await up.stop()).toBe(0)
  }
})
