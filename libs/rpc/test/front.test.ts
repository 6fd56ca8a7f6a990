import { connect as connectHttp2, type ClientHttp2Session, type IncomingHttpHeaders } from 'node:http2'
import { MeshError } from '@spillway/core'
import { createTelemetry } from '@spillway/telemetry'
import { predictionV1 } from '@spillway/wire'
import { expect, it, onTestFinished } from 'vitest'
import { type Admission, GrpcChannel, GrpcServer, serverStreamHandler, unaryHandler } from '../src/mod.ts'

const { PredictionService } = predictionV1
const mib = 2 ** 20

/** Room for so many bytes; keeps what was asked of it. */
class ByteRoom implements Admission {
  readonly asked: number[] = []
  readonly #max: number
  #held = 0
  #places = 0

  constructor(max: number) {
    this.#max = max
  }

  get places(): number {
    return this.#places
  }

  admit(): { reserve(bytes: number): boolean; release(): void } {
    let held = 0
    this.#places++
    return {
      reserve: (bytes) => {
        this.asked.push(bytes)
        if (this.#held + bytes > this.#max) return false
        this.#held += bytes
        held = bytes
        return true
      },
      release: () => {
        this.#held -= held
        this.#places--
      },
    }
  }
}

async function startServer(
  admission: Admission,
  requestTimeoutMs = 30_000,
): Promise<{ port: number; channel: GrpcChannel; handled: number[] }> {
  const telemetry = createTelemetry({ service: 'gate-test', logLevel: 'silent', otlp: false })
  const handled: number[] = []
  const server = new GrpcServer({
    port: 0,
    telemetry,
    requestTimeoutMs,
    services: [
      {
        definition: PredictionService,
        implementation: {
          predict: unaryHandler(async ({ events }: predictionV1.PredictRequest) => {
            handled.push(events[0]?.length ?? 0)
            return { results: [] }
          }),
          publish: unaryHandler(async () => ({ positions: [] })),
          subscribe: serverStreamHandler(() => [] as never),
        },
        admissions: { predict: admission },
      },
    ],
  })
  await server.start()
  const channel = new GrpcChannel({ address: `127.0.0.1:${server.port}`, telemetry })
  onTestFinished(async () => {
    await channel.drain()
    await server.drain()
    await telemetry.shutdown()
  })
  return { port: server.port, channel, handled }
}

const codeOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => 'OK',
    (error: unknown) => MeshError.from(error).code,
  )

interface RawCall {
  send(bytes: Buffer, end?: boolean): void
  readonly answer: Promise<IncomingHttpHeaders>
}

function rawSession(port: number): ClientHttp2Session {
  const session = connectHttp2(`http://127.0.0.1:${port}`)
  onTestFinished(() => session.destroy())
  return session
}

function rawCall(session: ClientHttp2Session): RawCall {
  const headers = { ':method': 'POST', ':path': PredictionService.predict.path, 'content-type': 'application/grpc', te: 'trailers' }
  const stream = session.request(headers, { endStream: false })
  const answer = new Promise<IncomingHttpHeaders>((resolve, reject) => {
    stream.once('response', resolve).once('error', reject)
  })
  stream.resume()
  return { answer, send: (bytes, end = false) => void (end ? stream.end(bytes) : stream.write(bytes)) }
}

/** Compressed flag and length. */
function prefix(bytes: number, compressed = 0): Buffer {
  const head = Buffer.alloc(5)
  head[0] = compressed
  head.writeUInt32BE(bytes, 1)
  return head
}

it('refuses for want of room with one frame that says when to come again, before any of the request has come', async () => {
  const { port } = await startServer({ admit: () => undefined })
  const { answer } = rawCall(rawSession(port))
  expect(await answer).toMatchObject({ ':status': 200, 'grpc-status': '8', 'grpc-retry-pushback-ms': '1000' })
})

it('refuses a request that there is no room for by its first bytes', async () => {
  const room = new ByteRoom(3 * mib)
  const { port, channel, handled } = await startServer(room)
  const session = rawSession(port)
  const first = rawCall(session)
  first.send(prefix(2 * mib))
  await expect.poll(() => room.asked).toEqual([2 * mib])
  const second = rawCall(session)
  second.send(prefix(2 * mib))
  expect(await second.answer).toMatchObject({ 'grpc-status': '8' })
  // What may become as large as is allowed is taken to be.
  const compressed = rawCall(session)
  compressed.send(prefix(100, 1))
  expect(await compressed.answer).toMatchObject({ 'grpc-status': '8' })
  expect(room.asked[2]).toBe(16 * mib)
  await channel.unary(PredictionService.predict, { pipeline: 'fraud', events: [Buffer.alloc(100)] })
  expect(handled).toEqual([100])
  await expect.poll(() => room.places).toBe(1)
})

it('refuses thousands of large requests over one connection, and goes on to serve it', async () => {
  const room = new ByteRoom(1000)
  const { channel, handled } = await startServer(room)
  const large = [8000, 100_000].map((length) => ({ pipeline: 'fraud', events: [Buffer.alloc(length)] }))
  const codes = new Set<string>()
  // More than Node.js lets a client reset before it closes the connection.
  for (let round = 0; round < 26; round++) {
    const calls = Array.from({ length: 50 }, (_, i) => codeOf(channel.unary(PredictionService.predict, large[i % 2]!)))
    for (const code of await Promise.all(calls)) codes.add(code)
  }
  expect([...codes]).toEqual(['RESOURCE_EXHAUSTED'])
  expect(room.asked.length).toBe(26 * 50)
  await channel.unary(PredictionService.predict, { pipeline: 'fraud', events: [Buffer.alloc(10)] })
  expect(handled).toEqual([10])
  await expect.poll(() => room.places).toBe(0)
})

it('ends a request that does not arrive in time, and gives its place back', async () => {
  const room = new ByteRoom(mib)
  const { port } = await startServer(room, 100)
  const slow = rawCall(rawSession(port))
  slow.send(Buffer.concat([prefix(1000), Buffer.alloc(10)]))
  expect(await slow.answer).toMatchObject({ 'grpc-status': '4' })
  await expect.poll(() => room.places).toBe(0)
})
