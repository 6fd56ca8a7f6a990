import { Agent, type IncomingMessage, request as httpRequest } from 'node:http'
import { connect, type Socket } from 'node:net'
import { MeshError } from '@spillway/core'
import { GrpcChannel } from '@spillway/rpc'
import { createTelemetry } from '@spillway/telemetry'
import { predictionV1 } from '@spillway/wire'
import { expect, it, onTestFinished } from 'vitest'
import { post, startGateway, type Started, until } from './fixture.ts'

const mib = 2 ** 20
const path = '/v1/pipelines/fraud:predict'
const waitingBody = '{"event":{"wait":1}}'
const roomForOne = { maxCallsInFlight: 1 }

/** A call that stays in flight until it is cut. */
async function occupy({ url, pipeline }: Started): Promise<{ cut(): Promise<void> }> {
  const controller = new AbortController()
  const call = fetch(url + path, {
    method: 'POST',
    body: waitingBody,
    headers: { 'content-type': 'application/json' },
    signal: controller.signal,
  })
  const ended = call.then(
    () => undefined,
    () => undefined,
  )
  await until(() => pipeline.calls.length === 1)
  return {
    cut: async () => {
      controller.abort()
      await ended
    },
  }
}

function openSocket({ gateway }: Started): { socket: Socket; read(): string } {
  const socket = connect(gateway.httpPort, '127.0.0.1')
  let received = ''
  socket.on('data', (chunk) => (received += String(chunk))).on('error', () => socket.destroy())
  onTestFinished(() => void socket.destroy())
  return { socket, read: () => received }
}

const head = (...headers: readonly string[]): string =>
  [`POST ${path} HTTP/1.1`, 'host: x', 'content-type: application/json', ...headers, '', ''].join('\r\n')

it('answers 429 with Retry-After, and goes on with the connection behind the body that it did not take', async () => {
  const started = await startGateway(roomForOne)
  const busy = await occupy(started)
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  onTestFinished(() => agent.destroy())
  const ports = new Set<number | undefined>()
  const ask = (body: string): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const { httpPort: port } = started.gateway
      const sent = httpRequest({ agent, port, path, method: 'POST', headers: { 'content-type': 'application/json' } }, (answer) => {
        ports.add(answer.socket.localPort)
        answer.resume().once('end', () => resolve(answer))
      })
      sent.once('error', reject)
      sent.end(body)
    })
  for (let i = 0; i < 20; i++) {
    const { statusCode, headers } = await ask(JSON.stringify({ event: { amount: 1, note: 'x'.repeat(i * 5000) } }))
    expect([statusCode, headers['retry-after']]).toEqual([429, '1'])
  }
  expect(await (await post(started.url + path, '{"event":{"amount":1}}')).json()).toMatchObject({ error: { code: 'RESOURCE_EXHAUSTED' } })
  expect((await fetch(`${started.url}/livez`)).status).toBe(200)
  await busy.cut()
  await until(async () => (await started.metric('spillway_gateway_calls_in_flight')) === 0)
  expect((await ask('{"event":{"amount":1}}')).statusCode).toBe(200)
  expect(ports.size).toBe(1)
  expect(await started.metric('spillway_gateway_refused_calls_total{reason="calls"}')).toBe(21)
})

it('tells a client that asks before it sends a body to keep it', async () => {
  const started = await startGateway(roomForOne)
  const busy = await occupy(started)
  const refused = openSocket(started)
  refused.socket.write(head('content-length: 1000000', 'expect: 100-continue'))
  await until(() => refused.socket.closed)
  expect(refused.read()).toMatch(/^HTTP\/1.1 429 [^]*"there is no room for another call: try again later"/)
  await busy.cut()
  await until(async () => (await started.metric('spillway_gateway_calls_in_flight')) === 0)
  const taken = openSocket(started)
  taken.socket.write(head('content-length: 22', 'expect: 100-continue'))
  await until(() => taken.read().includes('100 Continue'))
  taken.socket.write('{"event":{"amount":1}}')
  await until(() => taken.read().includes('HTTP/1.1 200'))
})

