import { deflateSync, gunzipSync, gzipSync, inflateSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type OipFixture, type RawAnswer, rawPost, startOipFixture } from './oip-fixture.ts'

let fixture: OipFixture
beforeAll(async () => {
  fixture = await startOipFixture()
})
afterAll(() => fixture.stop())

const raw = (path: string, headers: Record<string, string>, body: Uint8Array): Promise<RawAnswer> =>
  rawPost(fixture.http, path, headers, body)

const echoBody = '{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'

describe('the binary tensor data extension', () => {
  const header = (length: number): Record<string, string> => ({
    'content-type': 'application/octet-stream',
    'inference-header-content-length': String(length),
  })
  const send = (model: string, json: string, tail: Uint8Array, headers: Record<string, string> = {}): Promise<RawAnswer> =>
    raw(`/v2/models/${model}/infer`, { ...header(Buffer.byteLength(json)), ...headers }, Buffer.concat([Buffer.from(json), tail]))
  const floats = Buffer.from(Float32Array.of(1.5, -2).buffer)
  const binaryInput = (size: number, rest = ''): string =>
    `{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":${size}}}]${rest}}`
  const parts = ({ headers, body }: RawAnswer): { json: unknown; tail: Buffer } => {
    const length = Number(headers['inference-header-content-length'] ?? body.length)
    return { json: JSON.parse(body.subarray(0, length).toString()), tail: body.subarray(length) }
  }

  test('binary in, JSON out', async () => {
    const answer = await send('echo-FP32', binaryInput(8), floats)
    expect(answer.headers['inference-header-content-length']).toBeUndefined()
    expect(answer.headers['content-type']).toMatch(/^application\/json/)
    expect(parts(answer).json).toMatchObject({ outputs: [{ datatype: 'FP32', data: [1.5, -2] }] })
  })

  test('binary in and out, by the output’s own parameter and by the request’s', async () => {
    for (const rest of [',"outputs":[{"name":"y","parameters":{"binary_data":true}}]', ',"parameters":{"binary_data_output":true}']) {
      const answer = await send('echo-FP32', binaryInput(8, rest), floats)
      expect(answer.headers['content-type']).toBe('application/octet-stream')
      const { json, tail } = parts(answer)
      expect(json).toMatchObject({ outputs: [{ name: 'y', shape: [1, 2], parameters: { binary_data_size: 8 } }] })
      expect(tail).toEqual(floats)
    }
  })

  test('an output’s own parameter counts more than the request’s', async () => {
    const rest = ',"parameters":{"binary_data_output":true},"outputs":[{"name":"y","parameters":{"binary_data":false}}]'
    expect(parts(await send('echo-FP32', binaryInput(8, rest), floats)).json).toMatchObject({ outputs: [{ data: [1.5, -2] }] })
  })

  test('binary and JSON inputs beside each other; binary outputs in their order', async () => {
    const json =
      '{"inputs":[{"name":"a","shape":[1,2],"datatype":"FP32","data":[1,2]},{"name":"n","shape":[1],"datatype":"INT64","parameters":{"binary_data_size":8}}],' +
      '"parameters":{"binary_data_output":true}}'
    const { tail } = parts(await send('pair', json, Buffer.from(BigInt64Array.of(-7n).buffer)))
    expect(tail.subarray(0, 8)).toEqual(Buffer.from(Float32Array.of(1, 2).buffer))
    expect(tail.readBigInt64LE(8)).toBe(-7n)
  })

  const kept: readonly (readonly [datatype: string, tail: Buffer])[] = [
    ['BOOL', Buffer.of(1, 0)],
    ['UINT8', Buffer.of(0, 255)],
    ['FP16', Buffer.from(Uint16Array.of(0x3c00, 0xfbff).buffer)],
    ['INT64', Buffer.from(BigInt64Array.of(2n ** 63n - 1n, -1n).buffer)],
    ['FP64', Buffer.from(Float64Array.of(NaN, -0).buffer)],
    ['BYTES', Buffer.concat([Buffer.of(2, 0, 0, 0, 0xc3, 0xa9), Buffer.of(0, 0, 0, 0)])],
  ]
  test.each(kept)('%s comes back byte for byte', async (datatype, tail) => {
    const json = `{"inputs":[{"name":"x","shape":[1,2],"datatype":"${datatype}","parameters":{"binary_data_size":${tail.length}}}],"parameters":{"binary_data_output":true}}`
    expect(parts(await send(`echo-${datatype}`, json, tail)).tail).toEqual(tail)
  })

  test('the whole body is the one input where the length is 0', async () => {
    const answer = await raw('/v2/models/echo-FP32/infer', header(0), floats)
    expect(answer.status).toBe(200)
    expect(parts(answer).tail).toEqual(floats)
    const ragged = await raw('/v2/models/ragged/infer', header(0), Buffer.alloc(20))
    expect(parts(ragged).json).toMatchObject({ outputs: [{ shape: [1, 5] }] })
    const word = await raw('/v2/models/word/infer', header(0), Buffer.from('grün'))
    expect(parts(word).tail.subarray(4).toString()).toBe('grün')
  })

  const refused: readonly (readonly [
    what: string,
    model: string,
    json: string,
    tail: Buffer,
    length: string | undefined,
    message: RegExp,
  ])[] = [
    [
      'fewer bytes than declared',
      'echo-FP32',
      binaryInput(8),
      floats.subarray(0, 6),
      undefined,
      /"x": "binary_data_size" is 8 bytes, where 6 are left/,
    ],
    ['more bytes than declared', 'echo-FP32', binaryInput(8), Buffer.alloc(9), undefined, /1 bytes of binary data are left over/],
    [
      'a size that the shape does not have',
      'echo-FP32',
      binaryInput(4),
      floats.subarray(0, 4),
      undefined,
      /"x": FP32 of shape \[1, 2\] needs 8 bytes, got 4/,
    ],
    [
      'a size that is no count',
      'echo-FP32',
      binaryInput(-1),
      floats,
      undefined,
      /"x": "binary_data_size" is -1: expected a count of bytes/,
    ],
    ['binary data without a length header', 'echo-FP32', binaryInput(8), floats, '', /JSON/],
    [
      'a length that is no number',
      'echo-FP32',
      binaryInput(8),
      floats,
      'many',
      /Inference-Header-Content-Length is "many": expected a count/,
    ],
    ['a length beyond the body', 'echo-FP32', binaryInput(8), floats, '9999', /Inference-Header-Content-Length is 9999, but the body has/],
    [
      'data and binary_data_size',
      'echo-FP32',
      '{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2],"parameters":{"binary_data_size":8}}]}',
      floats,
      undefined,
      /"x" has both "data" and "binary_data_size"/,
    ],
    [
      'BYTES whose length runs over the end',
      'word',
      '{"inputs":[{"name":"x","shape":[1,1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
      Buffer.of(9, 0, 0, 0, 1),
      undefined,
      /"x": element 0 of 1 says that it has 9 bytes/,
    ],
    [
      'a BOOL that is neither 0 nor 1',
      'echo-BOOL',
      '{"inputs":[{"name":"x","shape":[1,2],"datatype":"BOOL","parameters":{"binary_data_size":2}}]}',
      Buffer.of(1, 2),
      undefined,
      /"x": byte 1 of BOOL is 2: expected 0 or 1/,
    ],
    ['a raw body of the wrong size', 'echo-FP32', '', Buffer.alloc(7), '0', /"x": FP32 of shape \[1, 2\] needs 8 bytes, got 7/],
    ['a raw body for two inputs', 'pair', '', floats, '0', /Raw request must only have 1 input.*2 inputs in 'pair'/],
    ['a raw body for two BYTES elements', 'echo-BYTES', '', floats, '0', /"x".*one element/],
  ]
  test.each(refused)('%s is refused', async (_what, model, json, tail, length, message) => {
    const headers =
      length === undefined ? header(Buffer.byteLength(json)) : length === '' ? {} : { 'inference-header-content-length': length }
    const answer = await raw(`/v2/models/${model}/infer`, headers, Buffer.concat([Buffer.from(json), tail]))
    expect((JSON.parse(answer.body.toString()) as { error: string }).error).toMatch(message)
    expect(answer.status).toBe(400)
  })

  test('FP16 cannot come back as JSON', async () => {
    const json = '{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP16","parameters":{"binary_data_size":4}}]}'
    const half = await send('echo-FP16', json, Buffer.alloc(4))
    expect([half.status, half.body.toString()]).toEqual([400, expect.stringContaining('output \\"y\\" is FP16')])
  })
})

