import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Component, type MeshError, type Tensor, tensor, text } from '@spillway/core'
import { GrpcChannel, GrpcServer } from '@spillway/rpc'
import { createTelemetry, type OwnedTelemetry } from '@spillway/telemetry'
import { inference, toRawTensors } from '@spillway/wire'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { inferenceService, LocalModelClient, type ModelClient, ModelManager, OipModelClient } from '../src/mod.ts'
import { logistic, logisticModel, mlpModel, onnxModel, writeModel } from './onnx-builder.ts'
import { refusal } from './refusal.ts'

const signal = new AbortController().signal
const weights = [0.5, -1, 2]
const { modelInfer, modelMetadata, modelReady, serverLive, serverMetadata, serverReady } = inference.GRPCInferenceServiceService

let repository: string
let telemetry: OwnedTelemetry
const open: Component[] = []

beforeAll(async () => {
  repository = await mkdtemp(join(tmpdir(), 'spillway-models-'))
  telemetry = createTelemetry({ service: 'serving-test', logLevel: 'silent', otlp: false })
  await writeModel(repository, 'cheap', 1, logisticModel([9, 9, 9], 9))
  await writeModel(repository, 'cheap', 9, logisticModel([9, 9, 9], 9))
  await writeModel(repository, 'cheap', '00010', logisticModel(weights, 0.1))
  await mkdir(join(repository, 'cheap', 'notes'))
  await writeModel(repository, 'heavy', 1, mlpModel([3, 256, 256, 1]))
  // Looks rows of a table up by index: an index beyond the table fails the run.
  const lookUp = onnxModel({
    inputs: [{ name: 'index', datatype: 'INT64', shape: ['rows'] }],
    outputs: [{ name: 'value', datatype: 'FP32', shape: ['rows'] }],
    initializers: [{ name: 'table', shape: [3], data: Float32Array.of(10, 20, 30) }],
    nodes: [{ op: 'Gather', inputs: ['table', 'index'], outputs: ['value'] }],
  })
  await writeModel(repository, 'look-up', 1, lookUp)
})
afterEach(async () => {
  for (const component of open.splice(0).toReversed()) await component.drain()
})
afterAll(async () => {
  await telemetry.shutdown()
  await rm(repository, { recursive: true })
})

async function load(models?: readonly string[], from = repository): Promise<ModelManager> {
  const manager = new ModelManager({ repository: from, telemetry, ...(models === undefined ? {} : { models }) })
  open.push(manager)
  await manager.start(signal)
  return manager
}

async function serve(models: readonly string[]): Promise<GrpcChannel> {
  const manager = await load(models)
  const server = new GrpcServer({ port: 0, telemetry, services: [inferenceService(manager)] })
  open.push(server)
  await server.start()
  const channel = new GrpcChannel({ address: `127.0.0.1:${server.port}`, telemetry })
  open.push(channel)
  return channel
}

const matrix = (rows: readonly (readonly number[])[]): Tensor =>
  tensor('FP32', [rows.length, rows[0]!.length], Float32Array.from(rows.flat()))

function request(model: string, inputs: Record<string, Tensor>): inference.ModelInferRequest {
  const { tensors, raw } = toRawTensors(Object.entries(inputs))
  return { modelName: model, modelVersion: '', id: 'a', parameters: {}, inputs: tensors, outputs: [], rawInputContents: raw }
}

describe('a repository', () => {
  test('gives the largest version of every model', async () => {
    const manager = await load()
    expect(manager.ready).toBe(true)
    expect(manager.names()).toEqual(['cheap', 'heavy', 'look-up'])
    const handle = await manager.acquire('cheap')
    expect(handle.version).toBe('10')
    handle.release()
    expect(manager.isReady('cheap', { version: '10' })).toBe(true)
    expect(manager.isReady('cheap', { version: '9' })).toBe(false)
    expect(() => manager.acquire('cheap', { version: '9' })).toThrow(/version 9 is not found \(version 10 is\)/)
  })

  test('that is not there, or lacks a model, names the path and what was expected', async () => {
    const layout = /expected <repository>\/<model>\/<version>\/model\.onnx/
    const missing = join(repository, 'nowhere')
    const noRepository = await refusal(load(undefined, missing))
    expect(noRepository).toMatchObject({ code: 'NOT_FOUND' })
    expect(noRepository.message).toContain(missing)
    expect(noRepository.message).toMatch(layout)
    const noModel = await refusal(load(['cheap', 'absent']))
    expect(noModel.message).toContain(join(repository, 'absent'))
    expect(noModel.message).toMatch(layout)
    expect((await refusal(load(['../x']))).code).toBe('INVALID_ARGUMENT')
  })

  test('with a version that holds no model names the file', async () => {
    const broken = await mkdtemp(join(tmpdir(), 'spillway-broken-'))
    expect((await refusal(load(undefined, broken))).message).toContain(broken)
    await mkdir(join(broken, 'm', '2'), { recursive: true })
    expect((await refusal(load(undefined, broken))).message).toContain(join(broken, 'm', '2', 'model.onnx'))
    await writeModel(broken, 'm', 2, new Uint8Array(0))
    expect((await refusal(load(undefined, broken))).message).toMatch(/is empty: expected an ONNX model/)
    await writeModel(broken, 'm', 2, Buffer.from('garbage'))
    expect((await refusal(load(undefined, broken))).message).toContain(join(broken, 'm', '2', 'model.onnx'))
    await rm(broken, { recursive: true })
  })
})

