import { credentials, type ServiceError, status } from '@grpc/grpc-js'
import { tensor } from '@spillway/core'
import { GrpcChannel } from '@spillway/rpc'
import { inference } from '@spillway/wire'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type OipFixture, startOipFixture } from './oip-fixture.ts'
import { pairOf, parameter, refusal, request } from './oip-grpc-requests.ts'

const methods = inference.GRPCInferenceServiceService

let fixture: OipFixture
let channel: GrpcChannel
beforeAll(async () => {
  fixture = await startOipFixture()
  channel = new GrpcChannel({ address: `127.0.0.1:${fixture.grpcPort}`, telemetry: fixture.telemetry })
})
afterAll(async () => {
  await channel.drain()
  await fixture.stop()
})

describe('server and models', () => {
  test('live, ready, metadata', async () => {
    expect(await channel.unary(methods.serverLive, {})).toEqual({ live: true })
    expect(await channel.unary(methods.serverReady, {})).toEqual({ ready: true })
    const metadata = await channel.unary(methods.serverMetadata, {})
    expect(metadata.name).toBe('spillway')
    expect(metadata.extensions).toContain('statistics')
  })

  test.each([
    ['logistic', '', true],
    ['logistic', '2', true],
    ['logistic', '02', true],
    ['logistic', '9', false],
    ['nobody', '', false],
  ])('ModelReady %s %s is %s', async (name, version, ready) => {
    expect(await channel.unary(methods.modelReady, { name, version })).toEqual({ ready })
  })

  test('ModelMetadata gives versions, platform and tensors', async () => {
    expect(await channel.unary(methods.modelMetadata, { name: 'pair', version: '' })).toEqual({
      name: 'pair',
      versions: ['1'],
      platform: 'onnxruntime_onnx',
      inputs: [
        { name: 'a', datatype: 'FP32', shape: [-1n, 2n] },
        { name: 'n', datatype: 'INT64', shape: [-1n] },
      ],
      outputs: [
        { name: 'b', datatype: 'FP32', shape: [-1n, 2n] },
        { name: 'm', datatype: 'INT64', shape: [-1n] },
      ],
      properties: {},
    })
  })

  test('ModelConfig gives what config.pbtxt would', async () => {
    const { config } = await channel.unary(methods.modelConfig, { name: 'pair', version: '1' })
    expect(config).toMatchObject({
      name: 'pair',
      backend: 'onnxruntime',
      maxBatchSize: 1024,
      input: [
        { name: 'a', dataType: 11, dims: [2n] },
        { name: 'n', dataType: 9, dims: [] },
      ],
      schedulingChoice: { $case: 'dynamicBatching' },
    })
  })

  test('ModelStatistics of one model and of all', async () => {
    const one = async (): Promise<inference.ModelStatistics> =>
      (await channel.unary(methods.modelStatistics, { name: 'echo-INT8', version: '' })).modelStats[0]!
    expect(await one()).toMatchObject({ lastInference: 0n, inferenceCount: 0n, executionCount: 0n, batchStats: [] })
    await channel.unary(methods.modelInfer, request('echo-INT8', { x: tensor('INT8', [3, 2], new Int8Array(6)) }))
    expect(await one()).toMatchObject({
      inferenceCount: 3n,
      executionCount: 1n,
      inferenceStats: { success: { count: 1n } },
      batchStats: [{ batchSize: 3n, computeInfer: { count: 1n } }],
    })
    expect((await channel.unary(methods.modelStatistics, { name: '', version: '' })).modelStats.length).toBeGreaterThan(10)
  })

  test('RepositoryIndex lists versions', async () => {
    const { models } = await channel.unary(methods.repositoryIndex, { repositoryName: '', ready: true })
    expect(models).toContainEqual({ name: 'logistic', version: '2', state: 'READY', reason: '' })
  })

  const load = (parameters: Record<string, inference.ModelRepositoryParameter['parameterChoice']>): Promise<unknown> =>
    channel.unary(methods.repositoryModelLoad, {
      repositoryName: '',
      modelName: 'logistic',
      parameters: Object.fromEntries(Object.entries(parameters).map(([name, parameterChoice]) => [name, { parameterChoice }])),
    })
  const refused: readonly (readonly [what: string, call: () => Promise<unknown>, code: string, message: RegExp])[] = [
    [
      'metadata of an unknown model',
      () => channel.unary(methods.modelMetadata, { name: 'x', version: '' }),
      'NOT_FOUND',
      /^Request for unknown model: 'x' is not found$/,
    ],
    ['config of an unknown model', () => channel.unary(methods.modelConfig, { name: 'x', version: '' }), 'NOT_FOUND', /'x' is not found/],
    [
      'statistics of an unknown model',
      () => channel.unary(methods.modelStatistics, { name: 'x', version: '' }),
      'NOT_FOUND',
      /'x' is not found/,
    ],
    ['an unknown version', () => channel.unary(methods.modelMetadata, { name: 'logistic', version: '9' }), 'NOT_FOUND', /version 9/],
    [
      'a version that is no number',
      () => channel.unary(methods.modelReady, { name: 'logistic', version: 'v' }),
      'INVALID_ARGUMENT',
      /version string 'v'/,
    ],
    [
      'a named repository',
      () => channel.unary(methods.repositoryIndex, { repositoryName: 'r', ready: false }),
      'UNIMPLEMENTED',
      /repository_name/,
    ],
    ['an unknown load parameter', () => load({ other: { $case: 'stringParam', value: 'x' } }), 'INVALID_ARGUMENT', /'other'/],
    ['a config that is no text', () => load({ config: { $case: 'boolParam', value: true } }), 'INVALID_ARGUMENT', /'config'/],
    [
      'files without a config',
      () => load({ 'file:1/model.onnx': { $case: 'bytesParam', value: Buffer.of(1) } }),
      'INVALID_ARGUMENT',
      /'config'/,
    ],
    [
      'a file outside of the model',
      () => load({ config: { $case: 'stringParam', value: '{}' }, 'file:../x': { $case: 'bytesParam', value: Buffer.of(1) } }),
      'INVALID_ARGUMENT',
      /below the model's folder/,
    ],
  ]
  test.each(refused)('%s is refused', async (_what, call, code, message) => {
    const error = await refusal(call())
    expect(error.message).toMatch(message)
    expect(error.code).toBe(code)
  })
})

