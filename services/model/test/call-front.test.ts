import { gunzipSync, gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type OipFixture, startOipFixture } from './oip-fixture.ts'
import { chunked, openRaw, RawConnection, type RawResponse, requestBytes } from './raw-http.ts'
import { startTensorflowFixture } from './tensorflow-fixture.ts'

let fixture: OipFixture
beforeAll(async () => {
  fixture = await startOipFixture()
})
afterAll(() => fixture.stop())

const connection = (): RawConnection => openRaw(fixture.http)

const infer = '/v2/models/echo-FP32/infer'
const inferBody = '{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'
const predict = '/v1/models/echo-FP32:predict'
const json = { 'content-type': 'application/json' }

function answerOf(head: string, headers: Record<string, string>, body: Uint8Array | string): Promise<RawResponse> {
  const opened = connection()
  opened.send(requestBytes(head, headers, Buffer.from(body)))
  return opened.next()
}

const post = (path: string, body: Uint8Array | string, headers: Record<string, string> = {}): Promise<RawResponse> =>
  answerOf(`POST ${path} HTTP/1.1`, { ...headers, 'content-length': String(Buffer.byteLength(body)) }, body)

describe('a call in its usual form is answered as one in another form is, which the app answers', () => {
  const many = `{"inputs":[{"name":"x","shape":[400,2],"datatype":"FP32","data":[${Array.from({ length: 800 }, (_, i) => i / 8).join(',')}]}]}`
  const binary =
    '{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}],"parameters":{"binary_data_output":true}}'
  const binaryHeaders = { 'content-type': 'application/octet-stream', 'inference-header-content-length': String(binary.length) }
  const text = '{"id":"é","inputs":[{"name":"x","shape":[1,1],"datatype":"BYTES","data":["grün"]}]}'
  const cases: Readonly<Record<string, readonly [path: string, headers: Record<string, string>, body: string, status: number]>> = {
    'an inference': [infer, json, inferBody, 200],
    'one of a version': [
      '/v2/models/logistic/versions/2/infer',
      json,
      inferBody.replace('"x","shape":[1,2]', '"features","shape":[1,3]').replace('[1,2]', '[1,2,3]'),
      200,
    ],
    'one without a content type': [infer, {}, inferBody, 200],
    'one with text beyond ASCII': ['/v2/models/word/infer', json, text, 200],
    'one with a long answer': [infer, json, many, 200],
    'one with a long answer, compressed': [infer, { ...json, 'accept-encoding': 'gzip' }, many, 200],
    'one whose answer is too short to be compressed': [infer, { ...json, 'accept-encoding': 'gzip, deflate' }, inferBody, 200],
    'one in binary': [infer, binaryHeaders, `${binary}${'\0'.repeat(8)}`, 200],
    'one with a model that nobody knows': ['/v2/models/nobody/infer', json, inferBody, 404],
    'one of a version that is none': ['/v2/models/logistic/versions/two/infer', json, inferBody, 400],
    'one whose JSON is none': [infer, json, '{"inputs":', 400],
    'one whose header length is none': [infer, { 'inference-header-content-length': 'x' }, inferBody, 400],
    'a prediction': [predict, json, '{"instances":[[1,2],[3,4.5]]}', 200],
    'a prediction in another case of letters': ['/v1/models/echo-FP32/versions/1:PREDICT', json, '{"instances":[[1,2]]}', 200],
    'a prediction, compressed': [predict, { 'accept-encoding': 'gzip' }, `{"instances":[${'[1,2],'.repeat(500)}[1,2]]}`, 200],
    'a prediction that does not fit': [predict, json, '{"instances":[[1]]}', 400],
    'a prediction of a model that nobody knows': ['/v1/models/nobody:predict', json, '{"instances":[1]}', 404],
    'a prediction of an unknown label': ['/v1/models/logistic/labels/none:predict', json, '{"instances":[[1,2,3]]}', 400],
    'a prediction of a version beyond 64 bits': [
      '/v1/models/logistic/versions/99999999999999999999:predict',
      json,
      '{"instances":[[1]]}',
      400,
    ],
    'no verb of theirs': ['/v1/models/logistic:explain', json, '{}', 400],
    'a content type that is none': [infer, { 'content-type': 'json' }, inferBody, 415],
  }
  test.each(Object.entries(cases))('%s', async (_name, [path, headers, body, status]) => {
    const usual = await post(path, body, headers)
    expect(usual.status).toBe(status)
    expect(usual.body.length).toBeGreaterThan(0)
    const inChunks = await answerOf(`POST ${path} HTTP/1.1`, { ...headers, 'transfer-encoding': 'chunked' }, chunked(Buffer.from(body)))
    expect(inChunks).toEqual(usual)
    const { 'content-type': type, ...others } = headers
    if (status !== 415)
      expect(
        await post(path, gzipSync(body), { ...others, ...(type && { 'content-type': `${type};q=1` }), 'content-encoding': 'gzip' }),
      ).toEqual(usual)
    expect(await post(path.replace('/v', '/V'), body, headers)).toEqual({ ...usual, body: usual.body.replace('/v1', '/V1') })
  })

  test('an answer that is compressed is the one that is not', async () => {
    const plain = await post(infer, many)
    const compressed = await post(infer, many, { 'accept-encoding': 'gzip' })
    expect(compressed.headers).toMatchObject({ 'content-encoding': 'gzip', vary: 'accept-encoding' })
    expect(gunzipSync(Buffer.from(compressed.body, 'latin1')).toString()).toBe(plain.body)
  })

  test.each(['/', '?verbose=1'])('a path that ends in %s', async (end) => {
    expect(await post(infer + end, inferBody)).toEqual(await post(infer, inferBody))
  })

  test('a model’s name with escapes', async () => {
    expect(await post('/v2/models/echo%2DFP32/infer', inferBody)).toMatchObject({
      status: 200,
      body: expect.stringContaining('"data":[1.0,2.0]'),
    })
  })
})