it('bounds the bytes of the requests in flight, whichever protocol brings them', async () => {
  const started = await startGateway({ maxBytesInFlight: mib })
  const telemetry = createTelemetry({ service: 'client', logLevel: 'silent', otlp: false })
  const channel = new GrpcChannel({ address: `127.0.0.1:${started.gateway.grpcPort}`, telemetry })
  onTestFinished(() => channel.drain())
  const grpc = (length: number): Promise<string> =>
    channel.unary(predictionV1.PredictionService.predict, { pipeline: 'fraud', events: [Buffer.alloc(length, ' ')] }).then(
      () => 'OK',
      (error: unknown) => MeshError.from(error).code,
    )
  const slow = openSocket(started)
  slow.socket.write(head('content-length: 1000000'))
  await until(async () => (await started.metric('spillway_gateway_bytes_in_flight')) === 1_000_000)
  const event = JSON.stringify({ event: { amount: 1, note: 'x'.repeat(100_000) } })
  expect((await post(started.url + path, event)).status).toBe(429)
  expect(await grpc(100_000)).toBe('RESOURCE_EXHAUSTED')
  const subscription = channel.serverStream(predictionV1.PredictionService.subscribe, { topic: 'x'.repeat(100_000), start: undefined })
  await expect(subscription.next()).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED' })
  const unsaid = openSocket(started)
  unsaid.socket.write(head('transfer-encoding: chunked') + 'a\r\n')
  await until(() => unsaid.read().startsWith('HTTP/1.1 429'))
  // One that asks before it sends its body is refused at the front, by the same words.
  const asking = openSocket(started)
  asking.socket.write(head('content-length: 100000', 'expect: 100-continue'))
  await until(() => asking.socket.closed)
  expect(asking.read()).toMatch(/^HTTP\/1.1 429 [^]*"there is no room for a request of this size: try again later, or send less"/)
  expect((await post(started.url + path, '{"event":{"amount":1}}')).status).toBe(200)
  expect(await started.metric('spillway_gateway_refused_calls_total{reason="bytes"}')).toBe(5)
  slow.socket.destroy()
  unsaid.socket.destroy()
  await until(async () => (await started.metric('spillway_gateway_bytes_in_flight')) === 0)
  // One that is larger than all that is allowed goes alone.
  expect((await post(started.url + path, JSON.stringify({ event: { amount: 1, note: 'x'.repeat(2 * mib) } }))).status).toBe(200)
})

it('bounds what callers that hung up have left to be published', async () => {
  const { bus } = await startGateway()
  const durable = Promise.withResolvers<[]>()
  const stalled = Object.assign(Object.create(bus) as typeof bus, { publish: () => durable.promise })
  const started = await startGateway({ bus: stalled, maxBytesInFlight: mib })
  const event = JSON.stringify({ customer: 1, note: 'x'.repeat(300_000) })
  const publish = (signal: AbortSignal): Promise<number> => {
    const headers = { 'content-type': 'application/json' }
    const sent = fetch(`${started.url}/v1/topics/transactions/events`, { method: 'POST', body: event, headers, signal })
    return sent.then(({ status }) => status).catch(() => 0)
  }
  for (let left = 1; left <= 3; left++) {
    const caller = new AbortController()
    const sent = publish(caller.signal)
    await until(async () => (await started.metric('spillway_gateway_rows_in_flight')) === left)
    caller.abort()
    await sent
    await until(async () => (await started.metric('spillway_gateway_bytes_in_flight')) === 0)
  }
  expect(await publish(new AbortController().signal)).toBe(429)
  durable.resolve([])
})

it('holds no more than that while a hundred clients send large bodies at once', async () => {
  const limit = 16 * mib
  const started = await startGateway({ maxBytesInFlight: limit })
  const large = Buffer.alloc(4 * mib - 1000, ' ')
  const before = process.memoryUsage.rss()
  let peakBytes = 0
  let mostInFlight = 0
  const watch = setInterval(() => {
    peakBytes = Math.max(peakBytes, process.memoryUsage.rss() - before)
    void started.metric('spillway_gateway_bytes_in_flight').then((bytes) => (mostInFlight = Math.max(mostInFlight, bytes)))
  }, 5)
  // Each holds its last byte back, until all are there.
  const clients = Array.from({ length: 100 }, () => {
    const client = openSocket(started)
    client.socket.write(head(`content-length: ${large.length}`))
    client.socket.write(large.subarray(1))
    return client
  })
  await until(() => clients.filter((client) => client.read().startsWith('HTTP/1.1 429')).length === 96, 60_000)
  for (const { socket } of clients) socket.write(' ')
  await until(() => clients.every((client) => /^HTTP\/1.1 4(?:29|00)/.test(client.read())), 60_000)
  clearInterval(watch)
  expect(mostInFlight).toBeGreaterThan(limit - 4 * mib)
  expect(mostInFlight).toBeLessThanOrEqual(limit)
  // All of them are 400 MiB.
  expect(peakBytes).toBeLessThan(200 * mib)
})

it('cuts a request that does not arrive in time, and gives its place back', async () => {
  const started = await startGateway({ ...roomForOne, requestTimeoutMs: 300 })
  const slow = openSocket(started)
  slow.socket.write(`${head('content-length: 100')}{"event":`)
  await until(async () => (await started.metric('spillway_gateway_calls_in_flight')) === 1)
  await until(() => slow.socket.closed)
  expect(slow.read()).toMatch(/^HTTP\/1.1 408 /)
  await until(async () => (await started.metric('spillway_gateway_calls_in_flight')) === 0)
  expect((await post(started.url + path, '{"event":{"amount":1}}')).status).toBe(200)
})
