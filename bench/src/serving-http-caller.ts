import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import type { Call } from './serving-calls.ts'
import { type Answer, type Caller, lost, nothing } from './serving-caller.ts'

/** More calls at once wait for a connection. */
const mostConnections = 512

/** HTTP/1.1 over plain sockets, one call at a time on each: Node's own client would cost as much as the server that is measured. */
export function httpCaller(port: number, { path, headers, body }: Call): Caller {
  const lines = Object.entries({ host: `127.0.0.1:${port}`, ...headers, 'content-length': String(body.length) })
  const head = `POST ${path} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`
  const request = Buffer.concat([Buffer.from(head), body])
  const idle: Connection[] = []
  const all = new Set<Connection>()
  const waiting: ((answer: Answer) => void)[] = []
  const send = (connection: Connection, done: (answer: Answer) => void): void =>
    connection.call(request, (answer) => {
      if (connection.open) {
        const next = waiting.shift()
        if (next === undefined) idle.push(connection)
        else send(connection, next)
      } else all.delete(connection)
      done(answer)
    })
  return {
    call: (done) => {
      let connection = idle.pop()
      while (connection !== undefined && !connection.open) {
        all.delete(connection)
        connection = idle.pop()
      }
      if (connection === undefined && all.size >= mostConnections) return void waiting.push(done)
      connection ??= new Connection(port)
      all.add(connection)
      send(connection, done)
    },
    close: async () => {
      await Promise.all([...all].map((connection) => connection.close()))
    },
  }
}

class Connection {
  readonly #socket: Socket
  #received: Buffer = nothing
  #done: ((answer: Answer) => void) | undefined

  constructor(port: number) {
    this.#socket = connect({ port, host: '127.0.0.1', noDelay: true })
    this.#socket.on('data', (part) => this.#read(part))
    this.#socket.on('error', () => undefined)
    this.#socket.once('close', () => this.#finish(lost))
  }

  get open(): boolean {
    return !this.#socket.destroyed && this.#socket.writable
  }

  call(request: Buffer, done: (answer: Answer) => void): void {
    this.#done = done
    this.#socket.write(request)
  }

  /** An answer has a Content-Length: chunks are not read. */
  #read(part: Buffer): void {
    this.#received = this.#received.length === 0 ? part : Buffer.concat([this.#received, part])
    const headEnd = this.#received.indexOf('\r\n\r\n')
    if (headEnd === -1) return
    const head = this.#received.toString('latin1', 0, headEnd)
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? Number.NaN)
    if (Number.isNaN(length)) return void this.#socket.destroy()
    const start = headEnd + 4
    if (this.#received.length < start + length) return
    const body = this.#received.subarray(start, start + length)
    this.#received = nothing
    if (/\r\nconnection: *close/i.test(head)) this.#socket.destroy()
    this.#finish({ outcome: head.slice(9, 12), body })
  }

  #finish(answer: Answer): void {
    const done = this.#done
    this.#done = undefined
    done?.(answer)
  }

  async close(): Promise<void> {
    if (this.#socket.closed) return
    const ended = once(this.#socket, 'close')
    this.#socket.destroy()
    await ended
  }
}
