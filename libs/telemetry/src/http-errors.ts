import { type Code, MeshError } from '@spillway/core'
import type { FastifyError } from 'fastify'
import type { Socket } from 'node:net'

/** A refusal that HTTP has its own status for: 405, 408, 413, 415, 431. */
export class HttpError extends MeshError {
  readonly status: number

  constructor(status: number, message: string, code: Code = 'INVALID_ARGUMENT') {
    super(code, message)
    this.status = status
  }
}

/** What a request failed with. What nobody foresaw is INTERNAL, its text kept from the caller: it belongs in the log. */
export function requestError(thrown: unknown): MeshError {
  if (thrown instanceof MeshError) return thrown
  const { statusCode, message } = thrown as Partial<FastifyError>
  // Fastify's own refusals: a body over the limit, a malformed URL, a request while it closes.
  if (statusCode === 503)
    return new MeshError('UNAVAILABLE', 'the server is shutting down; try again, on another or later', { cause: thrown })
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) return new HttpError(statusCode, message ?? 'malformed request')
  return new MeshError('INTERNAL', "the request failed unexpectedly; the server's log says why", { cause: thrown })
}

const malformed: Readonly<Record<string, readonly [number, string]>> = {
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'Request Timeout'],
  HPE_HEADER_OVERFLOW: [431, 'Request Header Fields Too Large'],
}

/** Answers what Node.js could not read as HTTP, or not in time. @param body of the error, made JSON */
export function refuseMalformed(body: (error: HttpError) => unknown): (error: NodeJS.ErrnoException, socket: Socket) => void {
  return (error, socket) => {
    if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy(error)
    const [status, phrase] = malformed[error.code ?? ''] ?? [400, 'Bad Request']
    const text = JSON.stringify(body(new HttpError(status, `malformed HTTP request: ${error.message}`)))
    const length = Buffer.byteLength(text)
    const head = `HTTP/1.1 ${status} ${phrase}\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: ${length}\r\nconnection: close\r\n\r\n`
    socket.write(head + text)
    // Not half-closed: a client that sends nothing would hold its connection for ever.
    socket.destroySoon()
  }
}
