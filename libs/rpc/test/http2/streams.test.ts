import { expect, it } from 'vitest'
import {
  continuation,
  data,
  dependency,
  type ErrorCode,
  fieldBlock,
  flag,
  frame,
  frameType,
  headers,
  lastData,
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
  eventsOf,
  expectConnectionError,
  expectEcho,
  expectServing,
  expectStreamError,
  greet,
  message,
  serve,
} from './wire-rig.ts'

const protocolError: readonly ErrorCode[] = ['PROTOCOL_ERROR']
const frameSizeError: readonly ErrorCode[] = ['FRAME_SIZE_ERROR']
/** A pad length that needs a byte that is not there may be taken for either. */
const paddingError: readonly ErrorCode[] = ['PROTOCOL_ERROR', 'FRAME_SIZE_ERROR']
const open = headers(1, callBlock)

it.each([
  { section: '5.1', what: 'DATA on an idle stream', send: [lastData(1, message('early'))], codes: protocolError },
  { section: '5.1', what: 'RST_STREAM on an idle stream', send: [resetStream(1)], codes: protocolError },
  { section: '5.1', what: 'WINDOW_UPDATE on an idle stream', send: [windowUpdate(1, 1)], codes: protocolError },
  { section: '5.1.1', what: 'HEADERS on stream 0', send: [headers(0, callBlock)], codes: protocolError },
  { section: '5.1.1', what: 'HEADERS on an even stream', send: [headers(2, callBlock)], codes: protocolError },
  { section: '6.1', what: 'DATA on stream 0', send: [lastData(0, message('nowhere'))], codes: protocolError },
  {
    section: '6.1',
    what: 'DATA with as much padding as it has bytes',
    send: [open, data(1, Buffer.from([5, 0, 0, 0, 0]), flag.padded)],
    codes: protocolError,
  },
  { section: '6.1', what: 'padded DATA without a byte', send: [open, data(1, Buffer.alloc(0), flag.padded)], codes: paddingError },
  {
    section: '6.2',
    what: 'HEADERS with more padding than bytes',
    send: [headers(1, Buffer.concat([Buffer.from([callBlock.length + 1]), callBlock]), flag.endHeaders | flag.padded)],
    codes: protocolError,
  },
  {
    section: '6.2',
    what: 'padded HEADERS without a byte',
    send: [headers(1, Buffer.alloc(0), flag.endHeaders | flag.padded)],
    codes: paddingError,
  },
  {
    section: '6.2',
    what: 'HEADERS too short for its priority',
    send: [headers(1, Buffer.alloc(4), flag.endHeaders | flag.priority)],
    codes: paddingError,
  },
  { section: '6.4', what: 'RST_STREAM on stream 0', send: [resetStream(0)], codes: protocolError },
  { section: '6.4', what: 'RST_STREAM of 3 bytes', send: [open, frame(frameType.rstStream, 0, 1, Buffer.alloc(3))], codes: frameSizeError },
  { section: '6.4', what: 'RST_STREAM of 5 bytes', send: [open, frame(frameType.rstStream, 0, 1, Buffer.alloc(5))], codes: frameSizeError },
])('RFC 9113 $section: $what ends the connection', async ({ send, codes }) => {
  const server = await serve()
  const client = await greet(server)
  client.send(...send)
  await expectConnectionError(client, codes)
  await expectServing(server)
})

it.each([
  {
    section: '6.1',
    what: 'padded DATA',
    send: [open, data(1, padded(message('event of 1'), 255), flag.padded | flag.endStream)],
  },
  {
    section: '6.1',
    what: 'DATA that is all padding, before the rest',
    send: [open, data(1, padded(Buffer.alloc(0), 7), flag.padded), lastData(1, message('event of 1'))],
  },
  { section: '6.1', what: 'DATA that end with an empty frame', send: [open, data(1, message('event of 1')), lastData(1, Buffer.alloc(0))] },
  {
    section: '6.2',
    what: 'padded HEADERS',
    send: [headers(1, padded(callBlock, 200), flag.endHeaders | flag.padded), lastData(1, message('event of 1'))],
  },
  {
    section: '6.2',
    what: 'HEADERS with a priority',
    send: [headers(1, Buffer.concat([dependency(0), callBlock]), flag.endHeaders | flag.priority), lastData(1, message('event of 1'))],
  },
  {
    section: '6.2',
    what: 'HEADERS with padding and a priority',
    send: [
      headers(1, padded(Buffer.concat([dependency(2 ** 31), callBlock]), 3), flag.endHeaders | flag.padded | flag.priority),
      lastData(1, message('event of 1')),
    ],
  },
  {
    section: '6.3',
    what: 'PRIORITY within a request',
    send: [open, frame(frameType.priority, 0, 1, dependency(0)), lastData(1, message('event of 1'))],
  },
  { section: '6.9', what: 'WINDOW_UPDATE within a request', send: [open, windowUpdate(1, 1000), lastData(1, message('event of 1'))] },
  {
    section: '4.1',
    what: 'flags that its frames do not have',
    send: [
      headers(1, callBlock.subarray(0, 30), 0xd2),
      continuation(1, callBlock.subarray(30), 0xfb | flag.endHeaders),
      data(1, message('event of 1'), 0xf6 | flag.endStream),
    ],
  },
  {
    section: '8.1',
    what: 'trailers after DATA',
    send: [open, data(1, message('event of 1')), headers(1, fieldBlock([['x-checksum', '7']]), flag.endHeaders | flag.endStream)],
  },
])('RFC 9113 $section: a call with $what is answered', async ({ send }) => {
  const client = await greet(await serve())
  client.send(...send)
  await expectEcho(client, 1)
})