describe('compression', () => {
  const path = '/v2/models/echo-FP32/infer'
  test.each([
    ['gzip', gzipSync],
    ['deflate', deflateSync],
    ['GZip', gzipSync],
  ] as const)('a request body in %s', async (encoding, compress) => {
    const answer = await raw(path, { 'content-encoding': encoding }, compress(echoBody))
    expect(answer.status).toBe(200)
  })

  const large = `{"inputs":[{"name":"x","shape":[500,2],"datatype":"FP32","data":[${Array.from({ length: 1000 }, (_, i) => i).join()}]}]}`
  test.each([
    ['gzip', 'gzip', gunzipSync],
    ['deflate', 'deflate', inflateSync],
    ['deflate;q=0.5, gzip;q=0.1', 'deflate', inflateSync],
    ['gzip, deflate, br', 'gzip', gunzipSync],
  ] as const)('a response for "%s" comes in %s', async (accepted, encoding, decompress) => {
    const answer = await raw(path, { 'accept-encoding': accepted }, Buffer.from(large))
    expect(answer.headers['content-encoding']).toBe(encoding)
    expect(JSON.parse(decompress(answer.body).toString())).toMatchObject({ outputs: [{ shape: [500, 2] }] })
  })

  test('no compression where it is not wanted, or saves nothing', async () => {
    for (const accepted of ['identity', 'br', 'gzip;q=0'])
      expect((await raw(path, { 'accept-encoding': accepted }, Buffer.from(large))).headers['content-encoding']).toBeUndefined()
    expect((await raw(path, { 'accept-encoding': 'gzip' }, Buffer.from(echoBody))).headers['content-encoding']).toBeUndefined()
  })

  test.each([
    ['br', Buffer.from(echoBody), 415, /expected gzip, deflate or identity/],
    ['gzip', Buffer.from(echoBody), 400, /the body is not gzip/],
    ['gzip', gzipSync(Buffer.alloc(65 * 1024 * 1024)), 413, /when it is decompressed/],
  ] as const)('%s that does not fit is refused', async (encoding, body, status, message) => {
    const answer = await raw(path, { 'content-encoding': encoding }, body)
    expect(answer.body.toString()).toMatch(message)
    expect(answer.status).toBe(status)
  })
})
