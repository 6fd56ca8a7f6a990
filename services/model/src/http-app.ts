import { MeshError } from '@spillway/core'
import type { Admission } from '@spillway/rpc'
import { type OperationsOptions, operationsRoutes, putInFront, refuseMalformed } from '@spillway/telemetry'
import { fastify, type FastifyInstance } from 'fastify'
import { callFront } from './call-front.ts'
import { decodeBody } from './content-encoding.ts'
import { errorHandler } from './http-errors.ts'
import type { ModelCalls } from './model-call.ts'

export interface HttpAppOptions extends OperationsOptions {
  /** Most bytes of a request's body, as it comes and when it is decompressed. */
  readonly maxBodyBytes: number
  /** Answered before the app sees them, where they come in their usual form. */
  readonly calls: readonly ModelCalls[]
  /** Bounds them. */
  readonly room: Admission
}

const longestName = 512

/** Where TensorFlow Serving is scraped by default. */
const tensorflowMetrics = '/monitoring/prometheus/metrics'

/** How long a client may take to send a request. */
export const requestTimeoutMs = 60_000

/** Answers what is no HTTP, or does not come in time. */
export const refuseConnection: ReturnType<typeof refuseMalformed> = refuseMalformed(({ message }) => ({ error: message }))

/**
 * The app without its protocols: a body comes as a Buffer whatever its content type (`request.body`, undefined where there is none), decompressed where it
 * has a `Content-Encoding`; every error is `{"error": "…"}`; `/metrics`, `/livez`, `/readyz`.
 * Paths are matched as they are written, but for the first segment (`/V1/…`), which is lower-cased.
 */
export function createHttpApp(options: HttpAppOptions): FastifyInstance {
  const { telemetry, maxBodyBytes, calls, room } = options
  const onError = errorHandler(telemetry.logger)
  const app = fastify({
    logger: false,
    bodyLimit: maxBodyBytes,
    requestTimeout: requestTimeoutMs,
    routerOptions: { maxParamLength: longestName, ignoreTrailingSlash: true },
    rewriteUrl: ({ url = '/' }) => (url.startsWith('/V') ? `/v${url.slice(2)}` : url === tensorflowMetrics ? '/metrics' : url),
    frameworkErrors: onError,
    clientErrorHandler: refuseConnection,
  })
  app.setErrorHandler(onError)
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?', 1)[0]!
    onError(new MeshError('NOT_FOUND', `${request.method} ${path} is not served`), request, reply)
  })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (request, body, done) => {
    const encoding = request.headers['content-encoding']
    if (encoding === undefined) done(null, body)
    else decodeBody(body as Buffer, encoding, maxBodyBytes, done)
  })
  operationsRoutes(app, options)
  const front = callFront({ calls, room, logger: telemetry.logger, maxBodyBytes })
  let closing = false
  app.addHook('preClose', async () => void (closing = true))
  putInFront(app.server, (...request) => !closing && front(...request))
  return app
}
