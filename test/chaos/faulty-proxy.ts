import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { Transform, type TransformCallback } from 'node:stream'
import { pipeline } from 'node:stream/promises'

const host = '127.0.0.1'

/** What becomes of the bytes of a connection. `cut`: every connection is reset, and new ones too. `stalled`: taken and held back. */
type Condition = { readonly kind: 'open'; readonly delayMs: number } | { readonly kind: 'stalled' } | { readonly kind: 'cut' }

/** A TCP proxy on a port of its own whose line can be cut, stalled and slowed down. What it holds back is bounded by the streams' own buffers. */
export class FaultyProxy {
  readonly port: number
  /** Where it leads to, on this machine; to be set before the first connection. */
  targetPort = 0
  /** Changes what a client sends; a chunk is what came at once. */
  rewrite: (chunk: Buffer) => Buffer = (chunk) => chunk
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #condition: Condition = { kind: 'open', delayMs: 0 }
  #changed = Promise.withResolvers<void>()

  private constructor(server: Server, port: number) {
    this.#server = server
    this.port = port
    server.on('connection', (socket) => this.#accept(socket))
  }

  static async listen(port = 0): Promise<FaultyProxy> {
    const server = createServer({ noDelay: true })
    server.listen(port, host)
    await once(server, 'listening')
    return new FaultyProxy(server, (server.address() as { port: number }).port)
  }

  get connectionCount(): number {
    return this.#sockets.size / 2
  }

  cut(): void {
    this.#set({ kind: 'cut' })
    for (const socket of this.#sockets) socket.resetAndDestroy()
  }

  stall(): void {
    this.#set({ kind: 'stalled' })
  }

  /** Each chunk arrives so much later, in each direction. */
  slow(delayMs: number): void {
    this.#set({ kind: 'open', delayMs })
  }

  heal(): void {
    this.#set({ kind: 'open', delayMs: 0 })
  }

  async close(): Promise<void> {
    this.cut()
    await new Promise((closed) => this.#server.close(closed))
  }

  #set(condition: Condition): void {
    this.#condition = condition
    this.#changed.resolve()
    this.#changed = Promise.withResolvers<void>()
  }

  #accept(client: Socket): void {
    if (this.#condition.kind === 'cut') return void client.resetAndDestroy()
    const upstream = connect({ port: this.targetPort, host, noDelay: true })
    const pair = [client, upstream]
    for (const socket of pair) {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    }
    const lines = [
      pipeline(
        client,
        this.#line((chunk) => this.rewrite(chunk)),
        upstream,
      ),
      pipeline(
        upstream,
        this.#line((chunk) => chunk),
        client,
      ),
    ]
    for (const line of lines)
      line.catch(() => {
        // One end is gone, whichever way: so is the other.
        for (const socket of pair) socket.destroy()
      })
  }

  #line(change: (chunk: Buffer) => Buffer): Transform {
    return new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        const { kind } = this.#condition
        // The usual case takes no turn of the event loop.
        if (kind === 'open' && this.#condition.delayMs === 0) done(null, change(chunk))
        else void this.#sendLater(change(chunk), done)
      },
    })
  }

  async #sendLater(chunk: Buffer, done: TransformCallback): Promise<void> {
    await this.#held()
    done(null, chunk)
  }

  /** Resolves when a chunk that is there now may go on. */
  async #held(): Promise<void> {
    while (this.#condition.kind === 'stalled') await this.#changed.promise
    if (this.#condition.kind === 'open' && this.#condition.delayMs > 0) {
      const { delayMs } = this.#condition
      await new Promise((resolve) => setTimeout(resolve, delayMs))
    }
  }
}