describe('over a plain connection', () => {
  let client: inference.GRPCInferenceServiceClient
  beforeAll(() => {
    client = new inference.GRPCInferenceServiceClient(`127.0.0.1:${fixture.grpcPort}`, credentials.createInsecure())
  })
  afterAll(() => client.close())

  test('ModelStreamInfer answers each request in its order, failures among them, and ends with the caller', async () => {
    const stream = client.modelStreamInfer()
    const answers: inference.ModelStreamInferResponse[] = []
    const ended = new Promise<void>((resolve, reject) => {
      stream.on('data', (answer: inference.ModelStreamInferResponse) => answers.push(answer))
      stream.on('error', reject)
      stream.on('end', resolve)
    })
    for (let i = 0; i < 200; i++) {
      const made = request('pair', pairOf(i), { id: String(i) })
      stream.write(i === 7 ? { ...made, modelName: 'nobody' } : made)
    }
    stream.end()
    await ended
    expect(answers).toHaveLength(200)
    for (const [i, { errorMessage, inferResponse }] of answers.entries()) {
      expect(inferResponse!.id).toBe(String(i))
      if (i === 7) expect(errorMessage).toBe("Request for unknown model: 'nobody' is not found")
      else {
        expect(errorMessage).toBe('')
        expect(Buffer.from(inferResponse!.rawOutputContents[0]!).readFloatLE(0)).toBe(i)
        expect(inferResponse!.parameters).toEqual({ triton_final_response: parameter(true) })
      }
    }
  })

  test('a stream that is cancelled ends, and the server goes on', async () => {
    const stream = client.modelStreamInfer()
    const error = new Promise<ServiceError>((resolve) => stream.on('error', resolve))
    stream.write(request('pair', pairOf()))
    await new Promise((resolve) => stream.once('data', resolve))
    stream.cancel()
    expect((await error).code).toBe(status.CANCELLED)
    expect(await channel.unary(methods.serverReady, {})).toEqual({ ready: true })
  })

  test('a method that is not served is UNIMPLEMENTED, bytes that are no request INVALID_ARGUMENT', async () => {
    const call = (path: string, bytes: Buffer): Promise<ServiceError | null> =>
      new Promise((resolve) => {
        client.makeUnaryRequest(
          path,
          (value: Buffer) => value,
          (value: Buffer) => value,
          bytes,
          (error) => resolve(error),
        )
      })
    expect((await call('/inference.GRPCInferenceService/SystemSharedMemoryStatus', Buffer.of()))?.code).toBe(status.UNIMPLEMENTED)
    expect((await call('/inference.GRPCInferenceService/ModelInfer', Buffer.of(0x2a, 0xff, 0xff, 0x7f)))?.code).toBe(
      status.INVALID_ARGUMENT,
    )
  })
})
