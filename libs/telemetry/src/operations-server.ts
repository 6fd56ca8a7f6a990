import type { Component } from '@spillway/core'
import { fastify, type FastifyInstance } from 'fastify'
import { HttpListener } from './http-listener.ts'
import type { Telemetry } from './telemetry.ts'

const drainTimeoutMs = 1000

/** Whether the process should get work, and why not. */
export type Readiness = boolean | { readonly ready: boolean; readonly reason?: string }

export interface OperationsOptions {
  readonly telemetry: Telemetry
  readonly ready: () => Readiness
}

export interface OperationsServerOptions extends OperationsOptions {
  readonly host: string
  /** 0 picks a free one. */
  readonly port: number
}

/** `GET /metrics` (Prometheus text), `/livez` (200 while the process answers at all), `/readyz` (200, or 503 with the reason). */
export function operationsRoutes(app: FastifyInstance, { telemetry, ready }: OperationsOptions): void {
  app.get('/metrics', async (_request, reply) => reply.type(telemetry.registry.contentType).send(await telemetry.registry.metrics()))
  app.get('/livez', (_request, reply) => reply.type('text/plain').send('ok\n'))
  app.get('/readyz', (_request, reply) => {
    const state = ready()
    const readiness = typeof state === 'boolean' ? { ready: state } : state
    reply.type('text/plain')
    return readiness.ready ? reply.send('ok\n') : reply.code(503).send(`not ready: ${readiness.reason ?? 'starting or draining'}\n`)
  })
}

/** The HTTP side of a process that has no other: metrics and health. */
export class OperationsServer implements Component {
  readonly #options: OperationsServerOptions
  readonly #listener: HttpListener

  constructor(options: OperationsServerOptions) {
    this.#options = options
    const app = fastify({ logger: false })
    operationsRoutes(app, options)
    this.#listener = new HttpListener(app)
  }

  /** The port listened on, from `start` on. */
  get port(): number {
    return this.#listener.port
  }

  /** @throws MeshError FAILED_PRECONDITION where the address cannot be had. */
  start(_signal?: AbortSignal): Promise<void> {
    return this.#listener.start(this.#options.host, this.#options.port)
  }

  drain(): Promise<void> {
    return this.#listener.drain(drainTimeoutMs)
  }
}