describe.each(['in this process', 'behind gRPC'])('a model %s', (where) => {
  async function client(models: readonly string[]): Promise<ModelClient> {
    return where === 'behind gRPC' ? new OipModelClient(await serve(models)) : new LocalModelClient(await load(models))
  }

  test('scores rows and tells its version', async () => {
    const models = await client(['cheap'])
    const rows = [
      [1, 2, 3],
      [0, 0, 0],
      [-1, 0.5, 2],
    ]
    const answer = await models.infer({
      model: 'cheap',
      inputs: new Map([['features', matrix(rows)]]),
      rowCount: 3,
      deadlineMs: Infinity,
      signal,
    })
    expect(answer).toMatchObject({ model: 'cheap', version: '10' })
    const score = answer.outputs.get('score')!
    expect(score.shape).toEqual([3, 1])
    for (const [i, row] of rows.entries()) expect((score.data as Float32Array)[i]).toBeCloseTo(logistic(weights, 0.1, row), 6)
  })

  test('has the signature of its file', async () => {
    const models = await client(['cheap'])
    const signature = await models.signature('cheap', signal)
    expect([...signature.inputs]).toEqual([['features', { datatype: 'FP32', rowShape: [3] }]])
    expect([...signature.outputs]).toEqual([['score', { datatype: 'FP32', rowShape: [1] }]])
  })

  test('that nobody knows is NOT_FOUND', async () => {
    const models = await client(['cheap'])
    const inputs = new Map([['features', matrix([[1, 2, 3]])]])
    const error = await refusal(models.infer({ model: 'x', inputs, rowCount: 1, deadlineMs: Infinity, signal }))
    expect(error).toMatchObject({ code: 'NOT_FOUND', message: "Request for unknown model: 'x' is not found" })
    expect(await refusal(models.signature('x', signal))).toMatchObject({ code: 'NOT_FOUND' })
  })

  test('answers many callers at once, each with its own scores', async () => {
    const models = await client(['heavy'])
    const alone = new Map<number, number>()
    const score = async (value: number): Promise<number> => {
      const inputs = new Map([['features', matrix([[value, 1, -value]])]])
      const { outputs } = await models.infer({ model: 'heavy', inputs, rowCount: 1, deadlineMs: Infinity, signal })
      return (outputs.get('score')!.data as Float32Array)[0]!
    }
    for (let value = 0; value < 8; value++) alone.set(value, await score(value))
    const together = await Promise.all(Array.from({ length: 64 }, (_, i) => score(i % 8)))
    for (const [i, value] of together.entries()) expect(value).toBeCloseTo(alone.get(i % 8)!, 5)
  })

  test('fails the row that it cannot take, and no neighbour', async () => {
    const models = await client(['look-up'])
    const ask = (index: bigint): Promise<number> =>
      models
        .infer({
          model: 'look-up',
          inputs: new Map([['index', tensor('INT64', [1], BigInt64Array.of(index))]]),
          rowCount: 1,
          deadlineMs: Infinity,
          signal,
        })
        .then(({ outputs }) => (outputs.get('value')!.data as Float32Array)[0]!)
    const results = await Promise.allSettled([0n, 1n, 7n, 2n, 1n].map(ask))
    expect(results.map((result) => (result.status === 'fulfilled' ? result.value : (result.reason as MeshError).code))).toEqual([
      10,
      20,
      'INTERNAL',
      30,
      20,
    ])
  })

  test('refuses what is out of time or cancelled', async () => {
    const models = await client(['cheap'])
    const inputs = new Map([['features', matrix([[1, 2, 3]])]])
    const late = models.infer({ model: 'cheap', inputs, rowCount: 1, deadlineMs: Date.now() - 1, signal })
    expect(await refusal(late)).toMatchObject({ code: 'DEADLINE_EXCEEDED' })
    const cancelled = models.infer({ model: 'cheap', inputs, rowCount: 1, deadlineMs: Infinity, signal: AbortSignal.abort() })
    expect(await refusal(cancelled)).toMatchObject({ code: 'CANCELLED' })
  })
})

