import { gzipSync } from 'node:zlib'
import type { ServiceDefinition } from '@grpc/grpc-js'
import { MeshError } from '@spillway/core'
import { createTelemetry } from '@spillway/telemetry'
import { expect, it, onTestFinished } from 'vitest'
import { bidiStreamHandler, GrpcServer, type RpcCall } from '../src/mod.ts'
import type { RawClient } from './http2/raw-client.ts'
import {
  data,
  type Field,
  fieldBlock,
  frameType,
  headers,
  lastData,
  resetStream,
  setting,
  type Setting,
  windowUpdate,
} from './http2/raw-frames.ts'
import { SendWindows } from './http2/send-windows.ts'
import { fieldsOf, greet, prefixed } from './http2/wire-rig.ts'

type Handle = (requests: AsyncIterable<Buffer>, call: RpcCall) => AsyncIterable<Buffer>

const path = '/test.Echo/Stream'
const same = (bytes: Buffer): Buffer => bytes
const definition: ServiceDefinition = {
  stream: {
    path,
    requestStream: true,
    responseStream: true,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  },
}

const echo: Handle = async function* (requests) {
  yield* requests
}

async function serve(handle: Handle, limits: { readonly maxMessageBytes?: number } = {}): Promise<GrpcServer> {
  const telemetry = createTelemetry({ service: 'stream-test', logLevel: 'silent', otlp: false })
  const services = [{ definition, implementation: { stream: bidiStreamHandler(handle) } }]
  const server = new GrpcServer({ port: 0, telemetry, services, drainTimeoutMs: 20_000, ...limits })
  await server.start()
  onTestFinished(async () => {
    await server.drain()
    await telemetry.shutdown()
  })
  return server
}

/** A connection with one call that is open, on stream 1. */
async function open(server: GrpcServer, fields: readonly Field[] = [], ...settings: readonly Setting[]): Promise<RawClient> {
  const client = await greet(server, ...settings)
  client.send(headers(1, fieldBlock(fieldsOf(path, ...fields))))
  return client
}

function textsOf(body: Buffer): readonly string[] {
  const texts: string[] = []
  for (let at = 0; at < body.length;) {
    const end = at + 5 + body.readUInt32BE(at + 1)
    texts.push(body.toString('latin1', at + 5, end))
    at = end
  }
  return texts
}

const text = (words: string, compressed = 0): Buffer => prefixed(compressed === 0 ? Buffer.from(words) : gzipSync(words), compressed)

it('reads messages however they are cut, compressed or not', async () => {
  const client = await open(await serve(echo), [['grpc-encoding', 'gzip']])
  const bytes = Buffer.concat([text('a'), text('bb', 1), text(''), text('x'.repeat(3000)), text('y'.repeat(50_000), 1), text('end')])
  for (let at = 0, length = 1; at < bytes.length; at += length, length = (length * 3) % 200) {
    client.send(data(1, bytes.subarray(at, at + length)))
    await new Promise(setImmediate)
  }
  client.send(lastData(1, Buffer.alloc(0)))
  const { body, trailers } = await client.answer(1)
  expect(trailers['grpc-status']).toBe('0')
  expect(textsOf(body)).toEqual(['a', 'bb', '', 'x'.repeat(3000), 'y'.repeat(50_000), 'end'])
})

it('goes on with a handler that reads while its response waits for window', async () => {
  const reads = Promise.withResolvers<void>()
  const client = await open(
    await serve(async function* (requests) {
      const iterator = requests[Symbol.asyncIterator]()
      const first = await iterator.next()
      const second = iterator.next()
      reads.resolve()
      yield first.value as Buffer
      yield (await second).value as Buffer
    }),
    [],
    [setting.initialWindowSize, 3],
  )
  client.send(data(1, text('first')))
  await reads.promise
  await client.expectBytes(1, 3)
  client.send(lastData(1, text('second')))
  await client.roundTrip()
  client.send(windowUpdate(1, 1000))
  const { body } = await client.answer(1)
  expect(textsOf(body)).toEqual(['first', 'second'])
})

it('RFC 9113 5.2: lets a client send no more than a window ahead of the handler', async () => {
  const release = Promise.withResolvers<void>()
  const client = await open(
    await serve(async function* (requests) {
      await release.promise
      let bytes = 0
      for await (const request of requests) bytes += request.length
      yield Buffer.from(String(bytes))
    }),
  )
  const windows = new SendWindows(client)
  const bytes = Buffer.concat(Array.from({ length: 400 }, () => text('x'.repeat(9995))))
  const sent = windows.send(1, bytes)
  await client.roundTrip()
  await client.roundTrip()
  const given = client.framesOf(1, frameType.windowUpdate)
  expect(given).toEqual([])
  release.resolve()
  await sent
  expect(textsOf((await client.answer(1)).body)).toEqual([String(400 * 9995)])
})