it('RFC 9113 5.1.1: stream ids may be left out', async () => {
  const client = await greet(await serve())
  client.send(call(7), call(2 ** 31 - 1))
  await expectEcho(client, 7)
  await expectEcho(client, 2 ** 31 - 1)
})

/** The stream stays open until the test is over: no call is answered before its request ended. */
it.each([
  { section: '6.9', what: 'WINDOW_UPDATE of 0', send: [windowUpdate(1, 0)], codes: protocolError },
  { section: '6.9', what: 'WINDOW_UPDATE beyond 2^31-1 bytes', send: [windowUpdate(1, maxWindowBytes)], codes: ['FLOW_CONTROL_ERROR'] },
  {
    section: '6.9.2',
    what: 'a setting that takes its window beyond 2^31-1 bytes',
    send: [windowUpdate(1, 1000), settings([setting.initialWindowSize, maxWindowBytes])],
    codes: ['FLOW_CONTROL_ERROR'],
  },
  { section: '6.3', what: 'PRIORITY of 4 bytes', send: [frame(frameType.priority, 0, 1, Buffer.alloc(4))], codes: frameSizeError },
  { section: '8.1', what: 'trailers that do not end it', send: [headers(1, fieldBlock([['x-sum', '7']]))], codes: protocolError },
  {
    section: '8.1.1',
    what: 'less DATA than its content-length',
    fields: [['content-length', '300']] as const,
    send: [lastData(1, message('event'))],
    codes: protocolError,
  },
  {
    section: '8.3',
    what: 'a pseudo-header field in trailers',
    send: [data(1, message('event')), headers(1, fieldBlock([[':path', '/']]), flag.endHeaders | flag.endStream)],
    codes: protocolError,
  },
] satisfies readonly StreamErrorCase[])('RFC 9113 $section: $what is an error of the stream', async ({ send, codes, ...more }) => {
  const client = await greet(await serve())
  const fields = 'fields' in more ? fieldBlock(more.fields) : Buffer.alloc(0)
  client.send(headers(1, Buffer.concat([callBlock, fields])), ...send)
  await expectStreamError(client, 1, codes)
  expect(client.framesOf(1, frameType.headers)).toEqual([])
})

interface StreamErrorCase {
  readonly section: string
  readonly what: string
  readonly fields?: readonly (readonly [string, string])[]
  readonly send: readonly Buffer[]
  readonly codes: readonly ErrorCode[]
}

it('RFC 9113 4.2: DATA of 16,384 bytes are taken', async () => {
  const client = await greet(await serve())
  const event = 'x'.repeat(2 * maxFrameBytes)
  const body = message(event)
  client.send(open, data(1, body.subarray(0, maxFrameBytes)), data(1, body.subarray(maxFrameBytes, 2 * maxFrameBytes)))
  client.send(lastData(1, body.subarray(2 * maxFrameBytes)))
  expect(eventsOf(await client.answer(1))).toEqual([event])
})

it.each([
  { what: '16,384 bytes', entries: [], limit: maxFrameBytes },
  { what: 'the bytes of MAX_FRAME_SIZE', entries: [[setting.maxFrameSize, 20_000]] as const, limit: 20_000 },
])('RFC 9113 4.2: the server sends no frame of more than $what', async ({ entries, limit }) => {
  const client = await greet(await serve(), [setting.initialWindowSize, 2 ** 20], ...entries)
  client.send(windowUpdate(0, 2 ** 20))
  const event = 'x'.repeat(200_000)
  const body = message(event)
  client.send(open)
  for (let at = 0; at < body.length; at += maxFrameBytes) client.send(data(1, body.subarray(at, at + maxFrameBytes)))
  client.send(lastData(1, Buffer.alloc(0)))
  expect(eventsOf(await client.answer(1))).toEqual([event])
  expect(Math.max(...client.frames.map(({ payload }) => payload.length))).toBeLessThanOrEqual(limit)
})
