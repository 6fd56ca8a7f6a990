import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http'
import type { FastifyServerOptions } from 'fastify'
import type { Calls } from './calls.ts'
import { errorBody, noRoom } from './http-errors.ts'

export interface HttpFrontOptions {
  readonly calls: Calls
  /** How long a request may take to arrive, its body included. */
  readonly requestTimeoutMs: number
}

type ServerFactory = NonNullable<FastifyServerOptions['serverFactory']>

const callPath = /^\/v1\/(?:pipelines\/[^/?]+:predict|topics\/[^/?]+\/events)(?:\?|$)/
const body = JSON.stringify({ error: errorBody(noRoom('calls')) })
const headers = ['content-type', 'application/json; charset=utf-8', 'retry-after', '1', 'content-length', String(Buffer.byteLength(body))]
/** RFC 9110, 10.1.1: whoever asked before sending a body may send it all the same, or another request. */
const closingHeaders = [...headers, 'connection', 'close']
const longestKeepAliveMs = 72_000
const longestCheckMs = 5000

/**
 * The app's HTTP server, which refuses calls that there is no room for before the app makes anything of them (a third of the work). It need not know
 * them all: what it lets through the app refuses, if it has to.
 */
export function httpFront({ calls, requestTimeoutMs }: HttpFrontOptions): ServerFactory {
  const refused = (request: IncomingMessage, response: ServerResponse, bytes: number, answer: readonly string[]): boolean => {
    if (request.method !== 'POST' || !callPath.test(request.url!) || !calls.refuses(bytes)) return false
    // What comes of its body is read and thrown away by Node.js, so that the connection can go on.
    response.writeHead(429, answer as string[]).end(body, 'latin1')
    return true
  }
  return (handle: RequestListener): Server => {
    const connectionsCheckingInterval = Math.min(longestCheckMs, requestTimeoutMs)
    const server = createServer(
      {
        requestTimeout: requestTimeoutMs,
        headersTimeout: requestTimeoutMs,
        connectionsCheckingInterval,
        keepAliveTimeout: longestKeepAliveMs,
      },
      (request, response) => void (refused(request, response, 0, headers) || handle(request, response)),
    )
    server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
      if (refused(request, response, Number(request.headers['content-length'] ?? 0), closingHeaders)) return
      response.writeContinue()
      handle(request, response)
    })
    return server
  }
}