describe('connections', () => {
  const call = requestBytes(`POST ${infer} HTTP/1.1`, { ...json, 'content-length': String(inferBody.length) }, Buffer.from(inferBody))
  const output = '"outputs":[{"name":"y","datatype":"FP32","shape":[1,2],"data":[1.0,2.0]}]'

  test('a body that comes in pieces, in the middle of which nothing is answered', async () => {
    const opened = connection()
    for (const part of [call.subarray(0, 30), call.subarray(30, call.length - 40), call.subarray(call.length - 40, call.length - 1)]) {
      opened.send(part)
      // Another connection's answer: the server has had the piece, or will have it before the next.
      await post(infer, inferBody)
    }
    opened.send(call.subarray(call.length - 1))
    expect((await opened.next()).body).toContain(output)
  })

  test('many calls on one connection, sent at once, are answered in their order', async () => {
    const opened = connection()
    const numbered = (id: number): Buffer => {
      const body = inferBody.replace('{', `{"id":"${id}",`)
      return requestBytes(`POST ${infer} HTTP/1.1`, { ...json, 'content-length': String(body.length) }, Buffer.from(body))
    }
    const ids = Array.from({ length: 50 }, (_, i) => i)
    opened.send(Buffer.concat(ids.map(numbered)))
    const answered: unknown[] = []
    for (const _ of ids) answered.push((JSON.parse((await opened.next()).body) as { id: string }).id)
    expect(answered).toEqual(ids.map(String))
    expect((await post(infer, inferBody)).headers).toMatchObject({ connection: 'keep-alive', 'keep-alive': 'timeout=72' })
  })

  test('a client that asks first is told to go on', async () => {
    const opened = connection()
    const headers = { ...json, 'content-length': String(inferBody.length), expect: '100-continue' }
    opened.send(requestBytes(`POST ${infer} HTTP/1.1`, headers, Buffer.alloc(0)))
    expect((await opened.next()).status).toBe(100)
    opened.send(inferBody)
    expect(await opened.next()).toMatchObject({ status: 200, body: expect.stringContaining(output) })
  })

  test.each([
    ['HTTP/1.1', { connection: 'close' }],
    ['HTTP/1.0', {}],
  ])('one call of %s %o, and the connection ends', async (version, headers) => {
    const opened = connection()
    opened.send(
      requestBytes(`POST ${infer} ${version}`, { ...json, ...headers, 'content-length': String(inferBody.length) }, Buffer.from(inferBody)),
    )
    const { status, headers: answered } = await opened.next()
    expect([status, answered['connection']]).toEqual([200, 'close'])
    await opened.closed()
  })

  test('forty bodies in chunks, and forty compressed ones, may be on their way at once', async () => {
    const packed = gzipSync(inferBody)
    const parts = chunked(Buffer.from(inferBody))
    const forms = [
      requestBytes(`POST ${infer} HTTP/1.1`, { ...json, 'transfer-encoding': 'chunked' }, parts),
      requestBytes(`POST ${infer} HTTP/1.1`, { ...json, 'content-encoding': 'gzip', 'content-length': String(packed.length) }, packed),
    ]
    const callers = forms.flatMap((bytes) => Array.from({ length: 40 }, () => ({ bytes, opened: connection() })))
    for (const { bytes, opened } of callers) opened.send(bytes.subarray(0, bytes.length - 3))
    // Behind them all: what was refused at once has been by now.
    expect((await post(infer, inferBody)).status).toBe(200)
    for (const { bytes, opened } of callers) opened.send(bytes.subarray(bytes.length - 3))
    for (const { opened } of callers) expect((await opened.next()).status).toBe(200)
  })

  test.each(['GET', 'HEAD', 'PUT', 'OPTIONS', 'DELETE'])('%s is no call', async (method) => {
    const { status, headers } = await fetch(`${fixture.http}${infer}`, { method })
    expect([status, headers.get('allow')]).toEqual(method === 'OPTIONS' ? [404, null] : [405, 'POST'])
  })

  test('a body that is announced as too large is refused before it is sent', async () => {
    const opened = connection()
    opened.send(requestBytes(`POST ${infer} HTTP/1.1`, { ...json, 'content-length': String(65 * 1024 * 1024) }, Buffer.alloc(0)))
    expect(await opened.next()).toMatchObject({ status: 413, headers: { connection: 'close' } })
  })

  test('a call without a body, or with an empty one, is refused', async () => {
    const empty = await post(infer, '')
    expect(empty).toMatchObject({ status: 400, body: expect.stringContaining('the request is nothing') })
    expect(await answerOf(`POST ${infer} HTTP/1.1`, json, '')).toEqual(empty)
  })

  test('a call whose body is on its way is answered while the server drains, and no other is taken', async () => {
    const started = await startTensorflowFixture('half_plus_three')
    const { url } = started
    const body = '{"instances":[1]}'
    const opened = new RawConnection(url)
    const head = { ...json, 'content-length': String(body.length) }
    opened.send(requestBytes('POST /v1/models/half_plus_three:predict HTTP/1.1', head, Buffer.from(body.slice(0, 5))))
    // Behind it in the kernel's queue of connections: when it is answered, so is the call's head read.
    expect((await fetch(`${url}/livez`)).status).toBe(200)
    const stopped = started.stop()
    opened.send(body.slice(5))
    expect(await opened.next()).toMatchObject({ status: 200, body: '{"predictions": [3.5]}' })
    await opened.closed()
    await stopped
    const late = new RawConnection(url)
    await late.closed()
  })

  test('a client that goes away in the middle of its body leaves nothing behind', async () => {
    const left = Array.from({ length: 20 }, () => connection())
    for (const opened of left) {
      opened.send(call.subarray(0, call.length - 5))
      opened.socket.end()
    }
    await Promise.all(left.map((opened) => opened.closed()))
    expect((await post(infer, inferBody)).status).toBe(200)
  })
})
