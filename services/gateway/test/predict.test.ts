import { connect } from 'node:net'
import { expect, it } from 'vitest'
import { post, startGateway, until } from './fixture.ts'

const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

it('answers one event with its prediction, 64-bit integers exact', async () => {
  const { url, pipeline } = await startGateway()
  const response = await post(`${url}/v1/pipelines/fraud:predict`, '{ "event": {"id": 9007199254740993, "amount": 12.5} }', { traceparent })
  expect(response.status).toBe(200)
  expect(response.headers.get('traceparent')).toBe(traceparent)
  expect(await response.text()).toBe('{"prediction":{"id":9007199254740993,"score":0.0125}}')
  expect(pipeline.calls[0]!.traceParent).toBe(traceparent)
})

it('answers many events in order, each with a result of its own', async () => {
  const { url } = await startGateway()
  const results =
    '{"results":[{"prediction":{"id":18446744073709551615,"score":0.6},"alert":{"id":18446744073709551615,"score":0.6}},' +
    '{"error":{"code":"INVALID_ARGUMENT","message":"amount: expected a number","field":"amount","stage":"preprocessing"}},' +
    '{"prediction":{"id":2,"score":0.001}}]}'
  const events = ['{"id":18446744073709551615,"amount":600}', '{"note":"a ] \\" } b"}', '{"id": 2,"amount":1}']
  const asJson = await post(`${url}/v1/pipelines/fraud:predict`, `{"events":[${events.join(' ,\n')}]}`)
  expect([asJson.status, await asJson.text()]).toEqual([200, results])
  const asLines = await post(`${url}/v1/pipelines/fraud:predict`, events.join('\r\n'), { 'content-type': 'application/x-ndjson' })
  expect([asLines.status, await asLines.text()]).toEqual([200, results])
  expect(await (await post(`${url}/v1/pipelines/fraud:predict`, '{"events":[]}')).text()).toBe('{"results":[]}')
})

it('names what is wrong', async () => {
  const { url } = await startGateway({ maxBodyBytes: 1000, maxEventsPerCall: 3 })
  const predict = `${url}/v1/pipelines/fraud:predict`
  const cases: readonly [Promise<Response>, number, object][] = [
    [post(predict, '{"event":{"id":1}}'), 400, { code: 'INVALID_ARGUMENT', field: 'amount', stage: 'preprocessing' }],
    [post(predict, '{"event":{"amount":-1}}'), 503, { code: 'UNAVAILABLE' }],
    [post(predict, '{"event":'), 400, { code: 'INVALID_ARGUMENT' }],
    [post(predict, Buffer.from([0x22, 0xff, 0x22])), 400, { code: 'INVALID_ARGUMENT' }],
    [post(predict, '[]'), 400, { code: 'INVALID_ARGUMENT' }],
    [post(predict, '{"event":{},"events":[]}'), 400, { field: 'events' }],
    [post(predict, '{"events":{}}'), 400, { field: 'events' }],
    [post(predict, '{"event":{},"extra":1}'), 400, { field: 'extra' }],
    [post(predict, '{"events":[1,2,3,4]}'), 400, { field: 'events' }],
    [post(predict, '{"event":{}}', { 'x-spillway-timeout-ms': 'soon' }), 400, { field: 'x-spillway-timeout-ms' }],
    [post(predict, '{"event":{}}', { 'content-type': 'text/plain' }), 415, { code: 'INVALID_ARGUMENT' }],
    [post(predict, '{"event":{}}', { 'content-encoding': 'gzip' }), 415, { code: 'INVALID_ARGUMENT' }],
    [post(predict, JSON.stringify({ event: { note: 'x'.repeat(1000) } })), 413, { code: 'INVALID_ARGUMENT' }],
    [post(`${url}/v1/pipelines/other:predict`, '{"event":{}}'), 404, { code: 'NOT_FOUND', message: expect.stringContaining('fraud') }],
    [fetch(`${url}/nowhere`), 404, { code: 'NOT_FOUND' }],
    [fetch(`${url}/v1/topics/%zz/events`), 400, { code: 'INVALID_ARGUMENT' }],
  ]
  for (const [pending, status, error] of cases) {
    const response = await pending
    expect([response.status, await response.json()]).toEqual([status, { error: expect.objectContaining(error) }])
    expect(response.headers.get('retry-after')).toBe(status === 503 ? '1' : null)
  }
})

it('gives up at the deadline, and hands the pipeline a little less', async () => {
  const { url, pipeline } = await startGateway()
  const startMs = Date.now()
  const waiting = post(`${url}/v1/pipelines/fraud:predict`, '{"event":{"wait":1}}', { 'x-spillway-timeout-ms': '500' })
  await until(() => pipeline.calls.length === 1)
  const { deadlineMs, signal } = pipeline.calls[0]!
  let givenUpMs = 0
  signal.addEventListener('abort', () => (givenUpMs = Date.now()))
  const own = await waiting
  const { error } = (await own.json()) as { error: { code: string; message: string } }
  expect([own.status, error.code]).toEqual([504, 'DEADLINE_EXCEEDED'])
  // Less than it was given by what went before the call.
  const leftMs = Number(/^no answer within (\d+) ms$/.exec(error.message)?.[1])
  expect(leftMs).toBeLessThanOrEqual(500)
  expect(deadlineMs - startMs).toBeGreaterThanOrEqual(0.9 * leftMs - 1)
  expect(givenUpMs - deadlineMs).toBeGreaterThanOrEqual(0.1 * leftMs - 2)
  const grpc = await post(`${url}/v1/pipelines/fraud:predict`, '{"event":{"wait":1}}', { 'grpc-timeout': '20m' })
  expect(grpc.status).toBe(504)
})

