import { connect, constants, type ClientHttp2Session, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http2'
import { gzipSync } from 'node:zlib'
import { createTelemetry } from '@spillway/telemetry'
import { predictionV1 } from '@spillway/wire'
import { expect, it, onTestFinished } from 'vitest'
import { GrpcServer, type RpcCall, serverStreamHandler, unaryHandler } from '../src/mod.ts'

const { PredictionService, PredictRequest, PredictResponse } = predictionV1

type Predict = (request: predictionV1.PredictRequest, call: RpcCall) => Promise<predictionV1.PredictResponse>

/** As many results as events came. */
const echo: Predict = async ({ events }) => ({ results: events.map((value) => ({ result: { $case: 'prediction', value } })) })

async function session(predict: Predict, maxMessageBytes?: number): Promise<ClientHttp2Session> {
  const telemetry = createTelemetry({ service: 'unary-test', logLevel: 'silent', otlp: false })
  const server = new GrpcServer({
    port: 0,
    telemetry,
    ...(maxMessageBytes !== undefined && { maxMessageBytes }),
    services: [
      {
        definition: PredictionService,
        implementation: {
          predict: unaryHandler(predict),
          publish: unaryHandler(async () => ({ positions: [] })),
          subscribe: serverStreamHandler(() => [] as never),
        },
      },
    ],
  })
  await server.start()
  const client = connect(`http://127.0.0.1:${server.port}`)
  onTestFinished(async () => {
    client.destroy()
    await server.drain()
    await telemetry.shutdown()
  })
  return client
}

interface Answer {
  readonly headers: IncomingHttpHeaders
  readonly trailers: IncomingHttpHeaders
  readonly body: Buffer
}

/** The call's stream, and what becomes of it. */
function begin(client: ClientHttp2Session, headers: OutgoingHttpHeaders = {}) {
  const stream = client.request({
    ':method': 'POST',
    ':path': PredictionService.predict.path,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...headers,
  })
  const parts: Buffer[] = []
  let got: IncomingHttpHeaders = {}
  let trailers: IncomingHttpHeaders = {}
  stream.on('response', (received) => (got = received))
  stream.on('trailers', (received) => (trailers = received))
  stream.on('data', (part: Buffer) => parts.push(part))
  const answer = new Promise<Answer>((resolve, reject) => {
    stream.once('error', reject).once('close', () => resolve({ headers: got, trailers, body: Buffer.concat(parts) }))
  })
  return { stream, answer }
}

function call(client: ClientHttp2Session, body: Buffer, headers: OutgoingHttpHeaders = {}): Promise<Answer> {
  const { stream, answer } = begin(client, headers)
  stream.end(body)
  return answer
}

function frame(message: Uint8Array, compressed = 0, length = message.length): Buffer {
  const head = Buffer.alloc(5)
  head[0] = compressed
  head.writeUInt32BE(length, 1)
  return Buffer.concat([head, message])
}

const message = PredictRequest.encode({ pipeline: 'fraud', events: [Buffer.from('{"a":1}')] }).finish()

function eventsOf({ body }: Answer): readonly string[] {
  expect(body.readUInt32BE(1)).toBe(body.length - 5)
  return PredictResponse.decode(body.subarray(5)).results.map(({ result }) =>
    result?.$case === 'prediction' ? Buffer.from(result.value).toString() : 'failure',
  )
}

it('answers with one message, and its status after it', async () => {
  const answer = await call(await session(echo), frame(message))
  expect(answer.headers).toMatchObject({ ':status': 200, 'content-type': expect.stringMatching(/^application\/grpc/) as string })
  expect(answer.headers['grpc-status']).toBeUndefined()
  expect(eventsOf(answer)).toEqual(['{"a":1}'])
  expect(answer.trailers).toMatchObject({ 'grpc-status': '0' })
})

it('reads a message however it is cut', async () => {
  const client = await session(echo)
  const { stream, answer } = begin(client)
  for (const byte of frame(message)) {
    await new Promise<void>((resolve) => stream.write(Buffer.from([byte]), () => resolve()))
    await new Promise(setImmediate)
  }
  stream.end()
  expect(eventsOf(await answer)).toEqual(['{"a":1}'])
})

it('reads what is compressed', async () => {
  const answer = await call(await session(echo), frame(gzipSync(message), 1), { 'grpc-encoding': 'gzip' })
  expect(eventsOf(answer)).toEqual(['{"a":1}'])
})

it('tells a caller that compresses as it does not read what it reads', async () => {
  const { headers } = await call(await session(echo), frame(message, 1), { 'grpc-encoding': 'snappy' })
  expect(headers).toMatchObject({ 'grpc-status': '12', 'grpc-accept-encoding': 'identity,deflate,gzip' })
})

it.each([
  { what: 'no message', body: Buffer.alloc(0), status: '12' },
  { what: 'two messages', body: Buffer.concat([frame(message), frame(message)]), status: '12' },
  { what: 'half a prefix', body: frame(message).subarray(0, 3), status: '13' },
  { what: 'a message that ends early', body: frame(message).subarray(0, 12), status: '13' },
  { what: 'compression that no header names', body: frame(message, 1), status: '13' },
  { what: 'a message over the limit', body: frame(Buffer.alloc(2000)), status: '8' },
  { what: 'another type than the method takes', body: frame(Buffer.from([0xff, 0xff])), status: '3' },
  { what: 'a malformed timeout', body: frame(message), status: '13', headers: { 'grpc-timeout': 'soon' } },
])('refuses $what, and goes on to serve the connection', async ({ body, status, headers }) => {
  let handled = 0
  const predict: Predict = async (request, served) => {
    handled++
    return echo(request, served)
  }
  const client = await session(predict, 1000)
  const answer = await call(client, body, headers)
  expect(answer.headers).toMatchObject({ ':status': 200, 'grpc-status': status })
  expect(answer.body.length).toBe(0)
  expect(handled).toBe(0)
  expect(eventsOf(await call(client, frame(message)))).toEqual(['{"a":1}'])
})

it('refuses a message over the limit by its first bytes', async () => {
  const { stream, answer } = begin(await session(echo, 1000))
  stream.write(frame(Buffer.alloc(10), 0, 2000))
  await expect.poll(() => stream.sentHeaders !== undefined && stream.readableEnded).toBe(true)
  stream.end()
  expect((await answer).headers).toMatchObject({ 'grpc-status': '8' })
})

it('does not send a message over the limit', async () => {
  const client = await session(async () => ({ results: [{ result: { $case: 'prediction', value: Buffer.alloc(2000) } }] }), 1000)
  expect((await call(client, frame(message))).headers).toMatchObject({ 'grpc-status': '8' })
})

it.each(['application/json', 'application/grpc-web+proto', 'application/grpcx'])('answers %s, which is no gRPC, with 415', async (type) => {
  const answer = await call(await session(echo), frame(message), { 'content-type': type })
  expect(answer.headers[':status']).toBe(415)
})

it.each(['application/grpc+proto', 'application/grpc;charset=utf-8'])('takes %s for gRPC', async (type) => {
  const answer = await call(await session(echo), frame(message), { 'content-type': type })
  expect(eventsOf(answer)).toEqual(['{"a":1}'])
})

it('shows the handler the headers of the caller', async () => {
  const seen: { own: unknown; transport: unknown }[] = []
  const client = await session(async (_request, { metadata }) => {
    seen.push({ own: metadata.get('x-tenant'), transport: metadata.get('te') })
    return { results: [] }
  })
  await call(client, frame(message), { 'x-tenant': 'north' })
  expect(seen).toEqual([{ own: ['north'], transport: [] }])
})

it('lets the handler know when the caller resets the call, and answers it no more', async () => {
  const entered = Promise.withResolvers<void>()
  const left = Promise.withResolvers<unknown>()
  const client = await session(
    (_request, { signal }) =>
      new Promise((resolve) => {
        signal.addEventListener('abort', () => {
          left.resolve(signal.reason)
          resolve({ results: [] })
        })
        entered.resolve()
      }),
  )
  const { stream, answer } = begin(client)
  stream.end(frame(message))
  await entered.promise
  stream.close(constants.NGHTTP2_CANCEL)
  expect(await left.promise).toMatchObject({ code: 'CANCELLED' })
  expect((await answer).headers).toEqual({})
})

it('lets a client send more ahead of the reading than the 65,535 bytes of HTTP/2', async () => {
  const client = await session(echo)
  await expect.poll(() => client.remoteSettings.initialWindowSize).toBe(2 ** 20)
  await expect.poll(() => client.state.remoteWindowSize).toBe(2 ** 22)
})
