import { MeshError } from '@spillway/core'
import type { FastifyInstance } from 'fastify'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'

/** Listens for an app, and closes without waiting for clients that only hold a connection open. */
export class HttpListener {
  readonly #app: FastifyInstance
  /** Answers under way, by connection. */
  readonly #pending = new Map<Socket, number>()
  #closing = false
  #port = 0
  #closed: Promise<void> | undefined

  constructor(app: FastifyInstance) {
    this.#app = app
    app.server.on('connection', (socket) => {
      this.#pending.set(socket, 0)
      socket.once('close', () => this.#pending.delete(socket))
    })
    const asked = ({ socket }: IncomingMessage, response: ServerResponse): void => {
      this.#pending.set(socket, (this.#pending.get(socket) ?? 0) + 1)
      response.once('close', () => this.#answered(socket))
    }
    app.server.on('request', asked)
    // A server that has nobody for these makes plain requests of them, and must go on to.
    if (app.server.listenerCount('checkContinue') > 0) app.server.on('checkContinue', asked)
  }

  /** The port listened on, from `start` on. */
  get port(): number {
    return this.#port
  }

  /** @param port 0 picks a free one. @throws MeshError FAILED_PRECONDITION naming the address where it cannot be had. */
  async start(host: string, port: number): Promise<void> {
    try {
      await this.#app.listen({ host, port })
    } catch (thrown) {
      const { code } = thrown as NodeJS.ErrnoException
      const why = code === 'EADDRINUSE' ? 'is in use by another process' : `cannot be listened on (${code ?? String(thrown)})`
      throw new MeshError('FAILED_PRECONDITION', `${host}:${port} ${why}: choose another host or port, or 0 for a free port`, {
        cause: thrown,
      })
    }
    this.#port = (this.#app.server.address() as AddressInfo).port
  }

  /** Takes no more, lets answers under way finish within the limit, then cuts them. Idempotent. */
  drain(limitMs: number): Promise<void> {
    this.#closed ??= this.#close(limitMs)
    return this.#closed
  }

  async #close(limitMs: number): Promise<void> {
    this.#closing = true
    // Node.js counts a connection that has not asked anything yet as busy: closing would wait for its client.
    for (const [socket, pending] of this.#pending) if (pending === 0) socket.destroySoon()
    const cut = setTimeout(() => this.#app.server.closeAllConnections(), limitMs)
    try {
      await this.#app.close()
    } finally {
      clearTimeout(cut)
    }
  }

  #answered(socket: Socket): void {
    const pending = (this.#pending.get(socket) ?? 1) - 1
    if (this.#pending.has(socket)) this.#pending.set(socket, pending)
    if (this.#closing && pending === 0) socket.destroySoon()
  }
}
