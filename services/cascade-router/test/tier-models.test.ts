import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MeshError } from '@spillway/core'
import { parsePipeline, type Pipeline } from '@spillway/mesh'
import { ModelManager } from '@spillway/serving'
import { createTelemetry } from '@spillway/telemetry'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { logisticModel, onnxModel, writeModel } from '../../../libs/serving/test/onnx-builder.ts'
import { tierModels } from '../src/mod.ts'

const telemetry = createTelemetry({ service: 'tier-models-test', logLevel: 'silent', otlp: false })
const signal = new AbortController().signal
let repository: string
let manager: ModelManager | undefined
beforeEach(async () => {
  repository = await mkdtemp(join(tmpdir(), 'spillway-tier-models-'))
})
afterEach(async () => {
  await manager?.drain()
  await rm(repository, { recursive: true })
})

/** A pipeline that gives its models one number. */
function pipelineWith(tiers: string): Pipeline {
  const source = `{ pipeline: test, inputs: { events: { fields: { x: number } } }, models: ${repository}, cascade: { tiers: [${tiers}] } }`
  return parsePipeline(source, join(repository, 'test.yaml'))
}

async function serve(pipeline: Pipeline): Promise<ModelManager> {
  manager = new ModelManager({ ...tierModels(pipeline), telemetry, workers: 1, settleMs: 0 })
  await manager.start(signal)
  return manager
}

/** One number by another name. */
const renamed = onnxModel({
  inputs: [{ name: 'x', datatype: 'FP32', shape: ['rows', 1] }],
  outputs: [{ name: 'score', datatype: 'FP32', shape: ['rows', 1] }],
  nodes: [{ op: 'Sigmoid', inputs: ['x'], outputs: ['score'] }],
})

test('a model that does not take what the pipeline gives is refused by the tier’s place in the file', async () => {
  await writeModel(repository, 'm', 1, logisticModel([1, 2], 0))
  await expect(serve(pipelineWith('{ model: m }'))).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    field: 'cascade.tiers[0].input',
    message: 'model "m": its input "features" is FP32 [rows, 2], and the pipeline gives FP32 [rows, 1] (x)',
  })
})

test('a later version must go by the names that the tier calls', async () => {
  await writeModel(repository, 'm', 1, logisticModel([1], 0))
  const models = await serve(pipelineWith('{ model: m }'))
  await writeModel(repository, 'm', 2, renamed)
  const error = await models.promote('m', '2').catch((thrown: unknown) => MeshError.from(thrown))
  expect(error).toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringContaining('it has "x" where the version before has "features"') as string,
  })
  await writeModel(repository, 'm', 3, logisticModel([3], 0))
  await models.promote('m', '3')
  const handle = await models.acquire('m')
  handle.release()
  expect(handle.version).toBe('3')
})

test('versions that tiers name are those that are served', async () => {
  for (const version of [1, 2, 3]) await writeModel(repository, 'm', version, logisticModel([1], 0))
  await writeModel(repository, 'n', 7, logisticModel([1], 0))
  const models = await serve(pipelineWith('{ model: m, version: "2", accept: { below: 0.1 } }, { model: n, address: elsewhere:8001 }'))
  expect(models.names()).toEqual(['m'])
  expect(models.statuses('m')).toMatchObject([{ version: '2', state: 'AVAILABLE' }])
})
