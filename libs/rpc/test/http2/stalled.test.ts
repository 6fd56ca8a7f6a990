import { type AddressInfo, createServer } from 'node:net'
import { expect, it, onTestFinished } from 'vitest'
import { encodeFields } from '../../src/http2/field-encoder.ts'
import { ServerConnection } from '../../src/http2/server-connection.ts'
import type { ServerStream } from '../../src/http2/server-stream.ts'
import { RawClient } from './raw-client.ts'
import { flag, frameType, headers, setting, windowUpdate } from './raw-frames.ts'
import { callBlock } from './wire-rig.ts'

const answer = encodeFields([':status', '200'])
const trailers = encodeFields(['grpc-status', '0'])
const cancel = 8

/** A client of a server that looks for stalled streams every 100 ms, and what it asked for. */
async function begin(windowBytes: number): Promise<{ client: RawClient; streams: readonly ServerStream[]; closed: readonly number[] }> {
  const streams: ServerStream[] = []
  const closed: number[] = []
  const listener = createServer(
    (socket) =>
      new ServerConnection(socket, {
        stallMs: 100,
        onClose: () => undefined,
        onRequest: (stream) => {
          streams.push(stream)
          stream.reader = { data: () => undefined, end: () => undefined, closed: () => closed.push(stream.id) }
        },
      }),
  )
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  const client = await RawClient.connect((listener.address() as AddressInfo).port)
  onTestFinished(async () => {
    client.destroy()
    await new Promise((resolve) => listener.close(resolve))
  })
  await client.greet([setting.initialWindowSize, windowBytes])
  return { client, streams, closed }
}

it('gives up an answer of which a client takes nothing', async () => {
  const { client, streams, closed } = await begin(10)
  client.send(headers(1, callBlock, flag.endHeaders | flag.endStream))
  await expect.poll(() => streams.length).toBe(1)
  streams[0]!.respond(answer)
  streams[0]!.write(Buffer.alloc(1000))
  streams[0]!.end(trailers)
  expect((await client.answer(1)).resetCode).toBe(cancel)
  expect(closed).toEqual([1])
})

it('gives up the rest of a request that is answered', async () => {
  const { client, streams, closed } = await begin(1000)
  client.send(headers(1, callBlock))
  await expect.poll(() => streams.length).toBe(1)
  streams[0]!.end(answer)
  const reset = await client.frame('RST_STREAM', ({ type }) => type === frameType.rstStream)
  expect(reset.payload.readUInt32BE(0)).toBe(0)
  expect(closed).toEqual([1])
})

it('gives up no answer that a client takes a byte at a time, or that is not whole', async () => {
  const { client, streams, closed } = await begin(1)
  client.send(headers(1, callBlock, flag.endHeaders | flag.endStream), headers(3, callBlock, flag.endHeaders | flag.endStream))
  await expect.poll(() => streams.length).toBe(2)
  for (const stream of streams) {
    stream.respond(answer)
    stream.write(Buffer.alloc(30))
  }
  streams[0]!.end(trailers)
  for (let bytes = 2; bytes <= 30; bytes++) {
    client.send(windowUpdate(1, 1))
    await client.until('a byte', () => client.bodyOf(1).length === bytes)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  expect(await client.answer(1)).toMatchObject({ resetCode: undefined, trailers: { 'grpc-status': '0' } })
  expect(closed).toEqual([1])
  client.send(windowUpdate(3, 1000))
  streams[1]!.end(trailers)
  expect(await client.answer(3)).toMatchObject({ resetCode: undefined, trailers: { 'grpc-status': '0' } })
})
