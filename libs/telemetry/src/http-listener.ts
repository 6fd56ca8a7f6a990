import { MeshError } from '@spillway/core'
import type { FastifyInstance } from 'fastify'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'

/** A connection as a front holds it. */
export interface HeldConnection {
  /** A request has come: a server that drains waits for its answer. */
  began(): void
  /** Its answer is on its way. */
  answered(): void
  /** Node.js reads HTTP from here on, and these bytes first. The front has let go of the socket: none of its listeners is left. */
  handOver(received: Buffer): void
}

/** Is given each connection before Node.js reads HTTP from it, and answers on the socket itself, until it hands the connection over. */
export type ConnectionFront = (socket: Socket, held: HeldConnection) => void

/** Listens for an app, and closes without waiting for clients that only hold a connection open. */
export class HttpListener {
  readonly #app: FastifyInstance
  /** Answers under way, by connection. */
  readonly #pending = new Map<Socket, number>()
  #closing = false
  #port = 0
  #closed: Promise<void> | undefined

  constructor(app: FastifyInstance, front?: ConnectionFront) {
    this.#app = app
    const readHttp = front === undefined ? [] : takeConnections(app.server)
    app.server.on('connection', (socket: Socket) => {
      this.#pending.set(socket, 0)
      socket.once('close', () => this.#pending.delete(socket))
      front?.(socket, {
        began: () => this.#began(socket),
        answered: () => this.#answered(socket),
        handOver: (received) => {
          for (const read of readHttp) read.call(app.server, socket)
          socket.resume()
          // To the parser, which has it before anything that is still in the socket.
          if (received.length > 0) socket.emit('data', received)
        },
      })
    })
    const asked = ({ socket }: IncomingMessage, response: ServerResponse): void => {
      this.#began(socket)
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
    const cut = setTimeout(() => {
      for (const socket of this.#pending.keys()) socket.destroy()
    }, limitMs)
    try {
      await this.#app.close()
    } finally {
      clearTimeout(cut)
    }
  }

  #began(socket: Socket): void {
    this.#pending.set(socket, (this.#pending.get(socket) ?? 0) + 1)
  }

  #answered(socket: Socket): void {
    const pending = (this.#pending.get(socket) ?? 1) - 1
    if (this.#pending.has(socket)) this.#pending.set(socket, pending)
    if (this.#closing && pending === 0) socket.destroySoon()
  }
}

/** What reads HTTP from a server's connections, and does no more until it is called. */
function takeConnections(server: Server): readonly ((this: Server, socket: Socket) => void)[] {
  const readers = server.listeners('connection') as ((this: Server, socket: Socket) => void)[]
  server.removeAllListeners('connection')
  return readers
}
