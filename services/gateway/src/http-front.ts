import { noRoom, type NoRoom } from '@spillway/rpc'
import type { HttpFront } from '@spillway/telemetry'
import type { Calls } from './calls.ts'
import { errorBody } from './http-errors.ts'

const callPath = /^\/v1\/(?:pipelines\/[^/?]+:predict|topics\/[^/?]+\/events)(?:\?|$)/
const answers = { calls: answer('calls'), bytes: answer('bytes') }

/** Made once: this is what a refusal costs. */
function answer(full: NoRoom): { readonly body: string; readonly headers: string[]; readonly closingHeaders: string[] } {
  const body = JSON.stringify({ error: errorBody(noRoom(full)) })
  const length = String(Buffer.byteLength(body))
  const headers = ['content-type', 'application/json; charset=utf-8', 'retry-after', '1', 'content-length', length]
  // RFC 9110, 10.1.1: whoever asked before sending a body may send it all the same, or another request.
  return { body, headers, closingHeaders: [...headers, 'connection', 'close'] }
}

/**
 * Refuses calls that there is no room for before the app makes anything of them (a third of the work). It need not know them all: what it lets through the
 * app refuses, if it has to.
 */
export function callFront(calls: Calls): HttpFront {
  return (request, response, asks) => {
    if (request.method !== 'POST' || !callPath.test(request.url!)) return false
    // Whoever asks before sending a body waits for an answer to its size too.
    const full = calls.refuses(asks ? Number(request.headers['content-length'] ?? 0) : 0)
    if (full === undefined) return false
    const { body, headers, closingHeaders } = answers[full]
    // What comes of its body is read and thrown away by Node.js, so that the connection can go on.
    response.writeHead(429, asks ? closingHeaders : headers).end(body, 'latin1')
    return true
  }
}
