import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { CallRoom } from '@spillway/rpc'
import { createTelemetry, refuseMalformed } from '@spillway/telemetry'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { callConnections } from '../src/call-connection.ts'
import { type OipFixture, startOipFixture } from './oip-fixture.ts'
import { openRaw, RawConnection, type RawResponse, requestBytes } from './raw-http.ts'

let fixture: OipFixture
beforeAll(async () => {
  fixture = await startOipFixture()
})
afterAll(() => fixture.stop())

const connection = (): RawConnection => openRaw(fixture.http)

const infer = '/v2/models/echo-FP32/infer'

/** A call that is answered with its id. */
function call(id: string, path: string = infer): Buffer {
  const body = `{"id":"${id}","inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}`
  return requestBytes(
    `POST ${path} HTTP/1.1`,
    { 'content-type': 'application/json', 'content-length': String(body.length) },
    Buffer.from(body),
  )
}

function idOf({ status, body }: RawResponse): unknown {
  return status === 200 ? (JSON.parse(body) as { id: string }).id : status
}

describe('whatever comes between calls on one connection is answered', () => {
  const others: Readonly<Record<string, readonly [Buffer, status: number]>> = {
    'a request of another kind': [Buffer.from('GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n'), 200],
    'a path that is not served': [requestBytes('POST /nowhere HTTP/1.1', { 'content-length': '2' }, Buffer.from('{}')), 404],
    'a call with a query': [call('other', `${infer}?a=1`), 200],
    'two calls at once': [Buffer.concat([call('other'), call('another')]), 200],
  }
  test.each(Object.entries(others))('%s', async (_name, [bytes, status]) => {
    const opened = connection()
    for (const id of ['one', 'two', 'longer']) {
      opened.send(call(id))
      expect(idOf(await opened.next())).toBe(id)
    }
    opened.send(bytes)
    expect((await opened.next()).status).toBe(status)
    if (bytes.includes('another')) expect(idOf(await opened.next())).toBe('another')
    opened.send(call('last'))
    expect(idOf(await opened.next())).toBe('last')
  })

  test.each([1, 20, 150, 240])('a call in two pieces, the first of %i bytes', async (length) => {
    const opened = connection()
    opened.send(call('one'))
    await opened.next()
    const bytes = call('two')
    opened.send(bytes.subarray(0, length))
    const other = connection()
    other.send(call('other'))
    await other.next()
    opened.send(bytes.subarray(length))
    expect(idOf(await opened.next())).toBe('two')
  })
})

test('a call that comes while another is being answered is answered after it, and so are those behind', async () => {
  const opened = connection()
  const ids = Array.from({ length: 200 }, (_, i) => `call ${i}`)
  let sent = 0
  const send = (): void => {
    for (const end = Math.min(sent + 7, ids.length); sent < end; sent++) opened.send(call(ids[sent]!))
    if (sent < ids.length) setImmediate(send)
  }
  opened.send(call(ids[sent++]!))
  setImmediate(send)
  for (const id of ids) expect(idOf(await opened.next())).toBe(id)
})

describe('a head is read as Node.js reads it', () => {
  const body = '{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'
  const length = `content-length: ${body.length}`
  const heads: Readonly<Record<string, readonly [lines: readonly string[], status: number]>> = {
    'in its usual form': [['host: x', length], 200],
    'with blanks around values and names in capitals': [['HOST:x', `Content-Length: \t${body.length} \t`], 200],
    'without a host': [[length], 400],
    'with two lengths': [['host: x', length, `content-length: ${body.length - 1}`], 400],
    'with the same length twice': [['host: x', length, length], 400],
    'with a length and chunks': [['host: x', length, 'transfer-encoding: chunked'], 400],
    'with a length that is no number': [['host: x', 'content-length: 0x10'], 400],
    'with a length that has a sign': [['host: x', `content-length: +${body.length}`], 400],
    'with a blank before a colon': [['host: x', `content-length : ${body.length}`], 400],
    'with a folded line': [['host: x', 'accept: a,', ' b', length], 400],
    'with a control character': [['host: x', 'accept: a\u0001b', length], 400],
    'with a line feed alone': [[`host: x\n${length}`], 400],
    'with a name that is no token': [['host: x', 'a(b: c', length], 400],
    'with letters beyond ASCII': [['host: x', 'accept: \u00fc', length], 200],
    'that is too long': [['host: x', `accept: ${'a'.repeat(20_000)}`, length], 431],
    'that is long': [['host: x', `accept: ${'a'.repeat(9_000)}`, length], 200],
    'that asks for the connection’s end': [['host: x', length, 'connection: close'], 200],
    'that asks for another protocol': [['host: x', length, 'connection: upgrade', 'upgrade: h2c'], 200],
    'that names a type that is none': [['host: x', length, 'content-type: json'], 415],
  }
  test.each(Object.entries(heads))('%s', async (_name, [lines, status]) => {
    const bytes = Buffer.from([`POST ${infer} HTTP/1.1`, ...lines, '', body].join('\r\n'), 'latin1')
    const [whole, cut] = [connection(), connection()]
    whole.send(bytes)
    // A first byte by itself makes the connection Node.js's.
    cut.send(bytes.subarray(0, 1))
    const answer = await whole.next()
    cut.send(bytes.subarray(1))
    expect(answer).toEqual(await cut.next())
    expect(answer.status).toBe(status)
  })
})

