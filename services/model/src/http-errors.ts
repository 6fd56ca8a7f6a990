import { type Code, httpStatus, MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'

/** A refusal that HTTP has its own status for: 405, 413, 415. */
export class HttpError extends MeshError {
  readonly status: number

  constructor(status: number, message: string, code: Code = 'INVALID_ARGUMENT') {
    super(code, message)
    this.status = status
  }
}

export type ErrorHandler = (thrown: unknown, request: FastifyRequest, reply: FastifyReply) => void

/**
 * Answers `{"error": "…"}`, as both REST protocols have it, with `Retry-After` where another attempt may succeed. What nobody foresaw is logged, and its
 * text kept from the caller.
 * @param statuses where a protocol differs from google/rpc/code.proto
 */
export function errorHandler(logger: Telemetry['logger'], statuses: Partial<Readonly<Record<Code, number>>> = {}): ErrorHandler {
  return (thrown, request, reply) => {
    const error = asMeshError(thrown)
    if (error.code === 'INTERNAL') logger.error({ err: thrown, method: request.method, url: request.url }, 'a request failed')
    const status = error instanceof HttpError ? error.status : (statuses[error.code] ?? httpStatus(error.code))
    if (status === 429 || status === 503) reply.header('retry-after', '1')
    reply
      .code(status)
      .type('application/json')
      .send(`{"error":${JSON.stringify(error.message.toWellFormed())}}`)
  }
}

function asMeshError(thrown: unknown): MeshError {
  if (thrown instanceof MeshError) return thrown
  const { statusCode, message } = thrown as Partial<FastifyError>
  // Fastify's own refusals: a body over the limit, a malformed URL, a request while it closes.
  if (statusCode === 503)
    return new MeshError('UNAVAILABLE', 'the server is shutting down; try again, on another or later', { cause: thrown })
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) return new HttpError(statusCode, message ?? 'malformed request')
  return new MeshError('INTERNAL', "the request failed unexpectedly; the server's log says why", { cause: thrown })
}