describe('the Open Inference Protocol', () => {
  test('answers for the server and its models', async () => {
    const channel = await serve(['cheap'])
    expect(await channel.unary(serverLive, {})).toEqual({ live: true })
    expect(await channel.unary(serverReady, {})).toEqual({ ready: true })
    expect(await channel.unary(serverMetadata, {})).toMatchObject({ name: 'spillway' })
    expect(await channel.unary(modelReady, { name: 'cheap', version: '' })).toEqual({ ready: true })
    expect(await channel.unary(modelReady, { name: 'x', version: '' })).toEqual({ ready: false })
    expect(await channel.unary(modelMetadata, { name: 'cheap', version: '10' })).toEqual({
      name: 'cheap',
      versions: ['10'],
      platform: 'onnxruntime_onnx',
      inputs: [{ name: 'features', datatype: 'FP32', shape: [-1n, 3n] }],
      outputs: [{ name: 'score', datatype: 'FP32', shape: [-1n, 1n] }],
      properties: {},
    })
  })

  test('takes typed contents, ignores reserved tensors, and honours the outputs asked for', async () => {
    const channel = await serve(['cheap'])
    const typed = request('cheap', { features: matrix([[1, 2, 3]]) })
    typed.rawInputContents = []
    typed.inputs[0]!.contents = { ...inference.InferTensorContents.decode(new Uint8Array(0)), fp32Contents: [1, 2, 3] }
    const fromTyped = await channel.unary(modelInfer, typed)
    const framed = request('cheap', { 'spillway.ids': text(['a']), features: matrix([[1, 2, 3]]) })
    framed.outputs = [{ name: 'score', parameters: {} }]
    const fromFrame = await channel.unary(modelInfer, framed)
    expect(fromFrame).toEqual(fromTyped)
    expect(fromFrame).toMatchObject({ modelName: 'cheap', modelVersion: '10', id: 'a' })
    expect(fromFrame.outputs).toEqual([{ name: 'score', datatype: 'FP32', shape: [1n, 1n], parameters: {}, contents: undefined }])
    expect(fromFrame.rawOutputContents).toHaveLength(1)
  })

  const features = matrix([[1, 2, 3]])
  const wrong: readonly [string, () => inference.ModelInferRequest, RegExp][] = [
    ['a missing input', () => request('cheap', {}), /"features" is missing: expected FP32 of shape \[rows, 3\], at least one row/],
    [
      'an unknown input',
      () => request('cheap', { features, extra: features }),
      /unexpected inference input 'extra' for model 'cheap': its inputs are "features"/,
    ],
    [
      'an input given twice',
      () => {
        const twice = request('cheap', { features })
        return {
          ...twice,
          inputs: [...twice.inputs, ...twice.inputs],
          rawInputContents: [...twice.rawInputContents, ...twice.rawInputContents],
        }
      },
      /"features".*twice/,
    ],
    [
      'a wrong datatype',
      () => request('cheap', { features: tensor('FP64', [1, 3], new Float64Array(3)) }),
      /"features" is FP64.*expected FP32 of shape \[1, 3\]/,
    ],
    [
      'a wrong shape',
      () => request('cheap', { features: matrix([[1, 2]]) }),
      /"features" is FP32 of shape \[1, 2\]: expected FP32 of shape \[1, 3\]/,
    ],
    ['no row', () => request('cheap', { features: tensor('FP32', [0, 3], new Float32Array(0)) }), /at least one row/],
    [
      'a count of bytes that does not fit the shape',
      () => ({ ...request('cheap', { features }), rawInputContents: [new Uint8Array(8)] }),
      /"features".*needs 12 bytes, got 8/,
    ],
    [
      'an unknown output',
      () => ({ ...request('cheap', { features }), outputs: [{ name: 'label', parameters: {} }] }),
      /unexpected inference output 'label' for model 'cheap': its outputs are "score"/,
    ],
  ]
  test.each(wrong)('refuses %s', async (_what, make, expected) => {
    const channel = await serve(['cheap'])
    const error = await refusal(channel.unary(modelInfer, make()))
    expect(error.code).toBe('INVALID_ARGUMENT')
    expect(error.message).toMatch(expected)
  })
})
