import { expect, it } from 'vitest'
import { data, frameType, type Field, fieldBlock, headers, lastData, resetStream } from './raw-frames.ts'
import { expectAlive, expectServing, expectStreamError, fieldsOf, greet, prefixed, serve } from './wire-rig.ts'

// What is relayed reaches Node.js's own HTTP/2 and grpc-js: no client may bring them to throw.

const check = '/grpc.health.v1.Health/Check'
const watch = '/grpc.health.v1.Health/Watch'
const reflect = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo'
const empty = prefixed(Buffer.alloc(0))

it.each<Field>([
  ['x(', '1'],
  ['x{}', '1'],
  ['"', '1'],
  ['http2-settings', 'AAMAAABk'],
])('RFC 9113 8.2: a relayed request with the field %s is an error of its stream alone', async (...field) => {
  const server = await serve()
  const client = await greet(server)
  client.send(headers(1, fieldBlock(fieldsOf(check, field))), lastData(1, empty))
  await expectStreamError(client, 1, ['PROTOCOL_ERROR'])
  await expectAlive(client, 3)
})

it.each<Field>([
  ['content-length', '5'],
  ['host', 'a b'],
  ['x-bin', '%%%'],
  ['grpc-timeout', 'never'],
  ['grpc-encoding', 'none-such'],
  ['expect', '100-continue'],
  ['__proto__', '1'],
  ["!#$%&'*+-.^_`|~", '1'],
])('a relayed request with %s: %s does not disturb the server', async (...field) => {
  const server = await serve()
  const client = await greet(server)
  client.send(headers(1, fieldBlock(fieldsOf(check, field))), lastData(1, empty))
  await client.answer(1)
  await expectAlive(client, 3)
})

it.each([check, watch, reflect])(
  'RFC 9113 10.5: requests of %s that are reset wherever they are do not disturb the server',
  async (path) => {
    const server = await serve()
    const block = fieldBlock(fieldsOf(path))
    for (const rest of [() => [], (id: number) => [data(id, empty.subarray(0, 3))], (id: number) => [lastData(id, empty)]]) {
      const client = await greet(server)
      for (let first = 1; first < 3000; first += 100) {
        const ids = Array.from({ length: 50 }, (_, index) => first + 2 * index)
        await client.sendThrough(Buffer.concat(ids.flatMap((id) => [headers(id, block), ...rest(id), resetStream(id)])))
        if (first % 1000 === 1) await client.roundTrip()
      }
      await expectAlive(client, 5001)
      client.destroy()
    }
    await expectServing(server)
  },
)

it('what is relayed besides requests that are reset by the thousand goes on, or is reset, but does not end as if it were over', async () => {
  const client = await greet(await serve())
  client.send(headers(1, fieldBlock(fieldsOf(watch))), lastData(1, empty))
  await client.until('a status', () => client.bodyOf(1).length > 0)
  const block = fieldBlock(fieldsOf(check))
  for (let first = 3; first < 8000; first += 100) {
    const ids = Array.from({ length: 50 }, (_, index) => first + 2 * index)
    await client.sendThrough(Buffer.concat(ids.flatMap((id) => [headers(id, block), resetStream(id)])))
    await client.roundTrip()
  }
  expect(client.framesOf(1, frameType.headers)).toHaveLength(1)
  await expectAlive(client, 9001)
})

it('refuses more streams to relay than a connection may have', async () => {
  const client = await greet(await serve())
  const block = fieldBlock(fieldsOf(watch))
  const ids = Array.from({ length: 101 }, (_, index) => 2 * index + 1)
  client.send(...ids.flatMap((id) => [headers(id, block), lastData(id, empty)]))
  expect((await client.answer(201)).headers).toMatchObject({ 'grpc-status': '8' })
  client.send(resetStream(1))
  await client.until('statuses', () => ids.slice(1, 100).every((id) => client.bodyOf(id).length > 0))
  client.send(headers(203, block), lastData(203, empty))
  await client.until('a status', () => client.bodyOf(203).length > 0)
})
