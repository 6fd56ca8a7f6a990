import { httpStatus, MeshError } from '@spillway/core'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import type { Logger } from 'pino'

/** A request that HTTP has its own status for: 413, 415. */
export class RequestError extends MeshError {
  readonly status: number

  constructor(status: number, message: string) {
    super('INVALID_ARGUMENT', message)
    this.status = status
  }
}

export interface ErrorBody {
  readonly code: string
  readonly message: string
  readonly field?: string
}

export function errorBody(error: MeshError): ErrorBody {
  return { code: error.code, message: error.message, ...(error.field === undefined ? {} : { field: error.field }) }
}

export function errorStatus(error: MeshError): number {
  return error instanceof RequestError ? error.status : httpStatus(error.code)
}

/** What a call is refused with: too many are in flight, or too much of their requests. */
export function noRoom(full: 'calls' | 'bytes'): MeshError {
  return full === 'calls'
    ? new MeshError('RESOURCE_EXHAUSTED', 'there is no room for another call: try again later')
    : new MeshError('RESOURCE_EXHAUSTED', 'there is no room for a request of this size: try again later, or send less')
}

/** Answers `{"error": {code, message, field?}}`, with `Retry-After` where another attempt may succeed; what nobody foresaw is logged, and its text kept from the caller. */
export function errorHandler(logger: Logger): (thrown: unknown, request: FastifyRequest, reply: FastifyReply) => void {
  return (thrown, request, reply) => {
    const error = asMeshError(thrown)
    if (error.code === 'INTERNAL') logger.error({ err: thrown, method: request.method, url: request.url }, 'a request failed unexpectedly')
    const status = errorStatus(error)
    if (status === 429 || status === 503) reply.header('retry-after', '1')
    reply.code(status).send({ error: errorBody(error) })
  }
}

function asMeshError(thrown: unknown): MeshError {
  if (thrown instanceof MeshError) return thrown
  const { statusCode, message } = thrown as Partial<FastifyError>
  // Fastify's own refusals: a body over the limit, a malformed URL, a request while it closes.
  if (statusCode === 503)
    return new MeshError('UNAVAILABLE', 'the gateway is shutting down; try again, on another or later', { cause: thrown })
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) return new RequestError(statusCode, message ?? 'malformed request')
  return new MeshError('INTERNAL', "the request failed unexpectedly; the gateway's log says why", { cause: thrown })
}
