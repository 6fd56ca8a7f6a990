import { expect, it } from 'vitest'
import {
  continuation,
  data,
  defaultWindowBytes,
  dependency,
  type ErrorCode,
  flag,
  frame,
  frameType,
  goaway,
  headers,
  lastData,
  maxFrameBytes,
  maxWindowBytes,
  ping,
  preface,
  resetStream,
  setting,
  settings,
  uint32,
  windowUpdate,
} from './raw-frames.ts'
import {
  call,
  callBlock,
  connectTo,
  expectAlive,
  expectConnectionError,
  expectEcho,
  expectServing,
  greet,
  message,
  serve,
} from './wire-rig.ts'

const protocolError: readonly ErrorCode[] = ['PROTOCOL_ERROR']
const frameSizeError: readonly ErrorCode[] = ['FRAME_SIZE_ERROR']
const flowControlError: readonly ErrorCode[] = ['FLOW_CONTROL_ERROR']
const tooLong = Buffer.alloc(maxFrameBytes + 1)
const open = headers(1, callBlock)

it('RFC 9113 3.4: the server speaks first, with SETTINGS, and acknowledges those of the client', async () => {
  const client = await greet(await serve())
  expect(client.frames[0]).toMatchObject({ type: frameType.settings, flags: 0, streamId: 0 })
})

it('RFC 9113 3.4: a client need not wait for the server’s SETTINGS', async () => {
  const client = await connectTo(await serve())
  client.send(preface, settings(), call(1))
  await expectEcho(client, 1)
})

it('RFC 9113 3.4: a preface may come byte by byte', async () => {
  const client = await connectTo(await serve())
  for (const byte of Buffer.concat([preface, settings()])) {
    await client.sendThrough(Buffer.from([byte]))
    await new Promise(setImmediate)
  }
  await expectAlive(client, 1)
})

it.each([
  { what: 'an HTTP/1.1 request', bytes: Buffer.from('POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\r\n') },
  { what: 'a preface with a wrong last byte', bytes: Buffer.concat([preface.subarray(0, -1), Buffer.from('\r'), settings()]) },
  { what: 'a preface that ends early', bytes: Buffer.concat([preface.subarray(0, 18), settings(), call(1)]) },
  { what: 'frames without a preface', bytes: Buffer.concat([settings(), call(1)]) },
])('RFC 9113 3.4: $what is not served', async ({ bytes }) => {
  const server = await serve()
  const client = await connectTo(server)
  client.send(bytes)
  await client.closed()
  expect(client.frames.some(({ type }) => type === frameType.headers)).toBe(false)
  await expectServing(server)
})

it('RFC 9113 3.4: a client that leaves within its preface does not disturb the server', async () => {
  const server = await serve()
  const client = await connectTo(server)
  client.send(preface.subarray(0, 10))
  client.end()
  await client.closed()
  await expectServing(server)
})

it('RFC 9113 3.4: another frame than SETTINGS after the preface ends the connection', async () => {
  const client = await connectTo(await serve())
  client.send(preface, ping('too soon'))
  await expectConnectionError(client, protocolError)
})

it.each([
  { section: '4.2', what: 'DATA longer than 16,384 bytes', send: [open, data(1, tooLong)], codes: frameSizeError },
  { section: '4.2', what: 'HEADERS longer than 16,384 bytes', send: [headers(1, tooLong)], codes: frameSizeError },
  { section: '4.2', what: 'SETTINGS longer than 16,384 bytes', send: [frame(frameType.settings, 0, 0, tooLong)], codes: frameSizeError },
  { section: '4.2', what: 'an unknown frame longer than 16,384 bytes', send: [frame(0xee, 0, 0, tooLong)], codes: frameSizeError },
  {
    section: '4.2',
    what: 'the head of a frame of 16,777,215 bytes',
    send: [frame(frameType.headers, flag.endHeaders, 1, Buffer.alloc(0), 2 ** 24 - 1)],
    codes: frameSizeError,
  },
  { section: '6.5', what: 'SETTINGS on a stream', send: [frame(frameType.settings, 0, 1)], codes: protocolError },
  { section: '6.5', what: 'SETTINGS of 5 bytes', send: [frame(frameType.settings, 0, 0, Buffer.alloc(5))], codes: frameSizeError },
  {
    section: '6.5',
    what: 'an acknowledgement of SETTINGS that holds some',
    send: [frame(frameType.settings, flag.ack, 0, Buffer.alloc(6))],
    codes: frameSizeError,
  },
  { section: '6.5.2', what: 'ENABLE_PUSH of 2', send: [settings([setting.enablePush, 2])], codes: protocolError },
  {
    section: '6.5.2',
    what: 'INITIAL_WINDOW_SIZE of 2^31',
    send: [settings([setting.initialWindowSize, maxWindowBytes + 1])],
    codes: flowControlError,
  },
  { section: '6.5.2', what: 'MAX_FRAME_SIZE of 16,383', send: [settings([setting.maxFrameSize, maxFrameBytes - 1])], codes: protocolError },
  { section: '6.5.2', what: 'MAX_FRAME_SIZE of 2^24', send: [settings([setting.maxFrameSize, 2 ** 24])], codes: protocolError },
  { section: '6.6', what: 'PUSH_PROMISE of a client', send: [open, frame(frameType.pushPromise, 4, 1, uint32(2))], codes: protocolError },
  { section: '6.7', what: 'PING of 7 bytes', send: [ping('7 bytes')], codes: frameSizeError },
  { section: '6.7', what: 'PING of 9 bytes', send: [ping('nine byte')], codes: frameSizeError },
  { section: '6.7', what: 'PING on a stream', send: [frame(frameType.ping, 0, 1, Buffer.alloc(8))], codes: protocolError },
  { section: '6.8', what: 'GOAWAY on a stream', send: [frame(frameType.goaway, 0, 1, Buffer.alloc(8))], codes: protocolError },
  { section: '6.8', what: 'GOAWAY of 7 bytes', send: [frame(frameType.goaway, 0, 0, Buffer.alloc(7))], codes: frameSizeError },
  { section: '6.9', what: 'WINDOW_UPDATE of 0 on the connection', send: [windowUpdate(0, 0)], codes: protocolError },
  {
    section: '6.9',
    what: 'WINDOW_UPDATE of 3 bytes',
    send: [frame(frameType.windowUpdate, 0, 0, Buffer.from([0, 0, 1]))],
    codes: frameSizeError,
  },
  {
    section: '6.9.1',
    what: 'WINDOW_UPDATEs beyond 2^31-1 bytes on the connection',
    send: [windowUpdate(0, maxWindowBytes - defaultWindowBytes), windowUpdate(0, 1)],
    codes: flowControlError,
  },
  { section: '6.10', what: 'CONTINUATION of nothing', send: [continuation(1, callBlock)], codes: protocolError },
])('RFC 9113 $section: $what ends the connection', async ({ send, codes }) => {
  const server = await serve()
  const client = await greet(server)
  client.send(...send)
  await expectConnectionError(client, codes)
  await expectServing(server)
})

