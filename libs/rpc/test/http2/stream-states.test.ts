import { expect, it } from 'vitest'
import type { RawClient } from './raw-client.ts'
import { data, dependency, flag, frame, frameType, headers, lastData, resetStream, setting, uint32, windowUpdate } from './raw-frames.ts'
import {
  call,
  callBlock,
  echo,
  expectAlive,
  expectEcho,
  expectServing,
  expectStreamError,
  goawayOf,
  greet,
  heldCalls,
  message,
  serve,
  waitingCalls,
} from './wire-rig.ts'

const open = headers(1, callBlock)

function isOver(client: RawClient, streamId: number): boolean {
  return client.framesOf(streamId).some(({ type, flags }) => type === frameType.rstStream || (flags & flag.endStream) !== 0)
}

it.each([
  { what: 'DATA', late: lastData(1, message('late')) },
  { what: 'HEADERS', late: headers(1, callBlock, flag.endHeaders | flag.endStream) },
])('RFC 9113 5.1: $what on a half-closed stream is an error', async ({ late }) => {
  const { predict, waiting } = waitingCalls()
  const client = await greet(await serve(predict))
  client.send(call(1, 'wait'))
  await expect.poll(waiting).toBe(1)
  client.send(late)
  await expectStreamError(client, 1, ['STREAM_CLOSED', 'PROTOCOL_ERROR'])
  await expect.poll(waiting).toBe(0)
})

it.each([
  { what: 'WINDOW_UPDATE', frame: windowUpdate(1, 1000) },
  { what: 'PRIORITY', frame: frame(frameType.priority, 0, 1, dependency(0)) },
])('RFC 9113 5.1: $what on a half-closed stream is let pass', async ({ frame }) => {
  const { predict, entered, release } = heldCalls()
  const client = await greet(await serve(predict))
  client.send(call(1))
  await entered
  client.send(frame)
  await client.roundTrip()
  release()
  await expectEcho(client, 1)
})

it('RFC 9113 5.4.2: RST_STREAM ends the call, and no frame of it comes any more', async () => {
  const { predict, waiting } = waitingCalls()
  const client = await greet(await serve(predict))
  client.send(call(1, 'wait'))
  await expect.poll(waiting).toBe(1)
  client.send(resetStream(1))
  await expect.poll(waiting).toBe(0)
  await client.roundTrip()
  expect(client.framesOf(1)).toEqual([])
})

it('RFC 9113 5.1: a connection that closes ends its calls', async () => {
  const { predict, waiting } = waitingCalls()
  const client = await greet(await serve(predict))
  client.send(call(1, 'wait'))
  await expect.poll(waiting).toBe(1)
  client.destroy()
  await expect.poll(waiting).toBe(0)
})

it('RFC 9113 5.4.1: a connection that is ended for an error ends its calls at once', async () => {
  const { predict, waiting } = waitingCalls()
  const client = await greet(await serve(predict))
  client.send(call(1, 'wait'))
  await expect.poll(waiting).toBe(1)
  client.stopReading()
  client.send(windowUpdate(0, 0))
  await expect.poll(waiting, { timeout: 1000 }).toBe(0)
})

it.each([
  { what: 'DATA on an answered stream', late: lastData(1, message('late')) },
  { what: 'HEADERS on an answered stream', late: call(1, 'late') },
  { what: 'WINDOW_UPDATE on an answered stream', late: windowUpdate(1, 1) },
  { what: 'PRIORITY on an answered stream', late: frame(frameType.priority, 0, 1, dependency(0)) },
  { what: 'RST_STREAM twice', reset: true, late: resetStream(1) },
  { what: 'DATA after RST_STREAM', reset: true, late: lastData(1, message('late')) },
  { what: 'HEADERS after RST_STREAM', reset: true, late: call(1, 'late') },
])('RFC 9113 5.1: $what is ignored, or an error, but not served', async ({ reset = false, late }) => {
  const events: string[] = []
  const server = await serve(async (request, received) => {
    events.push(...request.events.map(String))
    return echo(request, received)
  })
  const client = await greet(server)
  if (reset) client.send(open, resetStream(1))
  else await expectAlive(client, 1)
  const before = client.framesOf(1, frameType.headers).length
  client.send(late, call(3))
  await client.until('an answer or the close', () => client.isClosed || isOver(client, 3))
  if (client.isClosed) expect(['STREAM_CLOSED', 'PROTOCOL_ERROR']).toContain(goawayOf(client))
  else await expectEcho(client, 3)
  expect(events).not.toContain('late')
  expect(client.framesOf(1, frameType.headers)).toHaveLength(before)
})

it('RFC 9113 5: frames of many streams may come in turn', async () => {
  const client = await greet(await serve())
  const ids = Array.from({ length: 60 }, (_, index) => 2 * index + 1)
  client.send(...ids.map((id) => headers(id, callBlock)))
  const bodies = ids.map((id) => message(`${id}:${'x'.repeat(3 * id)}`))
  for (let turn = 0; turn < 10; turn++) {
    const parts = bodies.map((body) => body.subarray(Math.floor((turn * body.length) / 10), Math.floor(((turn + 1) * body.length) / 10)))
    client.send(...ids.map((id, index) => data(id, parts[index]!, turn === 9 ? flag.endStream : 0)))
  }
  for (const id of ids) await expectEcho(client, id, `${id}:${'x'.repeat(3 * id)}`)
})

it('RFC 9113 5: 500 calls may come at once', async () => {
  const client = await greet(await serve(), [setting.initialWindowSize, 100_000])
  const ids = Array.from({ length: 500 }, (_, index) => 2 * index + 1)
  client.send(...ids.map((id) => call(id)))
  for (const id of ids) await expectEcho(client, id)
})

it('RFC 9113 4.1: frames may be cut anywhere', async () => {
  const client = await greet(await serve())
  const { length } = call(1, 'cut')
  for (let cut = 1; cut < length; cut++) {
    const id = 2 * cut - 1
    const bytes = call(id, 'cut')
    await client.sendThrough(bytes.subarray(0, cut))
    await new Promise(setImmediate)
    await client.sendThrough(bytes.subarray(cut))
    await expectEcho(client, id, 'cut')
    if (cut % 100 === 0) client.send(windowUpdate(0, 10_000))
  }
})

it('RFC 9113 5.3.1: a stream that depends on itself is answered, or an error', async () => {
  const server = await serve()
  const client = await greet(server)
  client.send(headers(1, Buffer.concat([dependency(1), callBlock]), flag.endHeaders | flag.priority), lastData(1, message('event of 1')))
  await client.until('an answer or an error', () => client.isClosed || isOver(client, 1))
  if (client.isClosed) expect(goawayOf(client)).toBe('PROTOCOL_ERROR')
  const [reset] = client.framesOf(1, frameType.rstStream)
  if (reset !== undefined) expect(reset.payload).toEqual(uint32(1))
  await expectServing(server)
})
