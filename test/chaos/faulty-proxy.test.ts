import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { until } from '../e2e/processes.ts'
import { FaultyProxy } from './faulty-proxy.ts'

describe('a line through the proxy', () => {
  let echo: Server
  let proxy: FaultyProxy
  let client: Socket
  let received: string
  let ended: boolean

  const dial = (): void => {
    received = ''
    ended = false
    const dialled = connect(proxy.port, '127.0.0.1')
    client = dialled
    dialled.on('data', (chunk) => (received += chunk.toString()))
    for (const event of ['error', 'close']) dialled.on(event, () => (ended ||= client === dialled))
  }
  const arrives = (text: string): Promise<true> => until(`"${text}"`, () => (received === text ? true : undefined), 5000)

  beforeEach(async () => {
    echo = createServer((socket) => socket.on('error', () => {}).pipe(socket))
    echo.listen(0, '127.0.0.1')
    await once(echo, 'listening')
    proxy = await FaultyProxy.listen()
    proxy.targetPort = (echo.address() as { port: number }).port
    dial()
  })
  afterEach(async () => {
    client.destroy()
    await proxy.close()
    await new Promise((closed) => echo.close(closed))
  })

  test('carries what it is given, both ways', async () => {
    client.write('there and back')
    await arrives('there and back')
  })

  test('that is cut ends, and takes nobody in until it is whole again', async () => {
    client.write('x')
    await arrives('x')
    proxy.cut()
    await until('the end', () => (ended ? true : undefined), 5000)
    dial()
    await until('the end', () => (ended ? true : undefined), 5000)
    proxy.heal()
    dial()
    client.write('again')
    await arrives('again')
  })

  test('that is stalled loses nothing', async () => {
    proxy.stall()
    client.write('one ')
    await new Promise((resolve) => setTimeout(resolve, 100))
    client.write('two')
    expect([received, ended]).toEqual(['', false])
    proxy.heal()
    await arrives('one two')
  })

  test('that is slow takes its time', async () => {
    proxy.slow(60)
    const sinceMs = performance.now()
    client.write('late')
    await arrives('late')
    expect(performance.now() - sinceMs).toBeGreaterThanOrEqual(115)
  })

  test('may change what a client says', async () => {
    proxy.rewrite = (chunk) => Buffer.from(chunk.toString().toUpperCase())
    client.write('loud')
    await arrives('LOUD')
  })
})
