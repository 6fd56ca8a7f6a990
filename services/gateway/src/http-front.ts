import type { HttpFront } from '@spillway/telemetry'
import type { Calls } from './calls.ts'
import { errorBody, noRoom } from './http-errors.ts'

const callPath = /^\/v1\/(?:pipelines\/[^/?]+:predict|topics\/[^/?]+\/events)(?:\?|$)/
const body = JSON.stringify({ error: errorBody(noRoom('calls')) })
const headers = ['content-type', 'application/json; charset=utf-8', 'retry-after', '1', 'content-length', String(Buffer.byteLength(body))]
/** RFC 9110, 10.1.1: whoever asked before sending a body may send it all the same, or another request. */
const closingHeaders = [...headers, 'connection', 'close']

/**
 * Refuses calls that there is no room for before the app makes anything of them (a third of the work). It need not know them all: what it lets through the
 * app refuses, if it has to.
 */
export function callFront(calls: Calls): HttpFront {
  return (request, response, asks) => {
    if (request.method !== 'POST' || !callPath.test(request.url!)) return false
    // Whoever asks before sending a body waits for an answer to its size too.
    if (!calls.refuses(asks ? Number(request.headers['content-length'] ?? 0) : 0)) return false
    // What comes of its body is read and thrown away by Node.js, so that the connection can go on.
    response.writeHead(429, asks ? closingHeaders : headers).end(body, 'latin1')
    return true
  }
}
