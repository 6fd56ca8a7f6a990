import { expect, it } from 'vitest'
import {
  continuation,
  data,
  dependency,
  type ErrorCode,
  type Field,
  fieldBlock,
  flag,
  frame,
  frameType,
  headers,
  indexedField,
  lastData,
  ping,
  setting,
} from './raw-frames.ts'
import {
  call,
  callBlock,
  callFields,
  connectTo,
  echo,
  expectAlive,
  expectConnectionError,
  expectServing,
  expectStreamError,
  greet,
  isHeldBack,
  message,
  type Predict,
  serve,
} from './wire-rig.ts'

const protocolError: readonly ErrorCode[] = ['PROTOCOL_ERROR']
const never: Predict = () => new Promise(() => {})

it('RFC 9113 6.7: the answer to a PING, asked for or not, is not answered', async () => {
  const client = await greet(await serve())
  client.send(ping('answered', flag.ack))
  await client.roundTrip()
  expect(client.framesOf(0, frameType.ping).map(({ payload }) => payload.toString())).toEqual(['trip0000'])
  await expectAlive(client, 1)
})

it('RFC 9113 6.3: PRIORITY on stream 0 ends the connection', async () => {
  const client = await greet(await serve())
  client.send(frame(frameType.priority, 0, 0, dependency(3)))
  await expectConnectionError(client, protocolError)
})

it('RFC 9113 5.1.1: a stream below one that was opened ends the connection', async () => {
  const client = await greet(await serve())
  await expectAlive(client, 5)
  client.send(call(3))
  await expectConnectionError(client, ['PROTOCOL_ERROR', 'STREAM_CLOSED'])
})

it('RFC 9113 5.1.2: the server says how many streams may be open, and refuses more', async () => {
  const client = await greet(await serve(never, { drainTimeoutMs: 300 }))
  const { payload } = client.frames[0]!
  const entries = Array.from({ length: payload.length / 6 }, (_, index) => payload.subarray(6 * index, 6 * index + 6))
  const limit = entries.find((entry) => entry.readUInt16BE(0) === setting.maxConcurrentStreams)?.readUInt32BE(2) ?? 0
  expect(limit).toBeGreaterThanOrEqual(100)
  for (let index = 0; index < limit; index++) client.send(call(2 * index + 1))
  await client.roundTrip()
  expect(client.isClosed).toBe(false)
  client.send(call(2 * limit + 1))
  await expectStreamError(client, 2 * limit + 1, ['REFUSED_STREAM', 'PROTOCOL_ERROR'])
})

it('RFC 9113 6.9.1: an answer that fits its window exactly ends without another', async () => {
  const event = 'x'.repeat(91)
  const client = await greet(await serve(), [setting.initialWindowSize, 100])
  client.send(call(1, event))
  expect(await client.answer(1)).toMatchObject({ trailers: { 'grpc-status': '0' } })
  expect(client.bodyOf(1)).toHaveLength(100)
})

it.each([
  { section: '8.1.1', what: 'more DATA than its content-length', fields: [['content-length', '3']] },
  { section: '8.1.1', what: 'a content-length that is no number', fields: [['content-length', 'many']] },
  { section: '8.2.1', what: 'an empty name', fields: [['', 'north']] },
  { section: '8.2.1', what: 'a space in a name', fields: [['x tenant', 'north']] },
  { section: '8.2.1', what: 'a colon in a name', fields: [['x:tenant', 'north']] },
  { section: '8.2.1', what: 'a control character in a name', fields: [['x\ttenant', 'north']] },
  { section: '8.2.1', what: 'a byte above 0x7e in a name', fields: [['x-ten\xe4nt', 'north']] },
  { section: '8.2.1', what: 'a NUL in a value', fields: [['x-tenant', 'no\0rth']] },
  { section: '8.2.1', what: 'a line end in a value', fields: [['x-tenant', 'no\r\nrth: x']] },
  { section: '8.2.1', what: 'a space before a value', fields: [['x-tenant', ' north']] },
  { section: '8.2.1', what: 'a tab after a value', fields: [['x-tenant', 'north\t']] },
] satisfies readonly { readonly section: string; readonly what: string; readonly fields: readonly Field[] }[])(
  'RFC 9113 $section: $what is an error of the stream',
  async ({ fields }) => {
    const client = await greet(await serve())
    client.send(headers(1, Buffer.concat([callBlock, fieldBlock(fields)])), lastData(1, message('malformed')))
    await expectStreamError(client, 1, protocolError)
    expect(client.framesOf(1, frameType.headers)).toEqual([])
    if (!client.isClosed) await expectAlive(client, 3)
  },
)

it('RFC 9113 8.3.1: a :path without a slash is an error of the stream', async () => {
  const client = await greet(await serve())
  client.send(
    headers(1, fieldBlock(callFields.map(([name, value]) => [name, name === ':path' ? value.slice(1) : value]))),
    lastData(1, message('lost')),
  )
  await expectStreamError(client, 1, protocolError)
})

it('RFC 9113 10.5.1: fields of 100 KB are refused, in one way or another', async () => {
  let served = 0
  const server = await serve(async (request, received) => {
    served++
    return echo(request, received)
  })
  const client = await greet(server)
  const fields = Array.from({ length: 7 }, (_, index) => fieldBlock([[`x-${index}`, 'x'.repeat(15_000)]]))
  client.send(headers(1, callBlock, 0), ...fields.map((block, index) => continuation(1, block, index === 6 ? flag.endHeaders : 0)))
  client.send(data(1, message('large'), flag.endStream))
  await client.until('an end', () => client.isClosed || client.framesOf(1).length > 0)
  expect(served).toBe(0)
  await expectServing(server)
})

it('RFC 9113 10.5: answers that a client does not read do not pile up', async () => {
  const server = await serve()
  const client = await greet(server)
  const indexed = Buffer.concat(
    callFields.map((field) => (field[0] === 'content-type' ? fieldBlock([['content-type', 'text/plain']]) : indexedField(field))),
  )
  client.send(headers(1, indexed, flag.endHeaders | flag.endStream))
  await client.answer(1)
  client.stopReading()
  const block = Buffer.from([0xc2, 0xc1, 0xc0, 0xbf, 0xbe])
  let heldBack = false
  for (let id = 3; id < 2_000_000 && !client.isClosed && !heldBack; id += 4000) {
    const calls = Array.from({ length: 2000 }, (_, index) => headers(id + 2 * index, block, flag.endHeaders | flag.endStream))
    heldBack = await isHeldBack(server, client.sendThrough(Buffer.concat(calls)))
  }
  expect(client.isClosed || heldBack).toBe(true)
  await expectServing(server)
})

it('what is not done when the limit of a drain passes is cut', async () => {
  const entered = Promise.withResolvers<void>()
  const server = await serve(
    (request, received) => {
      entered.resolve()
      return never(request, received)
    },
    { drainTimeoutMs: 300 },
  )
  const client = await greet(server)
  client.send(call(1))
  await entered.promise
  await server.drain()
  await client.closed()
  expect(client.framesOf(1, frameType.data)).toEqual([])
})

it('a drain does not wait for clients that say nothing', async () => {
  const server = await serve(echo, { drainTimeoutMs: 60_000 })
  const client = await connectTo(server)
  await expectServing(server)
  const drained = server.drain()
  await client.closed()
  await drained
})