it('tells the pipeline when the client is gone, and refuses what is too much', async () => {
  const { url, pipeline, metric } = await startGateway({ maxCallsInFlight: 1 })
  const client = new AbortController()
  const waiting = fetch(`${url}/v1/pipelines/fraud:predict`, {
    method: 'POST',
    body: '{"event":{"wait":1}}',
    headers: { 'content-type': 'application/json' },
    signal: client.signal,
  })
  waiting.catch(() => undefined)
  await until(() => pipeline.calls.length === 1)
  const refused = await post(`${url}/v1/pipelines/fraud:predict`, '{"event":{"amount":1}}')
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1'])
  // Before it is read: what is wrong with it does not matter.
  const unread = await Promise.all([
    post(`${url}/v1/pipelines/fraud:predict`, '{"event'),
    post(`${url}/v1/topics/unknown/events`, '{"event'),
    post(`${url}/v1/pipelines/fraud:predict`, 'x'.repeat(100), { 'content-type': 'text/plain' }),
  ])
  expect(unread.map(({ status }) => status)).toEqual([429, 429, 429])
  expect(await metric('spillway_gateway_refused_calls_total{reason="calls"}')).toBe(4)
  client.abort()
  await until(() => pipeline.calls[0]!.signal.aborted)
  await until(async () => (await metric('spillway_gateway_calls_in_flight')) === 0)
  expect((await post(`${url}/v1/pipelines/fraud:predict`, '{"event":{"amount":1}}')).status).toBe(200)
})

it('bounds the events in flight, and takes a call that is too large for it where no other is', async () => {
  const { url, pipeline, metric } = await startGateway({ maxRowsInFlight: 3 })
  const predict = (events: readonly object[], timeoutMs = 10_000): Promise<Response> =>
    post(`${url}/v1/pipelines/fraud:predict`, JSON.stringify({ events }), { 'x-spillway-timeout-ms': String(timeoutMs) })
  const amounts = (count: number): readonly object[] => Array.from({ length: count }, () => ({ amount: 1 }))
  expect((await predict(amounts(5))).status).toBe(200)
  const waiting = predict([{ wait: 1 }, { wait: 1 }], 2000)
  await until(() => pipeline.calls.length === 2)
  expect([(await predict(amounts(1))).status, (await predict(amounts(2))).status]).toEqual([200, 429])
  expect(await metric('spillway_gateway_refused_calls_total{reason="rows"}')).toBe(1)
  expect((await waiting).status).toBe(504)
  expect((await predict(amounts(5))).status).toBe(200)
})

it('says what it serves', async () => {
  let ready = false
  const { url } = await startGateway({ ready: () => ({ ready, reason: 'waiting for the model' }) })
  const get = async (path: string): Promise<unknown> => (await fetch(url + path)).json()
  expect(await get('/v1/pipelines')).toEqual({
    pipelines: [{ name: 'fraud', inputTopics: ['transactions'], topics: ['transactions', 'predictions'] }],
  })
  expect(await get('/v1/topics')).toEqual({
    topics: [
      { name: 'transactions', partitions: 4, input: true },
      { name: 'predictions', partitions: 4, input: false },
    ],
  })
  expect(Object.keys((await get('/openapi.json')) as object)).toContain('paths')
  expect((await fetch(`${url}/livez`)).status).toBe(200)
  expect((await fetch(`${url}/readyz`)).status).toBe(503)
  ready = true
  expect((await fetch(`${url}/readyz`)).status).toBe(200)
  expect(await (await fetch(`${url}/metrics`)).text()).toMatch(/http_server_request_duration_seconds_count\{.*http_route="\/v1\/topics"/)
})

it('answers a request that is no HTTP, with JSON', async () => {
  const { gateway } = await startGateway()
  const socket = connect(gateway.httpPort, '127.0.0.1')
  let answer = ''
  socket.on('data', (chunk) => (answer += String(chunk)))
  socket.write('NONSENSE\r\n\r\n')
  await until(() => socket.closed)
  expect(answer).toMatch(/^HTTP\/1.1 400 /)
  expect(JSON.parse(answer.split('\r\n\r\n')[1]!)).toMatchObject({ error: { code: 'INVALID_ARGUMENT' } })
})

it('lets a call in flight finish when it drains, and takes no more', async () => {
  const { url, gateway, pipeline } = await startGateway()
  const waiting = post(`${url}/v1/pipelines/fraud:predict`, '{"event":{"wait":1}}', { 'x-spillway-timeout-ms': '200' })
  await until(() => pipeline.calls.length === 1)
  const drained = gateway.drain()
  expect((await waiting).status).toBe(504)
  await drained
  await gateway.drain()
  await expect(fetch(`${url}/livez`)).rejects.toThrow()
})
