import { predictionV1 } from '@spillway/wire'
import { expect, it } from 'vitest'
import type { RawClient } from './raw-client.ts'
import {
  data,
  defaultWindowBytes,
  fieldBlock,
  flag,
  frameType,
  headers,
  maxFrameBytes,
  maxWindowBytes,
  padded,
  resetStream,
  setting,
  settings,
  windowUpdate,
} from './raw-frames.ts'
import {
  call,
  callBlock,
  callFields,
  eventsOf,
  expectAlive,
  expectConnectionError,
  expectEcho,
  greet,
  message,
  type Predict,
  serve,
} from './wire-rig.ts'
import { SendWindows } from './send-windows.ts'

/** Answers with one result that makes a body of so many bytes. */
function answering(bodyBytes: number): Predict {
  const response = (bytes: number): predictionV1.PredictResponse => ({
    results: [{ result: { $case: 'prediction', value: Buffer.alloc(bytes) } }],
  })
  const overhead = 5 + predictionV1.PredictResponse.encode(response(bodyBytes)).finish().length - bodyBytes
  return async () => response(bodyBytes - overhead)
}

const isEnded = (client: RawClient, streamId: number): boolean =>
  client.framesOf(streamId).some(({ flags }) => (flags & flag.endStream) !== 0)

it('RFC 9113 6.9.1: an answer waits for its stream’s window', async () => {
  const client = await greet(await serve(answering(5000)), [setting.initialWindowSize, 1000])
  client.send(call(1))
  await client.expectBytes(1, 1000)
  client.send(windowUpdate(1, 1))
  await client.expectBytes(1, 1001)
  client.send(windowUpdate(1, 2000))
  await client.expectBytes(1, 3001)
  expect(isEnded(client, 1)).toBe(false)
  client.send(windowUpdate(1, 5000))
  expect(await client.answer(1)).toMatchObject({ trailers: { 'grpc-status': '0' } })
  expect(client.bodyOf(1)).toHaveLength(5000)
})

it('RFC 9113 6.9.1: with a window of 0 the headers come, and no DATA', async () => {
  const client = await greet(await serve(answering(100)), [setting.initialWindowSize, 0])
  client.send(call(1))
  await client.frame('the answer’s headers', ({ type, streamId }) => type === frameType.headers && streamId === 1)
  await client.expectBytes(1, 0)
  client.send(windowUpdate(1, 1000))
  expect((await client.answer(1)).body).toHaveLength(100)
})

it('RFC 9113 6.9.1: answers share the connection’s window', async () => {
  const client = await greet(await serve(answering(50_000)), [setting.initialWindowSize, 2 ** 20])
  client.send(call(1), call(3))
  const received = (): number => client.bodyOf(1).length + client.bodyOf(3).length
  await client.until('a full window', () => received() >= defaultWindowBytes)
  await client.roundTrip()
  expect(received()).toBe(defaultWindowBytes)
  client.send(windowUpdate(0, 10_000))
  await client.until('more of it', () => received() >= defaultWindowBytes + 10_000)
  await client.roundTrip()
  expect(received()).toBe(defaultWindowBytes + 10_000)
  client.send(windowUpdate(0, 100_000))
  for (const id of [1, 3]) expect((await client.answer(id)).body).toHaveLength(50_000)
})

it('RFC 9113 6.9.1: refusals pass a full connection’s window, which holds back DATA alone', async () => {
  const client = await greet(await serve(answering(defaultWindowBytes + 1)), [setting.initialWindowSize, 2 ** 20])
  client.send(call(1))
  await client.expectBytes(1, defaultWindowBytes)
  client.send(headers(3, callBlock, flag.endHeaders | flag.endStream))
  expect(await client.answer(3)).toMatchObject({ headers: { 'grpc-status': '12' } })
})

it('RFC 9113 5.2.1: a stream without a window holds back no other', async () => {
  const client = await greet(await serve(), [setting.initialWindowSize, 100])
  client.send(call(1, 'x'.repeat(200)), call(3))
  await expectEcho(client, 3)
  await client.expectBytes(1, 100)
  client.send(windowUpdate(1, 1000))
  expect(eventsOf(await client.answer(1))).toEqual(['x'.repeat(200)])
})

it('RFC 9113 5.4.2: a stream that is reset leaves the connection’s window to others', async () => {
  const client = await greet(await serve(answering(60_000)), [setting.initialWindowSize, 2 ** 20])
  client.send(call(1))
  await client.answer(1)
  client.send(call(3), call(5))
  await client.frame('headers', ({ type, streamId }) => type === frameType.headers && streamId === 5)
  client.send(resetStream(3))
  await client.roundTrip()
  client.send(windowUpdate(0, 60_001))
  expect((await client.answer(5)).body).toHaveLength(60_000)
})

it('RFC 9113 6.9.2: a larger INITIAL_WINDOW_SIZE sets answers free', async () => {
  const client = await greet(await serve(answering(5000)), [setting.initialWindowSize, 1000])
  client.send(call(1), call(3))
  await client.expectBytes(1, 1000)
  await client.expectBytes(3, 1000)
  client.send(settings([setting.initialWindowSize, 3000]))
  await client.expectBytes(1, 3000)
  await client.expectBytes(3, 3000)
  client.send(settings([setting.initialWindowSize, 5001]))
  for (const id of [1, 3]) expect((await client.answer(id)).body).toHaveLength(5000)
})

