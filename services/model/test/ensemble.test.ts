import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Tensor, tensor, text } from '@spillway/core'
import { GrpcChannel } from '@spillway/rpc'
import { CombinedSource, DirectorySource, modelConfigParsers } from '@spillway/serving'
import { createTelemetry, type OwnedTelemetry } from '@spillway/telemetry'
import { inference } from '@spillway/wire'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { score, writeTextModels } from '../../../libs/serving/test/ensemble/text-models.ts'
import { type ModelService, type ModelServiceOptions, startModelService } from '../src/mod.ts'
import { refusal, request } from './oip-grpc-requests.ts'

const { signal } = new AbortController()
let telemetry: OwnedTelemetry
beforeAll(() => {
  telemetry = createTelemetry({ service: 'ensemble-test', logLevel: 'silent', otlp: false })
})
afterAll(() => telemetry.shutdown())

const start = (options: Partial<ModelServiceOptions>): Promise<ModelService> =>
  startModelService({ host: '127.0.0.1', httpPort: 0, grpcPort: 0, telemetry, signal, workers: 1, settleMs: 0, ...options })

async function call(service: ModelService, path: string, body?: unknown): Promise<readonly [number, Record<string, unknown>]> {
  const init = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }
  const response = await fetch(`http://127.0.0.1:${service.httpPort}${path}`, init)
  const answer = await response.text()
  return [response.status, answer === '' ? {} : (JSON.parse(answer) as Record<string, unknown>)]
}

describe('texts, words, meanings and a score', () => {
  let repository: string
  let service: ModelService
  beforeAll(async () => {
    repository = await mkdtemp(join(tmpdir(), 'spillway-texts-'))
    await writeTextModels(repository)
    service = await start({ repository, mode: 'explicit', loadModels: ['*'] })
  })
  afterAll(async () => {
    await service.drain()
    await rm(repository, { recursive: true })
  })

  const asked = (...data: string[]): unknown => ({ inputs: [{ name: 'text', datatype: 'BYTES', shape: [data.length], data }] })

  test('are one model to the Open Inference Protocol over REST: metadata, config, answers, statistics', async () => {
    expect(await call(service, '/v2/models/sentiment')).toEqual([
      200,
      expect.objectContaining({
        platform: 'ensemble',
        inputs: [{ name: 'text', datatype: 'BYTES', shape: [-1] }],
        outputs: [{ name: 'score', datatype: 'FP32', shape: [-1, 1] }],
      }),
    ])
    const [, config] = await call(service, '/v2/models/sentiment/config')
    expect((config['ensemble_scheduling'] as { step: { model_name: string }[] }).step.map(({ model_name: name }) => name)).toEqual([
      'vocabulary',
      'embedding',
      'classifier',
    ])
    const [status, { outputs }] = await call(service, '/v2/models/sentiment/infer', asked('a great film', 'awful'))
    expect(status).toBe(200)
    const [{ data }] = outputs as [{ data: number[] }]
    expect(data[0]).toBeCloseTo(score(2), 5)
    expect(data[1]).toBeCloseTo(score(-2), 5)
    const [, { model_stats: stats }] = await call(service, '/v2/models/sentiment/stats')
    expect(stats).toEqual([expect.objectContaining({ name: 'sentiment', inference_count: 2, execution_count: 1 })])
  })

  test('and each of them is a model of its own, over gRPC too', async () => {
    const channel = new GrpcChannel({ address: `127.0.0.1:${service.grpcPort}`, telemetry })
    const { modelInfer } = inference.GRPCInferenceServiceService
    const infer = async (model: string, name: string, given: Tensor): Promise<Buffer> => {
      const { rawOutputContents } = await channel.unary(modelInfer, request(model, { [name]: given }))
      return Buffer.from(rawOutputContents[0]!)
    }
    try {
      const ids = new BigInt64Array(new Uint8Array(await infer('vocabulary', 'text', text(['dull film']))).buffer)
      expect([...ids]).toEqual([7n, 8n, 0n, 0n, 0n, 0n, 0n, 0n])
      const vector = await infer('embedding', 'ids', tensor('INT64', [1, 8], ids))
      expect([vector.readFloatLE(0), vector.readFloatLE(4)]).toEqual([0, 0.5])
      expect((await infer('classifier', 'features', tensor('FP32', [1, 2], Float32Array.of(0, 0.5)))).readFloatLE()).toBeCloseTo(
        score(-0.5),
        5,
      )
      expect((await infer('sentiment', 'text', text(['dull film']))).readFloatLE()).toBeCloseTo(score(-0.5), 5)
      expect(await refusal(channel.unary(modelInfer, request('sentiment', { words: text(['x']) })))).toMatchObject({
        code: 'INVALID_ARGUMENT',
      })
    } finally {
      await channel.drain()
    }
  })

  test('answer TensorFlow Serving’s requests', async () => {
    const [status, { predictions }] = await call(service, '/v1/models/sentiment:predict', { instances: ['good', 'bad'] })
    expect(status).toBe(200)
    expect((predictions as number[][]).map(([value]) => value!.toFixed(4))).toEqual([score(1).toFixed(4), score(-1).toFixed(4)])
    expect(await call(service, '/v1/models/vocabulary:predict', { instances: ['bad'] })).toEqual([
      200,
      { predictions: [[5, 0, 0, 0, 0, 0, 0, 0]] },
    ])
  })

  test('go and come by requests of repository control: the ensemble with what it is made of', async () => {
    const ready = async (model: string): Promise<boolean> => (await call(service, `/v2/models/${model}/ready`))[0] === 200
    expect((await call(service, '/v2/repository/models/embedding/unload', {}))[0]).toBe(200)
    expect([await ready('sentiment'), await ready('classifier')]).toEqual([false, true])
    const [status, { error }] = await call(service, '/v2/models/sentiment/infer', asked('good'))
    expect([status, error]).toEqual([expect.any(Number), expect.stringContaining("'sentiment' has no available versions")])
    expect((await call(service, '/v2/repository/models/sentiment/load', {}))[0]).toBe(200)
    expect([await ready('sentiment'), await ready('embedding')]).toEqual([true, true])
    const [, { outputs }] = await call(service, '/v2/models/sentiment/infer', asked('good'))
    expect((outputs as [{ data: number[] }])[0].data[0]).toBeCloseTo(score(1), 5)
  })
})

