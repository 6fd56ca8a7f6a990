import { expect, it } from 'vitest'
import {
  continuation,
  data,
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
  settings,
} from './raw-frames.ts'
import {
  call,
  callBlock,
  callFields,
  expectAlive,
  expectConnectionError,
  expectEcho,
  expectServing,
  expectStreamError,
  greet,
  message,
  serve,
} from './wire-rig.ts'

const protocolError: readonly ErrorCode[] = ['PROTOCOL_ERROR']
const compressionError: readonly ErrorCode[] = ['COMPRESSION_ERROR']
const [half, otherHalf] = [callBlock.subarray(0, 40), callBlock.subarray(40)]
const started = headers(1, half, 0)
/** Names the newest entry of the dynamic table. */
const newest = Buffer.from([0xbe])

it.each([
  { section: '4.3', what: 'PING', send: [started, ping('between!'), continuation(1, otherHalf)] },
  { section: '4.3', what: 'DATA', send: [started, data(1, message('early')), continuation(1, otherHalf)] },
  { section: '4.3', what: 'HEADERS of another stream', send: [started, headers(3, callBlock), continuation(1, otherHalf)] },
  { section: '5.5', what: 'an unknown frame', send: [started, frame(0xee, 0, 0), continuation(1, otherHalf)] },
  { section: '6.5', what: 'SETTINGS', send: [started, settings(), continuation(1, otherHalf)] },
  { section: '6.10', what: 'CONTINUATION of another stream', send: [started, continuation(3, otherHalf)] },
  { section: '6.10', what: 'CONTINUATION on stream 0', send: [started, continuation(0, otherHalf)] },
])('RFC 9113 $section: $what within a field block ends the connection', async ({ send }) => {
  const client = await greet(await serve())
  client.send(...send)
  await expectConnectionError(client, protocolError)
})

it('RFC 9113 6.10: CONTINUATION after the end of a field block ends the connection', async () => {
  const client = await greet(await serve())
  client.send(headers(1, callBlock), continuation(1, fieldBlock([['x-late', '1']])))
  await expectConnectionError(client, protocolError)
})

it.each([
  { what: 'two frames', send: [started, continuation(1, otherHalf)] },
  {
    what: 'frames of which some are empty',
    send: [headers(1, Buffer.alloc(0), 0), continuation(1, Buffer.alloc(0), 0), continuation(1, callBlock)],
  },
  {
    what: 'frames of 40 bytes',
    send: [
      headers(1, Buffer.alloc(0), 0),
      ...Array.from({ length: Math.ceil(callBlock.length / 40) }, (_, index) =>
        continuation(1, callBlock.subarray(40 * index, 40 * index + 40), 0),
      ),
      continuation(1, Buffer.alloc(0)),
    ],
  },
])('RFC 9113 6.10: a field block may come in $what', async ({ send }) => {
  const client = await greet(await serve())
  client.send(...send, lastData(1, message('event of 1')))
  await expectEcho(client, 1)
})

it.each([
  { section: '2.3.3', what: 'an index beyond the tables', block: Buffer.concat([callBlock, Buffer.from([0xfe])]) },
  { section: '6.1', what: 'index 0', block: Buffer.concat([callBlock, Buffer.from([0x80])]) },
  { section: '5.1', what: 'an integer that does not end', block: Buffer.alloc(200, 0xff) },
  { section: '5.2', what: 'a string longer than its block', block: Buffer.from([0x00, 0x7f, 0x00, 0x61]) },
  { section: '5.2', what: 'a string that the block’s end cuts off', block: callBlock.subarray(0, -1) },
  { section: '5.2', what: 'Huffman padding of zeros', block: Buffer.from([0x00, 0x81, 0x00, 0x01, 0x61]) },
  { section: '5.2', what: 'Huffman’s end of string', block: Buffer.from([0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x01, 0x61]) },
  { section: '4.2', what: 'a table size update after a field', block: Buffer.concat([callBlock, Buffer.from([0x20])]) },
  { section: '6.3', what: 'a table size beyond the server’s', block: Buffer.concat([Buffer.from([0x3f, 0xe2, 0xff, 0x03]), callBlock]) },
])('RFC 7541 $section: $what ends the connection (RFC 9113 4.3)', async ({ block }) => {
  const server = await serve()
  const client = await greet(server)
  client.send(headers(1, block))
  await expectConnectionError(client, compressionError)
  await expectServing(server)
})

it('RFC 7541 6.3: table size updates may lead a field block', async () => {
  const client = await greet(await serve())
  client.send(headers(1, Buffer.concat([Buffer.from([0x20, 0x3f, 0xe1, 0x1f]), callBlock])), lastData(1, message('event of 1')))
  await expectEcho(client, 1)
})

it.each([
  { what: 'a malformed request', fields: [['X-Upper', '1']] as const },
  { what: 'a request of no gRPC', fields: [[':method', 'GET']] as const },
  { what: 'a request that is served', fields: callFields },
])('RFC 9113 4.3: the dynamic table keeps what $what brought', async ({ fields }) => {
  const client = await greet(await serve())
  const path = callFields.find(([name]) => name === ':path')!
  client.send(headers(1, Buffer.concat([indexedField(path), fieldBlock(fields)]), flag.endHeaders | flag.endStream))
  client.send(
    headers(3, Buffer.concat([newest, fieldBlock(callFields.filter((field) => field !== path))])),
    lastData(3, message('event of 3')),
  )
  await expectEcho(client, 3)
})

