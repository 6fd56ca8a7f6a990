import { type Datatype, tensor, text } from '@spillway/core'
import { GrpcChannel } from '@spillway/rpc'
import { inference } from '@spillway/wire'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type OipFixture, startOipFixture } from './oip-fixture.ts'
import { pairOf, parameter, refusal, request } from './oip-grpc-requests.ts'

const methods = inference.GRPCInferenceServiceService
type InferRequest = inference.ModelInferRequest
type Contents = inference.InferTensorContents

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

const noContents: Contents = {
  boolContents: [],
  intContents: [],
  int64Contents: [],
  uintContents: [],
  uint64Contents: [],
  fp32Contents: [],
  fp64Contents: [],
  bytesContents: [],
}

function typed(datatype: Datatype, contents: Partial<Contents>, shape: bigint[] = [1n, 2n]): InferRequest {
  const input = { name: 'x', datatype, shape, parameters: {}, contents: { ...noContents, ...contents } }
  return request(`echo-${datatype}`, {}, { inputs: [input], rawInputContents: [] })
}

describe('ModelInfer', () => {
  const contents: readonly (readonly [datatype: Datatype, contents: Partial<Contents>, back: ArrayBufferView])[] = [
    ['BOOL', { boolContents: [true, false] }, Uint8Array.of(1, 0)],
    ['UINT8', { uintContents: [0, 255] }, Uint8Array.of(0, 255)],
    ['UINT16', { uintContents: [0, 65_535] }, Uint16Array.of(0, 65_535)],
    ['UINT32', { uintContents: [0, 4_294_967_295] }, Uint32Array.of(0, 4_294_967_295)],
    ['UINT64', { uint64Contents: [0n, 2n ** 64n - 1n] }, BigUint64Array.of(0n, 2n ** 64n - 1n)],
    ['INT8', { intContents: [-128, 127] }, Int8Array.of(-128, 127)],
    ['INT16', { intContents: [-32_768, 32_767] }, Int16Array.of(-32_768, 32_767)],
    ['INT32', { intContents: [-(2 ** 31), 2 ** 31 - 1] }, Int32Array.of(-(2 ** 31), 2 ** 31 - 1)],
    ['INT64', { int64Contents: [-(2n ** 63n), 2n ** 63n - 1n] }, BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n)],
    ['FP32', { fp32Contents: [0.5, -0] }, Float32Array.of(0.5, -0)],
    ['FP64', { fp64Contents: [0.1, 1e300] }, Float64Array.of(0.1, 1e300)],
    ['BYTES', { bytesContents: [Buffer.from('ab'), Buffer.of()] }, Uint8Array.of(2, 0, 0, 0, 97, 98, 0, 0, 0, 0)],
  ]
  test.each(contents)('typed contents of %s come back raw', async (datatype, given, back) => {
    const response = await channel.unary(methods.modelInfer, typed(datatype, given))
    expect(response.outputs).toEqual([{ name: 'y', datatype, shape: [1n, 2n], parameters: {}, contents: undefined }])
    expect(response.rawOutputContents.map((raw) => Buffer.from(raw))).toEqual([Buffer.from(back.buffer, back.byteOffset, back.byteLength)])
  })

  test('raw contents, FP16 among them, come back byte for byte; id and version are told', async () => {
    const half = tensor('FP16', [1, 2], Uint16Array.of(0x3c00, 0x7e00))
    const response = await channel.unary(methods.modelInfer, request('echo-FP16', { x: half }, { id: 'q', modelVersion: '1' }))
    expect(response).toMatchObject({ modelName: 'echo-FP16', modelVersion: '1', id: 'q' })
    expect(Buffer.from(response.rawOutputContents[0]!)).toEqual(Buffer.from(Uint16Array.of(0x3c00, 0x7e00).buffer))
  })

  test('only the outputs that are asked for come back, in that order', async () => {
    const names = async (...asked: string[]): Promise<string[]> => {
      const outputs = asked.map((name) => ({ name, parameters: {} }))
      return (await channel.unary(methods.modelInfer, request('pair', pairOf(), { outputs }))).outputs.map(({ name }) => name)
    }
    expect(await names()).toEqual(['b', 'm'])
    expect(await names('m', 'b')).toEqual(['m', 'b'])
    expect(await names('m')).toEqual(['m'])
  })

  test('classification', async () => {
    const x = tensor('FP32', [1, 4], Float32Array.of(0.1, 0.7, 0.2, 0))
    const outputs = [{ name: 'y', parameters: { classification: parameter(2n) } }]
    const response = await channel.unary(methods.modelInfer, request('classes', { x }, { outputs }))
    expect(response.outputs[0]).toMatchObject({ datatype: 'BYTES', shape: [1n, 2n] })
    expect(Buffer.from(response.rawOutputContents[0]!).toString('latin1')).toBe('\n\0\0\x000.700000:1\n\0\0\x000.200000:2')
  })

  test('parameters that ask for nothing special are taken', async () => {
    const parameters = {
      sequence_id: parameter(0n),
      sequence_start: parameter(false),
      priority: parameter(2n),
      timeout: parameter(10_000_000n),
      mine: parameter('x'),
    }
    await channel.unary(methods.modelInfer, request('pair', pairOf(), { parameters }))
  })

  const features = tensor('FP32', [1, 2], Float32Array.of(1, 2))
  const both = (): InferRequest => {
    const made = typed('FP32', { fp32Contents: [1, 2] })
    return { ...made, rawInputContents: [Buffer.alloc(8)] }
  }
  const shaped = (...shape: bigint[]): InferRequest => {
    const made = request('echo-FP32', { x: features })
    return { ...made, inputs: [{ ...made.inputs[0]!, shape }] }
  }
  const refused: readonly (readonly [what: string, request: () => InferRequest, code: string, message: RegExp])[] = [
    ['an unknown model', () => request('x', { x: features }), 'NOT_FOUND', /^Request for unknown model: 'x' is not found$/],
    ['an unknown version', () => request('logistic', { x: features }, { modelVersion: '9' }), 'NOT_FOUND', /version 9/],
    ['a version that is no number', () => request('logistic', { x: features }, { modelVersion: 'latest' }), 'INVALID_ARGUMENT', /'latest'/],
    ['raw and typed contents together', both, 'INVALID_ARGUMENT', /"x": has both raw and typed contents/],
    [
      'no data',
      () => request('echo-FP32', { x: features }, { rawInputContents: [] }),
      'INVALID_ARGUMENT',
      /"x": FP32 of shape \[1, 2\] needs 2 elements, got 0/,
    ],
    [
      'fewer raw contents than inputs',
      () => request('pair', pairOf(), { rawInputContents: [Buffer.alloc(8)] }),
      'INVALID_ARGUMENT',
      /2 tensors come with 1 raw contents/,
    ],
    [
      'raw contents of another size',
      () => request('echo-FP32', { x: features }, { rawInputContents: [Buffer.alloc(7)] }),
      'INVALID_ARGUMENT',
      /"x": FP32 of shape \[1, 2\] needs 8 bytes, got 7/,
    ],
    [
      'contents in another field',
      () => typed('FP32', { fp64Contents: [1, 2] }),
      'INVALID_ARGUMENT',
      /"x": FP32 belongs in fp32_contents, not in fp64_contents/,
    ],
    [
      'an INT8 out of range',
      () => typed('INT8', { intContents: [1, 128] }),
      'INVALID_ARGUMENT',
      /"x": 128 \(element 1\) is out of range for INT8/,
    ],
    ['FP16 as typed contents', () => typed('FP16', { fp32Contents: [1, 2] }), 'INVALID_ARGUMENT', /"x": FP16 has no typed contents/],
    [
      'too many elements',
      () => typed('FP32', { fp32Contents: [1, 2, 3] }),
      'INVALID_ARGUMENT',
      /"x": FP32 of shape \[1, 2\] needs 2 elements, got 3/,
    ],
    ['an unknown datatype', () => typed('FLOAT' as Datatype, {}), 'INVALID_ARGUMENT', /"x": unknown datatype "FLOAT"/],
    [
      'another datatype',
      () => request('echo-FP32', { x: tensor('FP64', [1, 2], new Float64Array(2)) }),
      'INVALID_ARGUMENT',
      /"x" is FP64 of shape \[1, 2\]: expected FP32/,
    ],
    [
      'another shape',
      () => request('echo-FP32', { x: tensor('FP32', [1, 3], new Float32Array(3)) }),
      'INVALID_ARGUMENT',
      /"x" is FP32 of shape \[1, 3\]: expected FP32 of shape \[1, 2\]/,
    ],
    ['a negative dimension', () => shaped(-1n, 2n), 'INVALID_ARGUMENT', /"x": shape \[-1, 2\] has a negative size/],
    ['a huge shape', () => shaped(2n ** 40n, 2n ** 40n), 'INVALID_ARGUMENT', /"x": shape .* is too large/],
    ['no row', () => request('echo-FP32', { x: tensor('FP32', [0, 2], new Float32Array(0)) }), 'INVALID_ARGUMENT', /at least one row/],
    [
      'BYTES that run over the end',
      () => request('word', { x: text(['a']) }, { rawInputContents: [Buffer.of(9, 0, 0, 0, 1)] }),
      'INVALID_ARGUMENT',
      /"x"/,
    ],
    [
      'an input in shared memory',
      () => {
        const made = request('echo-FP32', { x: features })
        return { ...made, inputs: [{ ...made.inputs[0]!, parameters: { shared_memory_region: parameter('r') } }], rawInputContents: [] }
      },
      'INVALID_ARGUMENT',
      /"x" is in shared memory/,
    ],
    [
      'an unknown input',
      () => request('echo-FP32', { z: features }),
      'INVALID_ARGUMENT',
      /unexpected inference input 'z' for model 'echo-FP32'/,
    ],
    ['a missing input', () => request('pair', { a: features }), 'INVALID_ARGUMENT', /input "n" is missing/],
    [
      'an unknown output',
      () => request('echo-FP32', { x: features }, { outputs: [{ name: 'z', parameters: {} }] }),
      'INVALID_ARGUMENT',
      /unexpected inference output 'z'/,
    ],
    [
      'a sequence',
      () => request('echo-FP32', { x: features }, { parameters: { sequence_id: parameter(3n) } }),
      'INVALID_ARGUMENT',
      /sequences are not supported/,
    ],
    [
      'a classification of 0',
      () => request('echo-FP32', { x: features }, { outputs: [{ name: 'y', parameters: { classification: parameter(0n) } }] }),
      'INVALID_ARGUMENT',
      /"classification" is 0/,
    ],
    [
      'classification of BYTES',
      () =>
        request(
          'word',
          { x: { ...text(['a']), shape: [1, 1] } },
          { outputs: [{ name: 'y', parameters: { classification: parameter(1n) } }] },
        ),
      'INVALID_ARGUMENT',
      /"y" is BYTES: classification needs numbers/,
    ],
  ]
  test.each(refused)('%s is refused', async (_what, make, code, message) => {
    const error = await refusal(channel.unary(methods.modelInfer, make()))
    expect(error.message).toMatch(message)
    expect(error.code).toBe(code)
  })
})