describe('the transforms of the fraud pipeline', () => {
  let service: ModelService
  beforeAll(async () => {
    const { parseConfig } = modelConfigParsers(telemetry.logger)
    const folder = (path: string): DirectorySource =>
      new DirectorySource({ repository: join(import.meta.dirname, '../../../examples/fraud', path), parseConfig, settleMs: 0 })
    service = await start({
      source: new CombinedSource([folder('models'), folder('servables')]),
      models: ['transforms', 'fraud-cheap', 'scored'],
    })
  })
  afterAll(() => service.drain())

  const names = ['customer', 'terminal'].flatMap((who) =>
    ['1d', '7d', '30d'].flatMap((length) => [`${who}_count_${length}`, `${who}_${who === 'customer' ? 'mean' : 'share'}_${length}`]),
  )
  /** A Saturday at 3 in the morning, and the Monday after it at noon. */
  const times = [Date.UTC(2018, 7, 11, 3), Date.UTC(2018, 7, 13, 12)]
  const column = (name: string, data: readonly number[]): unknown => ({ name, datatype: 'FP64', shape: [2], data })
  const inputs = [column('amount', [12.5, 300]), column('tx_datetime', times), ...names.map((name, i) => column(name, [i, 2 * i]))]

  test('are a model that gives the vector of the pipeline file', async () => {
    const [status, { outputs }] = await call(service, '/v2/models/transforms/infer', { inputs })
    expect(status).toBe(200)
    const [{ shape, data }] = outputs as [{ shape: number[]; data: number[] }]
    expect(shape).toEqual([2, 15])
    expect(data).toEqual([12.5, 1, 1, ...names.keys(), 300, 0, 0, ...names.map((_, i) => 2 * i)])
  })

  test('and before a model of its cascade an ensemble that takes fields', async () => {
    const [, { outputs: vectors }] = await call(service, '/v2/models/transforms/infer', { inputs })
    const [{ data }] = vectors as [{ data: number[] }]
    const features = { name: 'features', datatype: 'FP32', shape: [2, 15], data }
    const [, { outputs: alone }] = await call(service, '/v2/models/fraud-cheap/infer', { inputs: [features] })
    const [status, { outputs: together }] = await call(service, '/v2/models/scored/infer', { inputs })
    expect(status).toBe(200)
    expect(together).toEqual(alone)
  })
})

describe('an ensemble one of whose models is not there', () => {
  let repository: string
  beforeAll(async () => {
    repository = await mkdtemp(join(tmpdir(), 'spillway-missing-'))
    await writeTextModels(repository)
    await rm(join(repository, 'embedding'), { recursive: true })
    await mkdir(join(repository, 'outer/1'), { recursive: true })
    const maps = 'input_map { key: "text" value: "text" } output_map { key: "score" value: "score" }'
    await writeFile(
      join(repository, 'outer/config.pbtxt'),
      `platform: "ensemble" ensemble_scheduling { step { model_name: "sentiment" ${maps} } }`,
    )
  })
  afterAll(() => rm(repository, { recursive: true }))

  const missing = /ensemble "sentiment": step\[1\] \(model "embedding"\) is not loaded: .*model "embedding" cannot be read at/

  test.each([
    ['explicit', ['sentiment', 'outer']],
    ['none', undefined],
    ['poll', undefined],
  ] as const)('says which one, and of which step, to whoever asks, in mode %s', async (mode, loadModels) => {
    const service = await start({ repository, mode, exitOnError: false, pollMs: 60_000, ...(loadModels && { loadModels }) })
    try {
      const error = (pattern: RegExp): unknown => ({ error: expect.stringMatching(pattern) as string })
      const inputs = [{ name: 'text', datatype: 'BYTES', shape: [1], data: ['good'] }]
      for (const name of ['sentiment', 'outer']) {
        const [status, answer] = await call(service, `/v2/models/${name}/infer`, { inputs })
        expect(status).toBeGreaterThanOrEqual(400)
        expect(answer).toEqual(error(missing))
        expect(await call(service, `/v2/models/${name}/ready`)).toEqual([400, error(missing)])
      }
      expect((await call(service, '/v2/health/ready'))[1]).toEqual(error(missing))
      const live = await fetch(`http://127.0.0.1:${service.httpPort}/readyz`)
      expect([live.status, await live.text()]).toEqual([503, expect.stringMatching(missing)])
      const [, index] = await call(service, '/v2/repository/index', {})
      const reason = expect.stringMatching(missing) as string
      expect(index).toEqual(
        expect.arrayContaining([
          { name: 'sentiment', version: '1', state: 'UNAVAILABLE', reason },
          { name: 'outer', version: '1', state: 'UNAVAILABLE', reason },
          { name: 'embedding', state: 'UNAVAILABLE', reason: expect.stringMatching(/^model "embedding" cannot be read at/) as string },
        ]),
      )
      for (const message of [JSON.stringify(index), JSON.stringify(await call(service, '/v2/models/outer/ready'))])
        expect(message).not.toContain('starting')
    } finally {
      await service.drain()
    }
  })
})
