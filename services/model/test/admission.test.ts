import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MeshError, tensor } from '@spillway/core'
import { GrpcChannel } from '@spillway/rpc'
import { createTelemetry } from '@spillway/telemetry'
import { inference, toRawTensors } from '@spillway/wire'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { logisticModel, writeModel } from '../../../libs/serving/test/onnx-builder.ts'
import { type ModelService, startModelService } from '../src/mod.ts'
import { rawPost } from './oip-fixture.ts'
import { RawConnection, requestBytes } from './raw-http.ts'

const telemetry = createTelemetry({ service: 'admission-test', logLevel: 'silent', otlp: false })
const { modelInfer, serverLive } = inference.GRPCInferenceServiceService
let repository: string
let service: ModelService
let channel: GrpcChannel

beforeAll(async () => {
  repository = await mkdtemp(join(tmpdir(), 'spillway-admission-'))
  await writeModel(repository, 'held', 1, logisticModel([1, 2, 3], 0))
  // Fewer rows than four wait for more.
  const batching = 'dynamic_batching { preferred_batch_size: [4] max_queue_delay_microseconds: 600000000 }'
  await writeFile(join(repository, 'held', 'config.pbtxt'), `max_batch_size: 8\n${batching}\n`)
  service = await startModelService({
    repository,
    host: '127.0.0.1',
    httpPort: 0,
    grpcPort: 0,
    telemetry,
    signal: new AbortController().signal,
    maxCallsInFlight: 2,
    maxRequestBytes: 4000,
    maxBytesInFlight: 5000,
  })
  channel = new GrpcChannel({ address: `127.0.0.1:${service.grpcPort}`, telemetry })
  await channel.start()
})

afterAll(async () => {
  await channel.drain()
  await service.drain()
  await telemetry.shutdown()
  await rm(repository, { recursive: true })
})

function infer(rows: number, signal?: AbortSignal): Promise<inference.ModelInferResponse> {
  const { tensors, raw } = toRawTensors(new Map([['features', tensor('FP32', [rows, 3], new Float32Array(rows * 3))]]))
  const request = { modelName: 'held', modelVersion: '', id: '', parameters: {}, inputs: tensors, outputs: [], rawInputContents: raw }
  return channel.unary(modelInfer, request, signal === undefined ? {} : { signal })
}

function post(path: string, body: object, headers: Record<string, string> = {}) {
  const bytes = Buffer.from(JSON.stringify(body))
  return rawPost(`http://127.0.0.1:${service.httpPort}`, path, { 'content-length': String(bytes.length), ...headers }, bytes)
}

const oip = { inputs: [{ name: 'features', datatype: 'FP32', shape: [1, 3], data: [0, 0, 0] }] }
const codeOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => 'OK',
    (error: unknown) => MeshError.from(error).code,
  )

async function metric(line: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${service.httpPort}/metrics`)).text()
  return Number(
    text
      .split('\n')
      .find((each) => each.startsWith(line))
      ?.split(' ')[1],
  )
}

const inFlight = (): Promise<number> => metric('spillway_model_calls_in_flight')

it('refuses calls beyond the room by each protocol, before it reads them, and takes others once there is room', async () => {
  const callers = [new AbortController(), new AbortController()]
  const held = callers.map(({ signal }) => codeOf(infer(1, signal)))
  await expect.poll(inFlight).toBe(2)
  const before = await metric('spillway_model_refused_calls_total{reason="calls"}')

  expect(await codeOf(infer(4))).toBe('RESOURCE_EXHAUSTED')
  const garbled = { ...modelInfer, requestSerialize: () => Buffer.from([0xff, 0xff]) }
  expect(await codeOf(channel.unary(garbled, undefined as never))).toBe('RESOURCE_EXHAUSTED')
  const rest = await post('/v2/models/held/infer', oip)
  expect({ status: rest.status, retryAfter: rest.headers['retry-after'] }).toEqual({ status: 503, retryAfter: '1' })
  expect((await post('/v2/models/held/infer', { not: 'read' })).status).toBe(503)
  expect((await post('/v1/models/held:predict', { instances: [[0, 0, 0]] })).status).toBe(429)
  expect(await metric('spillway_model_refused_calls_total{reason="calls"}')).toBe(before + 5)
  // What is no call of a model is answered all the same.
  await channel.unary(serverLive, {})
  expect((await fetch(`http://127.0.0.1:${service.httpPort}/v2/health/live`)).status).toBe(200)

  for (const caller of callers) caller.abort()
  expect(await Promise.all(held)).toEqual(['CANCELLED', 'CANCELLED'])
  await expect.poll(inFlight).toBe(0)
  expect(await codeOf(infer(4))).toBe('OK')
})

