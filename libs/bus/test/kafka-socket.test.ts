import { once } from 'node:events'
import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import { openSocket } from '../src/kafka/socket.ts'

test('a socket that was closed keeps no listener for each time that it is let go of', async () => {
  const server = createServer((accepted) => accepted.end())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const socket = openSocket({ host: '127.0.0.1', port, onConnect: () => socket.resume().end() })
  await once(socket, 'close')
  for (let request = 0; request < 20; request++) socket.unref()
  expect(socket.listenerCount('connect')).toBe(0)
  server.close()
})