it('RFC 9113 4.3.1: after HEADER_TABLE_SIZE was made smaller, a field block begins by saying so', async () => {
  const client = await greet(await serve())
  await expectAlive(client, 1)
  client.send(settings([setting.headerTableSize, 0]))
  await client.settingsAcked(2)
  await expectAlive(client, 3)
  expect(client.framesOf(3, frameType.headers)[0]?.payload[0]).toBe(0x20)
  await expectAlive(client, 5)
})

const withField = (...fields: readonly Field[]): readonly Field[] => [...callFields, ...fields]
const without = (name: string): readonly Field[] => callFields.filter(([other]) => other !== name)
const changed = (name: string, value: string): readonly Field[] => callFields.map((field) => (field[0] === name ? [name, value] : field))

it.each([
  { section: '8.2', what: 'a name in capitals', fields: withField(['X-Tenant', 'north']) },
  { section: '8.2.2', what: 'connection', fields: withField(['connection', 'close']) },
  { section: '8.2.2', what: 'keep-alive', fields: withField(['keep-alive', 'timeout=5']) },
  { section: '8.2.2', what: 'proxy-connection', fields: withField(['proxy-connection', 'close']) },
  { section: '8.2.2', what: 'transfer-encoding', fields: withField(['transfer-encoding', 'chunked']) },
  { section: '8.2.2', what: 'upgrade', fields: withField(['upgrade', 'h2c']) },
  { section: '8.2.2', what: 'te of another value than trailers', fields: changed('te', 'trailers, deflate') },
  { section: '8.3', what: 'an unknown pseudo-header field', fields: [[':tenant', 'north'] as const, ...callFields] },
  { section: '8.3', what: ':status', fields: [[':status', '200'] as const, ...callFields] },
  { section: '8.3', what: 'a pseudo-header field after others', fields: [...without(':path'), [':path', '/'] as const] },
  { section: '8.3.1', what: 'no :method', fields: without(':method') },
  { section: '8.3.1', what: 'no :scheme', fields: without(':scheme') },
  { section: '8.3.1', what: 'no :path', fields: without(':path') },
  { section: '8.3.1', what: 'an empty :path', fields: changed(':path', '') },
  { section: '8.3.1', what: ':method twice', fields: [[':method', 'POST'] as const, ...callFields] },
  { section: '8.3.1', what: ':scheme twice', fields: [[':scheme', 'http'] as const, ...callFields] },
  { section: '8.3.1', what: ':path twice', fields: [[':path', '/'] as const, ...callFields] },
  { section: '8.3.1', what: ':authority twice', fields: [[':authority', '127.0.0.1'] as const, ...callFields] },
  { section: '8.5', what: ':path of CONNECT', fields: changed(':method', 'CONNECT') },
])('RFC 9113 $section: $what is an error of the stream', async ({ fields }) => {
  const client = await greet(await serve())
  client.send(headers(1, fieldBlock(fields)), lastData(1, message('malformed')))
  await expectStreamError(client, 1, protocolError)
  expect(client.framesOf(1, frameType.headers)).toEqual([])
  if (!client.isClosed) await expectAlive(client, 3)
})

it.each([
  { section: '8.2.3', what: 'cookies in several fields', fields: withField(['cookie', 'a=1'], ['cookie', 'b=2']) },
  { section: '8.2.1', what: 'an empty value', fields: withField(['x-tenant', '']) },
  { section: '8.2.1', what: 'bytes above 0x7f in a value', fields: withField(['x-tenant', 'n\xf6rdlich']) },
  { section: '8.3.1', what: 'host in place of :authority', fields: [...without(':authority'), ['host', '127.0.0.1'] as const] },
  { section: '8.3.1', what: 'https for a scheme', fields: changed(':scheme', 'https') },
  { section: '6.5.2', what: 'fields of 6,000 bytes', fields: withField(['x-trace', 'x'.repeat(6000)]) },
])('RFC 9113 $section: $what is served', async ({ fields }) => {
  const client = await greet(await serve())
  client.send(headers(1, fieldBlock(fields)), lastData(1, message('event of 1')))
  await expectEcho(client, 1)
})

it.each(['GET', 'HEAD', 'OPTIONS', 'PUT'])('RFC 9110 9: %s is answered, and is no call', async (method) => {
  const client = await greet(await serve())
  const fields: readonly Field[] = [[':method', method], ...without(':method')]
  client.send(headers(1, fieldBlock(fields), flag.endHeaders | flag.endStream))
  const answer = await client.answer(1)
  expect(answer.headers['grpc-status']).not.toBe('0')
  await expectAlive(client, 3)
})

it('RFC 9113 8.1: a request without a body is answered', async () => {
  const client = await greet(await serve())
  client.send(headers(1, callBlock, flag.endHeaders | flag.endStream), call(3))
  expect(await client.answer(1)).toMatchObject({ headers: { ':status': '200', 'grpc-status': '12' } })
  await expectEcho(client, 3)
})
