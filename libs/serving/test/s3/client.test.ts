import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer, type RequestListener, type Server } from 'node:http'
import { type AddressInfo, createServer as createRawServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MeshError } from '@spillway/core'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { S3Client, type S3Object } from '../../src/mod.ts'
import { refusal } from '../refusal.ts'
import { signal } from '../lifecycle/served-models.ts'

const content = Buffer.alloc(100_000, 'model')
const md5 = createHash('md5').update(content).digest('hex')
const object: S3Object = { key: 'a/1/model.onnx', bytes: content.byteLength, etag: `"${md5}"`, changedMs: 0 }

describe('an object', () => {
  let folder: string
  let path: string
  let server: Server | undefined

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spillway-s3-client-'))
    path = join(folder, 'model.onnx')
  })
  afterEach(async () => {
    server?.closeAllConnections()
    server?.close()
    await rm(folder, { recursive: true })
  })

  /** Of a server that answers as is said: what no sound one does. */
  async function client(answer: RequestListener): Promise<S3Client> {
    server = createServer(answer).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const address = { endpoint: `http://127.0.0.1:${port}`, bucket: 'models', prefix: '' }
    return new S3Client({ address, region: 'us-east-1', credentials: { accessKeyId: 'a', secretAccessKey: 'b' } })
  }

  it('whose connection breaks half way is not there, and may be asked for again', async () => {
    const cut = await client((_, response) => {
      response.writeHead(200, { 'content-length': content.byteLength })
      response.write(content.subarray(0, 50_000), () => response.destroy())
    })
    const error = await refusal(() => cut.download(object, path, signal))
    expect(error).toMatchObject({ code: 'UNAVAILABLE', retryable: true, message: expect.stringMatching(/does not answer: /) as unknown })
  })

  it('that came otherwise than it was put is refused', async () => {
    const changed = await client((_, response) => response.end(Buffer.alloc(content.byteLength, 'other')))
    expect(await refusal(() => changed.download(object, path, signal))).toMatchObject({
      code: 'DATA_LOSS',
      message: expect.stringMatching(/has another checksum than its ETag/) as unknown,
    })
    expect(await refusal(() => changed.download({ ...object, bytes: 5 }, path, signal))).toMatchObject({
      message: 's3://models/a/1/model.onnx: 100000 bytes came of 5',
    })
  })

  it('whose ETag is no checksum is taken as it comes: one that was put in parts, or is encrypted with keys of a key store', async () => {
    const server = await client((_, response) => {
      response.setHeader('x-amz-server-side-encryption', 'aws:kms')
      response.end(content)
    })
    for (const etag of [`"${'0'.repeat(32)}"`, `"${md5}-2"`]) {
      await server.download({ ...object, etag }, path, signal)
      expect(Buffer.compare(await readFile(path), content)).toBe(0)
    }
  })

  it('comes whole, time and again, where its server closes the connection right behind it', async () => {
    const large = Buffer.alloc(1_000_000, 'model')
    const closing = await client((_, response) => {
      const socket = response.socket!
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${large.byteLength}\r\nConnection: close\r\n\r\n`)
      socket.write(large)
      socket.end()
    })
    for (let time = 0; time < 20; time++) await closing.download({ ...object, bytes: large.byteLength, etag: '"in-parts-2"' }, path, signal)
    expect(Buffer.compare(await readFile(path), large)).toBe(0)
  })

  it('is given up when it is told to, and when it takes too long to begin', async () => {
    const silent = await client(() => undefined)
    const stopping = new AbortController()
    const asked = refusal(() => silent.text(object, stopping.signal))
    stopping.abort(new MeshError('CANCELLED', 'stopped'))
    expect(await asked).toMatchObject({ code: 'CANCELLED', message: 'stopped' })
    const error = await refusal(() => silent.text(object, AbortSignal.timeout(50)))
    expect(error).toMatchObject({ code: 'UNAVAILABLE', message: expect.stringMatching(/does not answer: .*timeout/) as unknown })
  })

  it('is asked for again where the server has too much to do', async () => {
    let calls = 0
    const busy = await client((_, response) => {
      if (++calls < 3) response.writeHead(503).end('<Error><Code>SlowDown</Code><Message>Slow down.</Message></Error>')
      else response.end(content)
    })
    await busy.download(object, path, signal)
    expect(calls).toBe(3)
    calls = -100
    expect(await refusal(() => busy.text(object, signal))).toMatchObject({
      code: 'UNAVAILABLE',
      message: 's3://models/a/1/model.onnx: the server answered 503 SlowDown Slow down.',
    })
  })
})

describe('a connection that is used again', () => {
  const answer = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine'
  const closers: (() => void)[] = []
  afterEach(() => {
    for (const close of closers.splice(0)) close()
  })

  /** Of a server that answers the first request, and the others as is said. @returns it, and of each request which connection it came by */
  async function client(others: (socket: Socket, connection: number) => void): Promise<readonly [S3Client, readonly number[]]> {
    const seen: number[] = []
    let connections = 0
    const server = createRawServer((socket) => {
      const connection = ++connections
      closers.push(() => socket.destroy())
      socket
        .on('error', () => undefined)
        .on('data', () => {
          if (seen.push(connection) === 1) socket.write(answer)
          else others(socket, connection)
        })
    }).listen(0, '127.0.0.1')
    closers.push(() => server.close())
    await once(server, 'listening')
    const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    return [new S3Client({ address: { endpoint, bucket: 'models', prefix: '' }, region: 'us-east-1' }), seen]
  }

  /** The connection is free for the next request only once the agent has it back. */
  async function askTwice(client: S3Client): Promise<string> {
    expect(await client.text(object, signal)).toBe('fine')
    await new Promise((resolve) => setImmediate(resolve))
    return client.text(object, signal)
  }

  it.each([
    ['reset', (socket: Socket): void => void socket.resetAndDestroy()],
    ['ended', (socket: Socket): void => void socket.end()],
  ])('and is %s under a request: the request is sent once more, on a new one', async (_, end) => {
    const [sound, seen] = await client((socket, connection) => (connection === 1 ? end(socket) : socket.write(answer)))
    expect(await askTwice(sound)).toBe('fine')
    expect(seen).toEqual([1, 1, 2])
    const [broken, requests] = await client(end)
    expect(await refusal(() => askTwice(broken))).toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/ECONNRESET/) as unknown,
    })
    expect(requests).toEqual([1, 1, 2])
  })

  it('and ends within an answer is not: the server has the request', async () => {
    const [broken, seen] = await client((socket) => void socket.end('HTTP/1.1 200'))
    expect(await refusal(() => askTwice(broken))).toMatchObject({ code: 'UNAVAILABLE' })
    expect(seen).toEqual([1, 1])
  })
})
