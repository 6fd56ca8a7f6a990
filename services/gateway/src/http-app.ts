import { MeshError } from '@spillway/core'
import { BatchHistogram, type OperationsOptions, operationsRoutes, putInFront, refuseMalformed } from '@spillway/telemetry'
import { fastify, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { Calls } from './calls.ts'
import { errorBody, errorHandler } from './http-errors.ts'
import { callFront } from './http-front.ts'

export interface HttpAppOptions extends OperationsOptions {
  readonly calls: Calls
  /** How long a request may take to arrive, its body included. */
  readonly requestTimeoutMs: number
  readonly maxBodyBytes: number
  /** Fires at drain: new requests are refused, and connections closed behind their last answer. */
  readonly closing: AbortSignal
}

const longestName = 256
/** How often requests that take too long are looked for, at least. */
const longestCheckMs = 5000
// Upper bounds in seconds: those that OpenTelemetry's conventions advise for http.server.request.duration.
const durationBoundsS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]

/** The app without its own routes: bodies as bytes, every error as JSON, metrics and health. */
export function createHttpApp(options: HttpAppOptions): FastifyInstance {
  const { telemetry, calls, requestTimeoutMs } = options
  const onError = errorHandler(telemetry.logger)
  const app = fastify({
    logger: false,
    bodyLimit: options.maxBodyBytes,
    requestTimeout: requestTimeoutMs,
    http: { headersTimeout: requestTimeoutMs, connectionsCheckingInterval: Math.min(longestCheckMs, requestTimeoutMs) },
    routerOptions: { maxParamLength: longestName },
    frameworkErrors: onError,
    clientErrorHandler: refuseMalformed((error) => ({ error: errorBody(error) })),
  })
  app.setErrorHandler(onError)
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?', 1)[0]!
    onError(new MeshError('NOT_FOUND', `${request.method} ${path} is not served: GET /openapi.json says what is`), request, reply)
  })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  closeBehindAnswers(app, options.closing)
  measure(app, options)
  operationsRoutes(app, options)
  putInFront(app.server, callFront(calls))
  return app
}

function closeBehindAnswers(app: FastifyInstance, closing: AbortSignal): void {
  app.addHook('onRequest', async (request) => {
    if (closing.aborted && request.url.startsWith('/v1/'))
      throw new MeshError('UNAVAILABLE', 'the gateway is shutting down; try again, on another or later')
  })
  app.addHook('onSend', async (_request, reply) => {
    if (closing.aborted) reply.header('connection', 'close')
  })
}

function measure(app: FastifyInstance, { telemetry }: HttpAppOptions): void {
  const durations = new BatchHistogram(
    telemetry.registry,
    'http_server_request_duration_seconds',
    'HTTP requests, by route and status.',
    durationBoundsS,
  )
  app.addHook('onResponse', (request: FastifyRequest, reply: FastifyReply, done) => {
    const route = request.routeOptions.url ?? 'unmatched'
    const status = String(reply.raw.statusCode)
    const series = durations.series(`${request.method} ${route} ${status}`, () => ({
      http_request_method: request.method,
      http_route: route,
      http_response_status_code: status,
    }))
    series.observe(reply.elapsedTime / 1000)
    done()
  })
}