it('RFC 9113 5.2.2: a handler that reads nothing does not hold up other calls of its connection', async () => {
  const release = Promise.withResolvers<void>()
  let calls = 0
  const client = await open(
    await serve(async function* (requests) {
      if (calls++ === 0) await release.promise
      else yield* requests
    }),
  )
  const windows = new SendWindows(client)
  const messages = Buffer.concat(Array.from({ length: 200 }, () => text('x'.repeat(9995))))
  const held = windows.send(1, messages)
  await client.roundTrip()
  client.send(headers(3, fieldBlock(fieldsOf(path))))
  await windows.send(3, text('other'))
  expect(textsOf((await client.answer(3)).body)).toEqual(['other'])
  release.resolve()
  await held
})

it('takes a message that is larger than the window', async () => {
  const client = await open(await serve(echo))
  client.send(windowUpdate(0, 2 ** 30), windowUpdate(1, 2 ** 30))
  const words = 'x'.repeat(5_000_000)
  await new SendWindows(client).send(1, text(words))
  const { body } = await client.answer(1)
  expect(textsOf(body)).toEqual([words])
})

it.each([
  { what: 'a message that is too large', bytes: text('x'.repeat(101)), status: '8' },
  { what: 'a message that is not compressed as it says', bytes: prefixed(Buffer.from('xx'), 1), status: '13' },
])('ends with $what behind what it answered, and throws away what still comes', async ({ bytes, status }) => {
  const client = await open(await serve(echo, { maxMessageBytes: 100 }), [['grpc-encoding', 'gzip']])
  client.send(data(1, text('good')), data(1, bytes))
  const { body, trailers } = await client.answer(1)
  expect(textsOf(body)).toEqual(['good'])
  expect(trailers['grpc-status']).toBe(status)
  await new SendWindows(client).send(1, Buffer.alloc(2 ** 22))
  await client.roundTrip()
  expect(client.isClosed).toBe(false)
})

it('gives a client no more window than it took once the handler has ended', async () => {
  const client = await open(
    await serve(async function* (requests) {
      for await (const request of requests) return yield request
    }),
  )
  client.send(data(1, text('first')))
  await client.answer(1)
  const bytes = 2 ** 22
  await new SendWindows(client).send(1, Buffer.alloc(bytes))
  await client.roundTrip()
  for (const stream of [0, 1]) {
    const given = client.framesOf(stream, frameType.windowUpdate).map(({ payload }) => payload.readUInt32BE(0))
    const first = stream === 0 ? given[0]! : 0
    expect(given.reduce((sum, more) => sum + more, 0) - first).toBeLessThanOrEqual(bytes + 10)
  }
})

it.each([
  { what: 'the server drains', fields: [], act: (server: GrpcServer) => void server.drain(), status: '14' },
  { what: 'its time is over', fields: [['grpc-timeout', '200m']] as const, act: () => undefined, status: '4' },
])('ends a handler that waits for a message when $what', async ({ fields, act, status }) => {
  const ended = Promise.withResolvers<void>()
  const server = await serve(async function* (requests) {
    try {
      yield* requests
    } finally {
      ended.resolve()
    }
  })
  const client = await open(server, fields)
  client.send(data(1, text('first')))
  await client.until('a message', () => client.bodyOf(1).length > 0)
  act(server)
  expect((await client.answer(1)).trailers['grpc-status']).toBe(status)
  await ended.promise
})

it('ends a handler whose response waits for window when the server drains', async () => {
  const ended = Promise.withResolvers<void>()
  const server = await serve(async function* (requests) {
    try {
      yield* requests
    } finally {
      ended.resolve()
    }
  })
  const client = await open(server, [], [setting.initialWindowSize, 3])
  client.send(data(1, text('first')))
  await client.expectBytes(1, 3)
  void server.drain()
  await ended.promise
  client.send(windowUpdate(1, 1000))
  const { body, trailers } = await client.answer(1)
  expect(textsOf(body)).toEqual(['first'])
  expect(trailers['grpc-status']).toBe('14')
})

it.each([
  { what: 'waits for a message', count: 1, windowBytes: 65_535 },
  { what: 'waits for window', count: 1, windowBytes: 3 },
  { what: 'has more to read', count: 5000, windowBytes: 3 },
])('ends a handler that $what when the client leaves', async ({ count, windowBytes }) => {
  const ended = Promise.withResolvers<unknown>()
  const server = await serve(async function* (requests, { signal }) {
    try {
      yield* requests
    } finally {
      ended.resolve(signal.reason)
    }
  })
  const client = await open(server, [], [setting.initialWindowSize, windowBytes])
  client.send(...Array.from({ length: count }, () => data(1, text('first'))))
  await client.until('a byte', () => client.bodyOf(1).length > 0)
  client.send(resetStream(1))
  expect(await ended.promise).toBeInstanceOf(MeshError)
})
