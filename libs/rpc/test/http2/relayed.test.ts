import { randomBytes } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { MeshError } from '@spillway/core'
import { predictionV1 } from '@spillway/wire'
import { expect, it } from 'vitest'
import type { RawClient } from './raw-client.ts'
import { data, type Field, fieldBlock, flag, frameType, headers, lastData, resetStream, setting, windowUpdate } from './raw-frames.ts'
import { SendWindows } from './send-windows.ts'
import {
  call,
  callBlock,
  callFields,
  eventsOf,
  expectAlive,
  expectEcho,
  expectServing,
  fieldsOf,
  goawayOf,
  greet,
  message,
  prefixed,
  serve,
  type Subscribe,
} from './wire-rig.ts'

// Streams of several messages, compressed requests, health and reflection: what is no plain unary call.

const subscribePath = predictionV1.PredictionService.subscribe.path
const nothing = Buffer.alloc(0)
const gzipBlock = fieldBlock([...callFields, ['grpc-encoding', 'gzip']])

function open(streamId: number, path: string, ...more: readonly Field[]): Buffer {
  return headers(streamId, fieldBlock(fieldsOf(path, ...more)))
}

/** A subscription's request, in full. */
function subscription(streamId: number, topic = 'scores', ...more: readonly Field[]): Buffer {
  const request = predictionV1.SubscribeRequest.encode({ topic, start: undefined }).finish()
  return Buffer.concat([open(streamId, subscribePath, ...more), lastData(streamId, prefixed(request))])
}

function record(valueBytes: number): predictionV1.SubscribeResponse {
  return { position: '', partition: 0, offset: 0n, key: nothing, value: Buffer.alloc(valueBytes), headers: {}, timestampMs: 0n }
}

/** The messages of a body that has come so far. */
function messagesOf(body: Buffer): readonly Buffer[] {
  const messages: Buffer[] = []
  for (let at = 0; at + 5 <= body.length;) {
    const end = at + 5 + body.readUInt32BE(at + 1)
    if (end > body.length) break
    messages.push(body.subarray(at + 5, end))
    at = end
  }
  return messages
}

async function messages(client: RawClient, streamId: number, count: number): Promise<readonly Buffer[]> {
  await client.until(`${count} messages on stream ${streamId}`, () => messagesOf(client.bodyOf(streamId)).length >= count)
  return messagesOf(client.bodyOf(streamId))
}

/** Subscriptions that send one record and then wait until they are given up. */
function waitingSubscriptions() {
  let waiting = 0
  const subscribe: Subscribe = async function* (_request, { signal }) {
    waiting++
    try {
      yield record(10)
      if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve))
    } finally {
      waiting--
    }
  }
  return { subscribe, waiting: () => waiting }
}

it('answers health checks between unary calls', async () => {
  const client = await greet(await serve())
  client.send(headers(1, callBlock), open(3, '/grpc.health.v1.Health/Check'), call(5))
  client.send(lastData(3, prefixed(nothing)), lastData(1, message('event of 1')))
  await expectEcho(client, 1)
  await expectEcho(client, 5)
  const answer = await client.answer(3)
  expect(answer).toMatchObject({ headers: { ':status': '200' }, trailers: { 'grpc-status': '0' } })
  expect(messagesOf(answer.body)).toEqual([Buffer.from([8, 2])])
})

it('sends what a watched health becomes', async () => {
  const server = await serve()
  const client = await greet(server)
  client.send(open(1, '/grpc.health.v1.Health/Watch'), lastData(1, prefixed(nothing)))
  await messages(client, 1, 1)
  server.setServing(true)
  expect(await messages(client, 1, 2)).toEqual([Buffer.from([8, 2]), Buffer.from([8, 1])])
  client.send(resetStream(1))
  await expectAlive(client, 3)
})

it('answers each message of a stream in both directions as it comes', async () => {
  const client = await greet(await serve())
  const listServices = prefixed(Buffer.from([0x3a, 0]))
  client.send(open(1, '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo'), data(1, listServices))
  await messages(client, 1, 1)
  await expectAlive(client, 3)
  client.send(data(1, listServices.subarray(0, 3)))
  client.send(data(1, listServices.subarray(3)))
  for (const answer of await messages(client, 1, 2)) expect(answer.toString()).toContain('spillway.v1.Prediction')
  client.send(lastData(1, nothing))
  expect(await client.answer(1)).toMatchObject({ trailers: { 'grpc-status': '0' } })
})

it.each(['/spillway.v1.Prediction/Divine', '/none.Such/Call', '/'])('answers %s, which there is not, with UNIMPLEMENTED', async (path) => {
  const client = await greet(await serve())
  client.send(open(1, path), lastData(1, message('lost')))
  expect(await client.answer(1)).toMatchObject({ headers: { ':status': '200', 'grpc-status': '12' } })
  await expectAlive(client, 3)
})

it('reads a compressed request of several MB, as the server gives window for it', async () => {
  const client = await greet(
    await serve(async ({ events }) => ({ results: [{ result: { $case: 'prediction', value: events[0]!.subarray(-4) } }] })),
  )
  const request = message(Buffer.concat([randomBytes(2 ** 22), Buffer.from('end.')])).subarray(5)
  client.send(headers(1, gzipBlock))
  await new SendWindows(client).send(1, prefixed(gzipSync(request, { level: 1 }), 1))
  expect(eventsOf(await client.answer(1))).toEqual(['end.'])
})

