import { type Code, httpStatus } from '@spillway/core'
import { HttpError, requestError, type Telemetry } from '@spillway/telemetry'
import type { FastifyReply, FastifyRequest } from 'fastify'

export type ErrorHandler = (thrown: unknown, request: FastifyRequest, reply: FastifyReply) => void

export interface ErrorOptions {
  readonly logger: Telemetry['logger']
  /** Where a protocol differs from google/rpc/code.proto. */
  readonly statuses: Partial<Readonly<Record<Code, number>>>
}

export interface ErrorAnswer {
  readonly status: number
  /** Names and values, one after the other. */
  readonly headers: readonly string[]
  readonly body: Buffer
}

const type = ['content-type', 'application/json; charset=utf-8']
const typeAndRetry = ['retry-after', '1', ...type]

/**
 * `{"error": "…"}`, as both REST protocols have it, with `Retry-After` where another attempt may succeed. What nobody foresaw is logged, and its text kept from
 * the caller.
 */
export function errorAnswer(
  thrown: unknown,
  { method, url }: { readonly method?: string | undefined; readonly url?: string | undefined },
  { logger, statuses }: ErrorOptions,
): ErrorAnswer {
  const error = requestError(thrown)
  if (error.code === 'INTERNAL') logger.error({ err: thrown, method, url }, 'a request failed')
  const status = error instanceof HttpError ? error.status : (statuses[error.code] ?? httpStatus(error.code))
  const body = Buffer.from(`{"error":${JSON.stringify(error.message.toWellFormed())}}`)
  return { status, headers: status === 429 || status === 503 ? typeAndRetry : type, body }
}

/** Answers with `errorAnswer`. */
export function errorHandler(logger: Telemetry['logger'], statuses: ErrorOptions['statuses'] = {}): ErrorHandler {
  return (thrown, request, reply) => {
    const { status, headers, body } = errorAnswer(thrown, request, { logger, statuses })
    for (let i = 0; i < headers.length; i += 2) reply.header(headers[i]!, headers[i + 1]!)
    reply.code(status).send(body)
  }
}