it('RFC 9113 6.9.2: a smaller INITIAL_WINDOW_SIZE may make a window negative', async () => {
  const client = await greet(await serve(answering(5000)), [setting.initialWindowSize, 1000])
  client.send(call(1))
  await client.expectBytes(1, 1000)
  client.send(settings([setting.initialWindowSize, 0]), windowUpdate(1, 999))
  await client.expectBytes(1, 1000)
  client.send(windowUpdate(1, 1))
  await client.expectBytes(1, 1000)
  client.send(windowUpdate(1, 10))
  await client.expectBytes(1, 1010)
  client.send(settings([setting.initialWindowSize, 90]))
  await client.expectBytes(1, 1100)
  client.send(windowUpdate(1, 5000))
  expect((await client.answer(1)).body).toHaveLength(5000)
})

it('RFC 9113 6.9.2: an INITIAL_WINDOW_SIZE that makes a window too large ends the connection', async () => {
  const client = await greet(await serve())
  client.send(headers(1, callBlock), windowUpdate(1, 1000), settings([setting.initialWindowSize, maxWindowBytes - 500]))
  await expectConnectionError(client, ['FLOW_CONTROL_ERROR'])
})

it('RFC 9113 6.9.2: a window that was large on a stream that is over does not count', async () => {
  const client = await greet(await serve())
  client.send(headers(1, callBlock), windowUpdate(1, 1000), resetStream(1), settings([setting.initialWindowSize, maxWindowBytes - 500]))
  await client.settingsAcked(2)
  await expectAlive(client, 3)
})

it('RFC 9113 6.9.2: INITIAL_WINDOW_SIZE does not change the connection’s window', async () => {
  const client = await greet(await serve(answering(100_000)), [setting.initialWindowSize, 2 ** 20])
  client.send(call(1))
  await client.expectBytes(1, defaultWindowBytes)
  client.send(settings([setting.initialWindowSize, 2 ** 21]))
  await client.expectBytes(1, defaultWindowBytes)
  client.send(windowUpdate(0, 100_000))
  expect((await client.answer(1)).body).toHaveLength(100_000)
})

it('RFC 9113 6.9.1: WINDOW_UPDATEs of a byte each add up', async () => {
  const client = await greet(await serve(answering(400)), [setting.initialWindowSize, 0])
  client.send(call(1))
  for (let byte = 0; byte < 401; byte++) client.send(windowUpdate(1, 1))
  expect((await client.answer(1)).body).toHaveLength(400)
})

it('RFC 9113 6.9: a request of 8 MiB arrives, as the server gives window for it', async () => {
  const client = await greet(
    await serve(async ({ events }) => ({ results: [{ result: { $case: 'prediction', value: events[0]!.subarray(-9) } }] })),
  )
  const windows = new SendWindows(client)
  client.send(headers(1, callBlock))
  await windows.send(1, message(Buffer.concat([Buffer.alloc(2 ** 23), Buffer.from('the  end.')])))
  await expectEcho(client, 1, 'the  end.')
})

it('RFC 9113 6.9: requests of 500 KB, one after the other, all arrive', async () => {
  const client = await greet(await serve(answering(20)))
  const windows = new SendWindows(client)
  for (let id = 1; id < 40; id += 2) {
    client.send(headers(id, callBlock))
    await windows.send(id, message(Buffer.alloc(500_000)))
    expect((await client.answer(id)).body).toHaveLength(20)
  }
})

it('RFC 9113 6.9: requests of 2 MiB whose frames come in turn all arrive', async () => {
  const client = await greet(await serve(answering(20)))
  const windows = new SendWindows(client)
  const ids = [1, 3, 5, 7]
  client.send(...ids.map((id) => headers(id, callBlock)))
  await Promise.all(ids.map((id) => windows.send(id, message(Buffer.alloc(2 ** 21)))))
  for (const id of ids) expect((await client.answer(id)).body).toHaveLength(20)
})

it('RFC 9113 6.9.1: padding takes window, and is given back', async () => {
  const client = await greet(await serve())
  const windows = new SendWindows(client)
  const body = message('x'.repeat(6000))
  client.send(headers(1, callBlock))
  for (let at = 0; at < body.length; at++) {
    const last = at === body.length - 1 ? flag.endStream : 0
    await windows.sendFrame(1, data(1, padded(body.subarray(at, at + 1), 255), flag.padded | last))
  }
  await expectEcho(client, 1, 'x'.repeat(6000))
})

it.each([
  { what: 'streams that are reset', fields: callFields, leave: (id: number) => resetStream(id) },
  {
    what: 'requests of no gRPC',
    fields: callFields.map(([name, value]) => [name, name === 'content-type' ? 'text/plain' : value] as const),
  },
  {
    what: 'calls of unknown methods',
    fields: callFields.map(([name, value]) => [name, name === ':path' ? '/none.Such/Call' : value] as const),
  },
])(
  'RFC 9113 6.9: the connection’s window that $what took is given back',
  async ({ fields, leave = (id: number) => data(id, Buffer.alloc(0), flag.endStream) }) => {
    const client = await greet(await serve())
    const windows = new SendWindows(client)
    for (let id = 1; id < 40; id += 2) {
      client.send(headers(id, fieldBlock(fields)))
      for (let part = 0; part < 12; part++) {
        if (client.framesOf(id, frameType.rstStream).length > 0) break
        await windows.sendFrame(id, data(id, Buffer.alloc(maxFrameBytes)))
      }
      if (client.framesOf(id, frameType.rstStream).length === 0) client.send(leave(id))
    }
    client.send(headers(41, callBlock))
    await windows.send(41, message('still here'))
    await expectEcho(client, 41, 'still here')
  },
)