it('RFC 9113 6.9.1: a compressed call’s answer waits for window', async () => {
  const client = await greet(await serve(), [setting.initialWindowSize, 100])
  const event = 'x'.repeat(5000)
  client.send(headers(1, gzipBlock), lastData(1, prefixed(gzipSync(message(event).subarray(5)), 1)))
  await client.expectBytes(1, 100)
  client.send(call(3))
  await expectEcho(client, 3)
  client.send(windowUpdate(1, 10_000))
  await expectEcho(client, 1, event)
})

it('RFC 9113 5.2: a subscription sends no more than its reader takes, and does not run far ahead', async () => {
  let sent = 0
  const client = await greet(
    await serve(undefined, {
      async *subscribe() {
        for (; sent < 600; sent++) yield record(16_000)
      },
    }),
    [setting.initialWindowSize, 50_000],
  )
  client.send(subscription(1))
  await client.expectBytes(1, 50_000)
  await expectAlive(client, 3)
  expect(sent).toBeLessThan(300)
  client.send(windowUpdate(1, 10_000))
  await client.expectBytes(1, 60_000)
  expect(sent).toBeLessThan(300)
  client.send(windowUpdate(0, 2 ** 30), windowUpdate(1, 2 ** 30))
  expect(await client.answer(1)).toMatchObject({ trailers: { 'grpc-status': '0' } })
  expect(messagesOf(client.bodyOf(1))).toHaveLength(600)
})

it.each([
  { what: 'reset', leave: (client: RawClient) => client.send(resetStream(1)) },
  { what: 'left with its connection', leave: (client: RawClient) => client.destroy() },
])('RFC 9113 5.4.2: a subscription that is $what ends on the server', async ({ leave }) => {
  const { subscribe, waiting } = waitingSubscriptions()
  const server = await serve(undefined, { subscribe })
  const client = await greet(server)
  client.send(subscription(1))
  await messages(client, 1, 1)
  leave(client)
  await expect.poll(waiting).toBe(0)
  await expectServing(server)
})

it('RFC 9113 10.5: 1,000 subscriptions that are reset leave none running', async () => {
  const { subscribe, waiting } = waitingSubscriptions()
  const server = await serve(undefined, { subscribe })
  const client = await greet(server)
  for (let id = 1; id < 2000 && !client.isClosed; id += 40) {
    const ids = Array.from({ length: 20 }, (_, index) => id + 2 * index)
    await client.sendThrough(Buffer.concat(ids.flatMap((streamId) => [subscription(streamId), resetStream(streamId)])))
  }
  await client.roundTrip().catch(() => client.closed())
  await expectServing(server)
  await expect.poll(waiting).toBe(0)
})

it('ends subscriptions with UNAVAILABLE when the server drains', async () => {
  const { subscribe } = waitingSubscriptions()
  const server = await serve(undefined, { subscribe })
  const client = await greet(server)
  client.send(subscription(1), subscription(3))
  for (const id of [1, 3]) await messages(client, id, 1)
  const drained = server.drain()
  for (const id of [1, 3]) expect(await client.answer(id)).toMatchObject({ trailers: { 'grpc-status': '14' } })
  await client.closed()
  expect(goawayOf(client)).toBe('NO_ERROR')
  await drained
})

it.each([
  { what: 'a watched health', path: '/grpc.health.v1.Health/Watch', request: lastData(1, prefixed(nothing)) },
  {
    what: 'reflection',
    path: '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
    request: data(1, prefixed(Buffer.from([0x3a, 0]))),
  },
])('ends $what with UNAVAILABLE when the server drains', async ({ path, request }) => {
  const server = await serve(undefined, { drainTimeoutMs: 60_000 })
  const client = await greet(server)
  client.send(open(1, path), request, open(3, path))
  await messages(client, 1, 1)
  const drained = server.drain()
  expect((await client.answer(1)).trailers).toMatchObject({ 'grpc-status': '14' })
  expect((await client.answer(3)).headers).toMatchObject({ ':status': '200', 'grpc-status': '14' })
  await drained
})

it('ends a subscription when its time is over', async () => {
  const { subscribe, waiting } = waitingSubscriptions()
  const client = await greet(await serve(undefined, { subscribe }))
  client.send(subscription(1, 'scores', ['grpc-timeout', '100m']))
  const { headers, trailers } = await client.answer(1)
  expect({ ...headers, ...trailers }).toMatchObject({ 'grpc-status': '4' })
  await expect.poll(waiting).toBe(0)
})

it('shows a subscription’s handler the caller’s fields, and the caller its error', async () => {
  const seen: unknown[] = []
  const client = await greet(
    await serve(undefined, {
      async *subscribe({ topic }, { metadata }) {
        seen.push(topic, metadata.get('x-tenant'), metadata.get('x-key-bin'))
        yield record(1)
        throw new MeshError('OUT_OF_RANGE', 'gelöscht: 100 %')
      },
    }),
  )
  client.send(
    subscription(1, 'werte', ['x-tenant', 'north'], ['x-tenant', 'south'], ['x-key-bin', Buffer.from([0, 255]).toString('base64')]),
  )
  const { trailers } = await client.answer(1)
  expect(seen).toEqual(['werte', ['north, south'], [Buffer.from([0, 255])]])
  expect(trailers['grpc-status']).toBe('11')
  expect(decodeURIComponent(trailers['grpc-message'] ?? '')).toContain('gelöscht: 100 %')
})

it('RFC 9113 8.1: a subscription without a request ends with an error', async () => {
  const client = await greet(await serve())
  client.send(headers(1, fieldBlock(fieldsOf(subscribePath)), flag.endHeaders | flag.endStream))
  const { headers: first, trailers } = await client.answer(1)
  expect(Number(trailers['grpc-status'] ?? first['grpc-status'])).toBeGreaterThan(0)
  expect(client.framesOf(1, frameType.data)).toEqual([])
})
