import { fastify } from 'fastify'
import { once } from 'node:events'
import { type AddressInfo, connect } from 'node:net'
import { promisify } from 'node:util'
import { expect, it, onTestFinished } from 'vitest'
import { refuseMalformed } from '../src/http-errors.ts'

it.each([
  ['that is no HTTP', 'what is this\r\n\r\n', 400],
  ['with more headers than it may have', `GET / HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`, 431],
  ['that does not arrive in time', 'GET / HTTP/1.1\r\n', 408],
])('a request %s is answered, and its connection given up though the client keeps its half of it', async (_what, sent, status) => {
  const app = fastify({
    clientErrorHandler: refuseMalformed(({ message }) => ({ error: message })),
    http: { headersTimeout: 300, connectionsCheckingInterval: 50 },
    requestTimeout: 300,
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  onTestFinished(() => app.close())
  const client = connect({ port: (app.server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true })
  onTestFinished(() => void client.destroy())
  let answer = ''
  client.on('data', (chunk) => (answer += String(chunk))).on('error', () => undefined)
  const ended = once(client, 'end')
  client.write(sent)
  await ended
  expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} .*{"error":"malformed HTTP request: .+"}$`, 's'))
  const held = promisify(app.server.getConnections.bind(app.server))
  await expect.poll(() => held()).toBe(0)
})
