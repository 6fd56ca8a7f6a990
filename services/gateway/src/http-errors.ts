import { httpStatus, type MeshError } from '@spillway/core'
import { HttpError, requestError } from '@spillway/telemetry'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Logger } from 'pino'

export interface ErrorBody {
  readonly code: string
  readonly message: string
  readonly field?: string
}

export function errorBody(error: MeshError): ErrorBody {
  return { code: error.code, message: error.message, ...(error.field === undefined ? {} : { field: error.field }) }
}

export function errorStatus(error: MeshError): number {
  return error instanceof HttpError ? error.status : httpStatus(error.code)
}

/** Answers `{"error": {code, message, field?}}`, with `Retry-After` where another attempt may succeed; what nobody foresaw is logged, and its text kept from the caller. */
export function errorHandler(logger: Logger): (thrown: unknown, request: FastifyRequest, reply: FastifyReply) => void {
  return (thrown, request, reply) => {
    const error = requestError(thrown)
    if (error.code === 'INTERNAL') logger.error({ err: thrown, method: request.method, url: request.url }, 'a request failed unexpectedly')
    const status = errorStatus(error)
    if (status === 429 || status === 503) reply.header('retry-after', '1')
    reply.code(status).send({ error: errorBody(error) })
  }
}
