import { context, trace } from '@opentelemetry/api'
import { currentTraceParent } from '@spillway/telemetry'
import type { Models } from '@spillway/serving'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ModelServer } from '../src/mod.ts'
import { type OipFixture, rawPost, startOipFixture } from './oip-fixture.ts'

let fixture: OipFixture
let server: ModelServer
let http: string
/** `traceparent` and `tracestate` of each call as the model saw them. */
const seen: (readonly [string, string])[] = []

beforeAll(async () => {
  fixture = await startOipFixture()
  const { models } = fixture.service
  const watched = new Proxy(models, {
    get: (target, key) => {
      if (key === 'acquire') seen.push([currentTraceParent(), trace.getSpanContext(context.active())?.traceState?.serialize() ?? ''])
      const value = Reflect.get(target, key) as unknown
      return typeof value === 'function' ? (value as (...given: unknown[]) => unknown).bind(target) : value
    },
  }) satisfies Models
  server = new ModelServer({ models: watched, telemetry: fixture.telemetry, host: '127.0.0.1', httpPort: 0, grpcPort: 0 })
  await server.start(new AbortController().signal)
  server.setServing(true)
  http = `http://127.0.0.1:${server.httpPort}`
})
afterAll(async () => {
  await server.drain()
  await fixture.stop()
})

const oip = '{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'
const parent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

test.each([
  ['as most call', '/v2/models/echo-FP32/infer', oip, { 'content-length': String(oip.length) }],
  ['in chunks', '/v2/models/echo-FP32/infer', oip, { 'transfer-encoding': 'chunked' }],
  ['with a query', '/v2/models/echo-FP32/infer?a=1', oip, { 'content-length': String(oip.length) }],
  ['of TensorFlow Serving', '/v1/models/echo-FP32:predict', '{"instances":[[1,2]]}', { 'content-length': '21' }],
])('a call by HTTP is part of its caller’s trace: %s', async (_, path, body, headers) => {
  const state = { tracestate: 'vendor=a1,other=b2' }
  for (const trace of [{ traceparent: parent }, { traceparent: parent, ...state }, { traceparent: 'nonsense', ...state }, state, {}]) {
    const answer = await rawPost(http, path, { ...headers, ...trace }, Buffer.from(body))
    expect(answer.status).toBe(200)
    const isNamed = 'traceparent' in trace && trace.traceparent === parent
    expect(seen.pop()).toEqual([isNamed ? parent : '', isNamed && 'tracestate' in trace ? state.tracestate : ''])
  }
})
