import { type Component, MeshError } from '@spillway/core'
import { fastify, type FastifyInstance } from 'fastify'
import type { AddressInfo } from 'node:net'
import type { Telemetry } from './telemetry.ts'

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

/** Listens, and answers with the port in use. @throws MeshError FAILED_PRECONDITION naming the address where it cannot be had. */
export async function listenHttp(app: FastifyInstance, host: string, port: number): Promise<number> {
  try {
    await app.listen({ host, port })
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException
    const why = code === 'EADDRINUSE' ? 'is in use by another process' : `cannot be listened on (${code ?? String(thrown)})`
    throw new MeshError('FAILED_PRECONDITION', `${host}:${port} ${why}: choose another host or port, or 0 for a free port`, {
      cause: thrown,
    })
  }
  return (app.server.address() as AddressInfo).port
}

/** The HTTP side of a process that has no other: metrics and health. */
export class OperationsServer implements Component {
  readonly #app: FastifyInstance = fastify({ logger: false })
  readonly #options: OperationsServerOptions
  #port = 0

  constructor(options: OperationsServerOptions) {
    this.#options = options
    operationsRoutes(this.#app, options)
  }

  /** The port listened on, from `start` on. */
  get port(): number {
    return this.#port
  }

  async start(): Promise<void> {
    this.#port = await listenHttp(this.#app, this.#options.host, this.#options.port)
  }

  async drain(): Promise<void> {
    await this.#app.close()
  }
}