describe('a connection by itself', () => {
  const telemetry = createTelemetry({ service: 'call-connection-test', logLevel: 'silent', otlp: false })
  afterAll(() => telemetry.shutdown())

  const body = Buffer.from('an answer')

  interface Listening {
    readonly http: string
    /** What became of calls, and of connections that were handed over: the bytes that had come. */
    readonly seen: (string | Buffer)[]
  }

  async function listen(options: { keepAliveMs?: number; requestTimeoutMs?: number; body?: Buffer } = {}): Promise<Listening> {
    const seen: (string | Buffer)[] = []
    const front = callConnections({
      calls: [{ statuses: {}, find: () => async () => ({ headers: [], body: options.body ?? body }) }],
      room: new CallRoom({ maxCalls: 10, maxBytes: 1000, refused: () => undefined }),
      logger: telemetry.logger,
      maxBodyBytes: 100,
      refuse: refuseMalformed(({ status }) => ({ status })),
      keepAliveMs: options.keepAliveMs ?? 60_000,
      requestTimeoutMs: options.requestTimeoutMs ?? 60_000,
    })
    const server = createServer({ allowHalfOpen: true }, (socket: Socket) =>
      front(socket, {
        began: () => seen.push('began'),
        answered: () => seen.push('answered'),
        handOver: (received) => {
          seen.push(received)
          socket.destroy()
        },
      }),
    )
    onTestFinished(() => void server.close())
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return { http: `http://127.0.0.1:${(server.address() as { port: number }).port}`, seen }
  }

  const small = requestBytes('POST /v2/models/m/infer HTTP/1.1', { 'content-length': '2' }, Buffer.from('{}'))

  test('that asks nothing is told so, and ended', async () => {
    const opened = new RawConnection((await listen({ requestTimeoutMs: 50 })).http)
    expect(await opened.next()).toMatchObject({ status: 408, body: '{"status":408}' })
    await opened.closed()
  })

  test('is ended after the time that it may be idle, which its answers say', async () => {
    const { http, seen } = await listen({ keepAliveMs: 1_500 })
    const opened = new RawConnection(http)
    opened.send(small)
    expect(await opened.next()).toMatchObject({
      status: 200,
      headers: { connection: 'keep-alive', 'keep-alive': 'timeout=1' },
      body: 'an answer',
    })
    await opened.closed()
    expect(seen).toEqual(['began', 'answered'])
  })

  test('that is reset leaves nothing behind', async () => {
    const { http } = await listen()
    const gone = new RawConnection(http)
    await once(gone.socket, 'connect')
    gone.socket.resetAndDestroy()
    const opened = new RawConnection(http)
    opened.send(small)
    expect((await opened.next()).status).toBe(200)
    opened.socket.destroy()
  })

  test('whose client does not read its answer is not read from either', async () => {
    const { http, seen } = await listen({ body: Buffer.alloc(8 * 2 ** 20, 'x') })
    const opened = new RawConnection(http)
    opened.socket.pause()
    opened.send(small)
    await expect.poll(() => opened.socket.readableLength).toBeGreaterThan(0)
    opened.send(small)
    // Another connection's call: the second has come by then.
    const other = new RawConnection(http)
    other.send(small)
    await other.next()
    other.socket.destroy()
    expect(seen).toEqual(['began', 'began', 'answered'])
    opened.socket.resume()
    expect((await opened.next()).body).toHaveLength(8 * 2 ** 20)
    await opened.closed()
    expect(seen.slice(3)).toEqual(['answered', small])
  })
})