it.each([
  { section: '4.1', what: 'a frame of unknown type', send: [frame(0xee, 0xff, 0, Buffer.from('unknown'))] },
  { section: '4.1', what: 'a frame of unknown type on an idle stream', send: [frame(0xee, 0xff, 77, Buffer.from('unknown'))] },
  { section: '4.1', what: 'unknown flags', send: [frame(frameType.ping, 0xfe, 0, Buffer.alloc(8))] },
  { section: '4.1', what: 'the reserved bit of a stream id', send: [frame(frameType.ping, 0, 2 ** 31, Buffer.alloc(8))] },
  { section: '4.2', what: 'an unknown frame of 16,384 bytes', send: [frame(0xee, 0, 0, Buffer.alloc(maxFrameBytes))] },
  { section: '5.3.2', what: 'PRIORITY of an idle stream', send: [frame(frameType.priority, 0, 9, dependency(0))] },
  { section: '6.5', what: 'SETTINGS that hold none', send: [settings()] },
  { section: '6.5.2', what: 'an unknown setting', send: [settings([0xee, 7])] },
  {
    section: '6.5.2',
    what: 'the limits of settings',
    send: [
      settings([setting.enablePush, 1], [setting.initialWindowSize, maxWindowBytes], [setting.maxFrameSize, 2 ** 24 - 1]),
      settings([setting.enablePush, 0], [setting.maxFrameSize, maxFrameBytes], [setting.headerTableSize, 2 ** 32 - 1]),
    ],
  },
  { section: '6.9', what: 'the reserved bit of WINDOW_UPDATE', send: [windowUpdate(0, 2 ** 31 + 1)] },
  {
    section: '6.9.1',
    what: 'a connection’s window of 2^31-1 bytes',
    send: [windowUpdate(0, maxWindowBytes - defaultWindowBytes)],
  },
])('RFC 9113 $section: $what does no harm', async ({ send }) => {
  const client = await greet(await serve())
  client.send(...send)
  await client.roundTrip()
  await expectAlive(client, 1)
  expect(client.framesOf(0, frameType.goaway)).toEqual([])
})

it('RFC 9113 6.5.3: every SETTINGS is acknowledged, once', async () => {
  const client = await greet(await serve())
  client.send(settings(), settings([setting.initialWindowSize, 1000]), settings([0xee, 1]))
  await client.settingsAcked(4)
  await client.roundTrip()
  expect(client.frames.filter(({ type, flags }) => type === frameType.settings && flags === flag.ack)).toHaveLength(4)
})

it('RFC 9113 6.5.3: the last of two values of a setting holds', async () => {
  const client = await greet(await serve(), [setting.initialWindowSize, 0], [setting.initialWindowSize, 9])
  client.send(call(1))
  await client.expectBytes(1, 9)
})

it('RFC 9113 6.7: PING is answered with its 8 bytes, also between a request’s frames', async () => {
  const client = await greet(await serve())
  client.send(open, ping('\x00\x01abcde\x7f'), lastData(1, message('event of 1')))
  await expectEcho(client, 1)
  const answers = client.framesOf(0, frameType.ping)
  expect(answers.map(({ flags, payload }) => [flags, payload.toString('latin1')])).toEqual([[flag.ack, '\x00\x01abcde\x7f']])
})

it('RFC 9113 6.8: calls that a client’s GOAWAY leaves are answered', async () => {
  const client = await greet(await serve())
  client.send(open, goaway(0, 'NO_ERROR', 'leaving'), lastData(1, message('event of 1')))
  await expectEcho(client, 1)
})

it('RFC 9113 6.4: RST_STREAM of a stream that is over is let pass', async () => {
  const client = await greet(await serve())
  await expectAlive(client, 1)
  client.send(resetStream(1))
  await client.roundTrip()
  await expectAlive(client, 3)
})
