import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, it } from 'vitest'
import type { RawClient } from './raw-client.ts'
import {
  continuation,
  data,
  dependency,
  fieldBlock,
  flag,
  frame,
  frameType,
  headers,
  indexedField,
  ping,
  resetStream,
  setting,
  type Setting,
  settings,
  windowUpdate,
} from './raw-frames.ts'
import { call, callBlock, expectServing, greet, isHeldBack, serve, waitingCalls } from './wire-rig.ts'

const floodBytes = 2 ** 26

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

/** Of objects and buffers. */
function heldBytes(): number {
  collect()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** Sends the same again and again, until the connection is closed or all was taken. */
async function flood(client: RawClient, bytes: Buffer, limitBytes: number = floodBytes): Promise<void> {
  for (let sent = 0; sent < limitBytes && !client.isClosed; sent += bytes.length) {
    await client.sendThrough(bytes)
    await new Promise(setImmediate)
  }
}

/** Of a frame, so many that they make 64 KiB. */
function many(frame: Buffer): Buffer {
  return Buffer.concat(Array.from({ length: Math.ceil(65_536 / frame.length) }, () => frame))
}

it.each([
  { what: 'PING', bytes: many(ping('no reply')) },
  { what: 'SETTINGS', bytes: many(settings()) },
])('RFC 9113 10.5: answers to $what that a client does not read do not pile up', async ({ bytes }) => {
  const server = await serve()
  const client = await greet(server)
  client.stopReading()
  let heldBack = false
  for (let sent = 0; sent < floodBytes && !client.isClosed && !heldBack; sent += bytes.length) {
    heldBack = await isHeldBack(
      server,
      client.sendThrough(bytes).then(() => new Promise(setImmediate)),
    )
  }
  expect(client.isClosed || heldBack).toBe(true)
  await expectServing(server)
})

it.each([
  { what: 'with fields', bytes: many(continuation(1, fieldBlock([['x-flood', 'x'.repeat(1000)]]), 0)) },
  { what: 'without a byte', bytes: many(continuation(1, Buffer.alloc(0), 0)) },
  { what: 'of one field', bytes: many(continuation(1, Buffer.alloc(16_384, 0x78), 0)) },
])('RFC 9113 10.5.1: CONTINUATIONs $what that do not end close the connection', async ({ bytes }) => {
  const server = await serve()
  const client = await greet(server)
  client.send(headers(1, Buffer.from([0x00, 0x01, 0x78, 0x7f, 0xff, 0xff, 0xff, 0x7f]), 0))
  await flood(client, bytes)
  await client.closed()
  await expectServing(server)
})

it('RFC 7541 7.3: fields that the table makes large are refused', async () => {
  const server = await serve()
  const before = heldBytes()
  const client = await greet(server)
  const bomb = Buffer.concat([indexedField(['x-bomb', 'x'.repeat(4000)]), Buffer.alloc(12_000, 0xbe)])
  client.send(headers(1, Buffer.concat([callBlock, bomb]), flag.endHeaders | flag.endStream))
  await client.until('an end', () => client.isClosed || client.framesOf(1).length > 0)
  expect(heldBytes() - before).toBeLessThan(2 ** 25)
  await expectServing(server)
})

it.each([
  { what: 'by the client', reset: (id: number) => resetStream(id) },
  { what: 'by the server at the client’s fault', reset: (id: number) => windowUpdate(id, 0) },
])('RFC 9113 10.5: 20,000 calls reset $what leave nothing behind, and the server serves others meanwhile', async ({ reset }) => {
  const { predict, waiting } = waitingCalls()
  const server = await serve(predict)
  const before = heldBytes()
  const client = await greet(server)
  for (let id = 1; id < 40_000 && !client.isClosed; id += 400) {
    const ids = Array.from({ length: 200 }, (_, index) => id + 2 * index)
    await client.sendThrough(Buffer.concat(ids.flatMap((streamId) => [call(streamId, 'wait'), reset(streamId)])))
    if (id % 4000 === 1) await expectServing(server)
  }
  await client.roundTrip().catch(() => client.closed())
  await expect.poll(waiting).toBe(0)
  client.frames.length = 0
  expect(heldBytes() - before).toBeLessThan(2 ** 25)
})

it.each([
  { what: 'empty DATA', begin: headers(1, callBlock), bytes: many(data(1, Buffer.alloc(0))) },
  { what: 'PRIORITY', begin: Buffer.alloc(0), bytes: many(frame(frameType.priority, 0, 1, dependency(0))) },
  { what: 'unknown frames', begin: Buffer.alloc(0), bytes: many(frame(0xee, 0, 0, Buffer.alloc(1000))) },
  { what: 'WINDOW_UPDATEs', begin: headers(1, callBlock), bytes: many(windowUpdate(1, 1)) },
  { what: 'DATA beyond every window', begin: headers(1, callBlock), bytes: many(data(1, Buffer.alloc(16_384))) },
  { what: 'requests that do not end', begin: Buffer.alloc(0), bytes: Buffer.alloc(0), more: (id: number) => headers(id, callBlock) },
])('RFC 9113 10.5: a flood of $what does not keep the server from others', async ({ begin, bytes, more }) => {
  const server = await serve()
  const before = heldBytes()
  const client = await greet(server)
  client.send(begin)
  if (more === undefined) await flood(client, bytes, 2 ** 23)
  else for (let id = 1; id < 4000 && !client.isClosed; id += 2) await client.sendThrough(more(id))
  await expectServing(server)
  client.destroy()
  expect(heldBytes() - before).toBeLessThan(2 ** 25)
})

it('RFC 9113 10.5: windows that change again and again while thousands of streams are open do not keep the server from others', async () => {
  const server = await serve()
  const client = await greet(server)
  await client.sendThrough(Buffer.concat(Array.from({ length: 16_000 }, (_, index) => headers(2 * index + 1, callBlock))))
  await client.roundTrip()
  const changes = Array.from({ length: 2700 }, (_, index): Setting => [setting.initialWindowSize, index % 2])
  const before = performance.eventLoopUtilization()
  for (let turn = 0; turn < 10; turn++) client.send(settings(...changes))
  await client.roundTrip()
  expect(performance.eventLoopUtilization(before).active).toBeLessThan(2000)
  await expectServing(server)
})