it.each([
  ['a query', '/v2/models/held/infer?verbose=1'],
  ['escapes in the model’s name', '/v2/models/h%65ld/infer'],
  ['escapes elsewhere', '/v2/models/held/inf%65r'],
  ['a slash at the end', '/v2/models/held/infer/'],
  ['a capital V', '/V2/models/held/infer'],
  ['a query, by TensorFlow Serving’s protocol', '/v1/models/held:predict?verbose=1'],
  ['escapes, by TensorFlow Serving’s protocol', '/v1/models/h%65ld:predict'],
])('refuses calls whose path has %s, before it reads them', async (_form, path) => {
  const callers = [new AbortController(), new AbortController()]
  const held = callers.map(({ signal }) => codeOf(infer(1, signal)))
  await expect.poll(inFlight).toBe(2)
  const refused = await post(path, { not: 'read' })
  expect({ status: refused.status, retryAfter: refused.headers['retry-after'] }).toEqual({
    status: path.startsWith('/v1') ? 429 : 503,
    retryAfter: '1',
  })
  for (const caller of callers) caller.abort()
  await Promise.all(held)
  await expect.poll(inFlight).toBe(0)
  expect((await post(path, { not: 'what it takes' })).status).toBe(400)
  await expect.poll(inFlight).toBe(0)
})

it('counts a call whose client asks first once, and refuses it before its body is sent', async () => {
  const caller = new AbortController()
  const held = codeOf(infer(1, caller.signal))
  await expect.poll(inFlight).toBe(1)
  const opened = new RawConnection(`http://127.0.0.1:${service.httpPort}`)
  const body = Buffer.from(JSON.stringify(oip))
  const head = requestBytes(
    'POST /v2/models/held/infer HTTP/1.1',
    { 'content-length': String(body.length), expect: '100-continue' },
    Buffer.alloc(0),
  )
  opened.send(head)
  expect((await opened.next()).status).toBe(100)
  await expect.poll(inFlight).toBe(2)
  const other = new RawConnection(`http://127.0.0.1:${service.httpPort}`)
  other.send(head)
  expect((await other.next()).status).toBe(503)
  opened.socket.destroy()
  other.socket.destroy()
  caller.abort()
  await held
  await expect.poll(inFlight).toBe(0)
})

it('counts calls by REST, in the app’s forms too', async () => {
  const body = Buffer.from(JSON.stringify(oip))
  const http = `http://127.0.0.1:${service.httpPort}`
  const caller = new AbortController()
  const chunked = fetch(`${http}/v2/models/held/infer`, {
    method: 'POST',
    body: new Blob([body]).stream(),
    duplex: 'half',
    signal: caller.signal,
  } as RequestInit).catch(() => undefined)
  await expect.poll(inFlight).toBe(1)
  await expect.poll(() => metric('spillway_model_bytes_in_flight')).toBe(250)
  caller.abort()
  await chunked
  await expect.poll(inFlight).toBe(0)
})

it('refuses a request whose bytes do not fit beside those in flight', async () => {
  const caller = new AbortController()
  // Padded: what counts is the size of the request.
  const large = { ...oip, id: 'x'.repeat(3000) }
  const first = fetch(`http://127.0.0.1:${service.httpPort}/v2/models/held/infer`, {
    method: 'POST',
    body: JSON.stringify(large),
    signal: caller.signal,
  }).catch(() => undefined)
  await expect.poll(inFlight).toBe(1)
  const noRoom = { error: 'there is no room for a request of this size: try again later, or send less' }
  // In a form that is read on the socket, by Node.js, and by the app.
  const forms: readonly [string, Record<string, string>][] = [
    ['/v2/models/held/infer', {}],
    ['/v2/models/held/infer', { connection: 'close' }],
    ['/v2/models/held/infer?verbose=1', {}],
  ]
  for (const [path, headers] of forms) {
    const { status, body } = await post(path, large, headers)
    expect([status, JSON.parse(body.toString())]).toEqual([503, noRoom])
  }
  expect(await metric('spillway_model_refused_calls_total{reason="bytes"}')).toBe(3)
  caller.abort()
  await first
  await expect.poll(inFlight).toBe(0)
})
