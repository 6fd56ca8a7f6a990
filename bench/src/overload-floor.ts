import { createServer as createHttpServer } from 'node:http'
import { createServer as createHttp2Server } from 'node:http2'
import type { AddressInfo, Server } from 'node:net'

/** Servers that refuse everything as a gateway does and are nothing else: what a refusal costs at least. */
export async function withBareServer<T>(protocol: 'grpc' | 'rest', run: (port: number) => Promise<T>): Promise<T> {
  const server: Server & { closeAllConnections?(): void } = protocol === 'grpc' ? bareHttp2() : bareHttp()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    return await run((server.address() as AddressInfo).port)
  } finally {
    server.closeAllConnections?.()
    server.close()
  }
}

function bareHttp2(): Server {
  const trailers = { ':status': 200, 'content-type': 'application/grpc+proto', 'grpc-status': 8, 'grpc-message': 'there is no room' }
  return createHttp2Server().on('stream', (stream) => {
    stream.on('error', () => stream.destroy())
    stream.respond(trailers, { endStream: true })
    stream.resume()
  })
}

function bareHttp(): Server {
  const body = '{"error":{"code":"RESOURCE_EXHAUSTED","message":"there is no room"}}'
  const headers = { 'content-type': 'application/json', 'retry-after': '1', 'content-length': body.length }
  return createHttpServer((_request, response) => response.writeHead(429, headers).end(body))
}
