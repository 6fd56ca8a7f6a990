import { once } from 'node:events'
import * as http2 from 'node:http2'
import * as net from 'node:net'
import { expect, it, onTestFinished } from 'vitest'
import { FieldDecoder, type Fields } from '../../src/http2/field-decoder.ts'
import { encodeFields } from '../../src/http2/field-encoder.ts'

const [headersType, settingsType, continuationType] = [1, 4, 9]
const [endStream, acknowledgement, endHeaders] = [1, 1, 4]
const headerTableSize = 1

function frame(type: number, flags: number, streamId: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(streamId, 5)
  return Buffer.concat([head, payload])
}

function tableSettings(bytes: number): Buffer {
  const entry = Buffer.alloc(6)
  entry.writeUInt16BE(headerTableSize)
  entry.writeUInt32BE(bytes, 2)
  return frame(settingsType, 0, 0, entry)
}

/** A server that decodes every request's fields and answers each with the same ones. */
class Recorder {
  readonly requests: Fields[] = []
  readonly blocks: Buffer[] = []
  readonly #socket: net.Socket
  readonly #decoder: FieldDecoder
  readonly #answer: Buffer
  #rest = Buffer.alloc(0)
  #block: Buffer[] = []
  #prefaceBytes = 24

  constructor(socket: net.Socket, tableBytes: number, answer: Fields) {
    this.#socket = socket
    this.#decoder = new FieldDecoder({ maxTableBytes: tableBytes, maxListBytes: 1_000_000 })
    this.#answer = encodeFields(answer)
    this.resizeTable(tableBytes)
    socket.on('data', (bytes) => {
      this.#read(bytes)
    })
  }

  resizeTable(bytes: number): void {
    this.#socket.write(tableSettings(bytes))
  }

  #read(bytes: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, bytes])
    if (this.#prefaceBytes > 0 && this.#rest.length >= this.#prefaceBytes) {
      this.#rest = this.#rest.subarray(this.#prefaceBytes)
      this.#prefaceBytes = 0
    }
    if (this.#prefaceBytes > 0) return
    while (this.#rest.length >= 9) {
      const length = this.#rest.readUIntBE(0, 3)
      if (this.#rest.length < 9 + length) return
      const [type, flags, streamId] = [this.#rest[3]!, this.#rest[4]!, this.#rest.readUInt32BE(5)]
      const payload = this.#rest.subarray(9, 9 + length)
      this.#rest = this.#rest.subarray(9 + length)
      if (type === settingsType && (flags & acknowledgement) === 0)
        this.#socket.write(frame(settingsType, acknowledgement, 0, Buffer.alloc(0)))
      if (type === headersType || type === continuationType) this.#take(flags, streamId, payload)
    }
  }

  #take(flags: number, streamId: number, payload: Buffer): void {
    this.#block.push(payload)
    if ((flags & endHeaders) === 0) return
    const block = Buffer.concat(this.#block)
    this.#block = []
    this.blocks.push(block)
    this.requests.push(this.#decoder.decode(block))
    this.#socket.write(frame(headersType, endStream | endHeaders, streamId, this.#answer))
  }
}

async function startPair(
  tableBytes: number,
  answer: Fields = [':status', '200'],
): Promise<{ client: http2.ClientHttp2Session; recorder: Recorder }> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  const client = http2.connect(`http://127.0.0.1:${port}`, { maxDeflateDynamicTableSize: Math.max(tableBytes, 4096) })
  onTestFinished(() => {
    client.destroy()
    server.close()
  })
  const [socket] = (await once(server, 'connection')) as [net.Socket]
  socket.on('error', () => client.destroy())
  return { client, recorder: new Recorder(socket, tableBytes, answer) }
}

async function send(client: http2.ClientHttp2Session, fields: Fields): Promise<http2.IncomingHttpHeaders> {
  const headers: http2.OutgoingHttpHeaders = { [http2.sensitiveHeaders]: ['x-secret'] }
  for (let i = 0; i < fields.length; i += 2) headers[fields[i]!] = fields[i + 1]
  const stream = client.request(headers, { endStream: true })
  const [answer] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders]
  stream.resume()
  return answer
}

const start = [':method', 'POST', ':scheme', 'http', ':path', '/', ':authority', '127.0.0.1:50051']

function callOf(number: number): Fields {
  const call = start.with(5, `/service${number % 7}.Name/Method${number % 13}`)
  call.push(
    'te',
    'trailers',
    'content-type',
    'application/grpc',
    'user-agent',
    'caller/1.0',
    'grpc-timeout',
    `${(number * 7919) % 10_000}m`,
  )
  call.push('x-secret', `token ${number}`, 'traceparent', `00-${'0123456789abcdef'.repeat(2)}-${number.toString(16).padStart(16, '0')}-01`)
  if (number % 3 === 0) call.push(`x-name-${number % 50}`, `${number}`.repeat(number % 60))
  return call
}

it.each([0, 200, 4096, 65_536])('decodes what nghttp2 writes with a table of %i bytes', async (tableBytes) => {
  const { client, recorder } = await startPair(tableBytes)
  const calls = Array.from({ length: 600 }, (_, number) => callOf(number))
  for (const call of calls) await send(client, call)
  expect(recorder.requests).toEqual(calls)
})

it('follows the sizes of the table', async () => {
  const { client, recorder } = await startPair(8192)
  const calls = Array.from({ length: 300 }, (_, number) => callOf(number))
  for (const [number, call] of calls.entries()) {
    if (number % 20 === 10) recorder.resizeTable([0, 100, 4096, 300, 8192][(number / 10 - 1) % 5]!)
    // Two at once: the smaller must empty the table before the larger holds.
    if (number === 100) for (const bytes of [40, 8192]) recorder.resizeTable(bytes)
    await send(client, call)
  }
  expect(recorder.requests).toEqual(calls)
  expect(recorder.blocks.filter((block) => block[0]! >> 5 === 1).length).toBeGreaterThanOrEqual(10)
})

it('decodes every octet that a value may have, in Huffman code', async () => {
  const { client, recorder } = await startPair(4096)
  const calls = Array.from({ length: 255 }, (_, i) => {
    const value = 'e'.repeat(30) + String.fromCharCode(i + 1) + 'e'.repeat(30)
    return [...start, 'x-octet', value]
  })
  for (const call of calls) await send(client, call)
  expect(recorder.requests).toEqual(calls)
  // 61 octets plain.
  expect(recorder.blocks.slice(1).every((block) => block.length < 61)).toBe(true)
})

it('decodes a block of several frames', async () => {
  const { client, recorder } = await startPair(4096)
  const call = [...start, 'x-long', '~^'.repeat(15_000)]
  await send(client, call)
  await send(client, callOf(1))
  expect(recorder.requests).toEqual([call, callOf(1)])
})

it('writes what nghttp2 decodes', async () => {
  const long = 'long '.repeat(100).trim()
  const answer = {
    'content-type': 'application/grpc',
    'grpc-status': '5',
    'grpc-message': 'no%20such',
    'x-long': long,
    'x-latin1': 'é',
    'content-encoding': '',
    'www-authenticate': 'a',
  }
  const { client } = await startPair(4096, [':status', '404', ...Object.entries(answer).flat()])
  expect(await send(client, callOf(1))).toMatchObject({ ':status': 404, ...answer })
})
