import { expect, it } from 'vitest'
import type { RawClient } from './raw-client.ts'
import { data, frameType, headers, lastData, maxWindowBytes, ping, setting, windowUpdate } from './raw-frames.ts'
import { call, callBlock, connectTo, expectAlive, expectEcho, goawayOf, greet, heldCalls, message, serve } from './wire-rig.ts'

const farewell = (client: RawClient) => client.frame('GOAWAY', ({ type }) => type === frameType.goaway)

it('RFC 9113 6.8: a server that drains says so, and closes connections without calls', async () => {
  const server = await serve()
  const clients = [await greet(server), await greet(server), await greet(server)]
  await expectAlive(clients[1]!, 1)
  const drained = server.drain()
  for (const client of clients) {
    await client.closed()
    expect(goawayOf(client)).toBe('NO_ERROR')
  }
  await drained
})

it('RFC 9113 6.8: calls in flight end, then the connection is closed', async () => {
  const { predict, entered, release } = heldCalls()
  const server = await serve(predict)
  const client = await greet(server)
  client.send(call(1))
  await entered
  const drained = server.drain()
  const { payload } = await farewell(client)
  expect(payload.readUInt32BE(0)).toBeGreaterThanOrEqual(1)
  expect(client.isClosed).toBe(false)
  release()
  await expectEcho(client, 1)
  await client.closed()
  expect(goawayOf(client)).toBe('NO_ERROR')
  await drained
})

it('RFC 9113 6.8: the last of several GOAWAYs names no higher stream', async () => {
  const { predict, entered, release } = heldCalls()
  const server = await serve(predict)
  const client = await greet(server)
  client.send(call(1))
  await entered
  const drained = server.drain()
  await farewell(client)
  release()
  await client.closed()
  const streams = client.framesOf(0, frameType.goaway).map(({ payload }) => payload.readUInt32BE(0))
  expect(streams).toEqual([...streams].sort((a, b) => b - a))
  expect([1, maxWindowBytes]).toContain(streams.at(-1))
  await drained
})

it('RFC 9113 6.8: a request that is arriving may end while the server drains', async () => {
  const server = await serve()
  const client = await greet(server)
  client.send(headers(1, callBlock))
  await client.roundTrip()
  const drained = server.drain()
  await farewell(client)
  client.send(lastData(1, message('event of 1')))
  await expectEcho(client, 1)
  await drained
})

it('RFC 9113 6.8: an answer that waits for window is sent while the server drains', async () => {
  const server = await serve()
  const client = await greet(server, [setting.initialWindowSize, 5])
  client.send(call(1))
  await client.expectBytes(1, 5)
  const drained = server.drain()
  await farewell(client)
  client.send(windowUpdate(1, 1000))
  await expectEcho(client, 1)
  await drained
})

it('RFC 9113 6.8: an answer that is read slowly arrives though its reader goes on sending', async () => {
  const large = 3_000_000
  const server = await serve(async () => ({ results: [{ result: { $case: 'prediction', value: Buffer.alloc(large) } }] }))
  const client = await greet(server, [setting.initialWindowSize, maxWindowBytes])
  client.send(windowUpdate(0, 2 ** 30), call(1))
  await client.frame('DATA', ({ type }) => type === frameType.data)
  const drained = server.drain()
  client.stopReading()
  for (let turn = 0; turn < 50; turn++) {
    await client.sendThrough(windowUpdate(0, 1))
    await new Promise(setImmediate)
  }
  client.readOn()
  expect((await client.answer(1)).body.length).toBeGreaterThan(large)
  await drained
})

it('RFC 9113 6.8: PINGs are answered while the server drains', async () => {
  const { predict, entered, release } = heldCalls()
  const server = await serve(predict)
  const client = await greet(server)
  client.send(call(1))
  await entered
  const drained = server.drain()
  await farewell(client)
  client.send(ping('draining'))
  await client.roundTrip()
  release()
  await drained
})

it('a call that begins while the server drains is not served, or ends like the others', async () => {
  const { predict, entered, release } = heldCalls()
  let served = 0
  const server = await serve((request, received) => {
    served++
    return predict(request, received)
  })
  const client = await greet(server)
  client.send(call(1))
  await entered
  const drained = server.drain()
  await farewell(client)
  await client.roundTrip()
  client.send(call(3))
  await client.roundTrip()
  release()
  await expectEcho(client, 1)
  await client.closed()
  if (served === 2) await expectEcho(client, 3)
  else expect(client.framesOf(3, frameType.data)).toEqual([])
  await drained
})

it('RFC 9113 8.1: a drain does not wait for the rest of requests that are answered', async () => {
  const { predict, entered, release } = heldCalls()
  const server = await serve(predict, { drainTimeoutMs: 60_000 })
  const client = await greet(server)
  const tooLarge = data(3, Buffer.from([0, 0xff, 0xff, 0xff, 0xff]))
  client.send(call(1), headers(3, callBlock), tooLarge, headers(5, callBlock))
  await entered
  expect(await client.answer(3)).toMatchObject({ headers: { 'grpc-status': '8' } })
  const drained = server.drain()
  await farewell(client)
  client.send(data(5, tooLarge.subarray(9)))
  expect(await client.answer(5)).toMatchObject({ headers: { 'grpc-status': '8' } })
  release()
  await expectEcho(client, 1)
  await drained
  for (const id of [3, 5]) expect(client.framesOf(id, frameType.rstStream).map(({ payload }) => payload.readUInt32BE(0))).toEqual([0])
})

it('a server that drains takes no connections', async () => {
  const { predict, entered, release } = heldCalls()
  const server = await serve(predict)
  const client = await greet(server)
  client.send(call(1))
  await entered
  const drained = server.drain()
  await farewell(client)
  await expect(connectTo(server)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  release()
  await drained
})
