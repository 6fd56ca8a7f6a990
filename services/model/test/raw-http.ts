import { connect, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'

export interface RawResponse {
  readonly status: number
  /** By lower-case name, without `date`. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** A connection that ends with the test. */
export function openRaw(http: string): RawConnection {
  const opened = new RawConnection(http)
  onTestFinished(() => void opened.socket.destroy())
  return opened
}

/** One connection, on which bytes are sent as they are given. */
export class RawConnection {
  readonly socket: Socket
  #received: Buffer = Buffer.alloc(0)
  #changed: () => void = () => undefined

  constructor(http: string) {
    const { hostname, port } = new URL(http)
    this.socket = connect({ port: Number(port), host: hostname, noDelay: true })
    this.socket.on('data', (part) => {
      this.#received = Buffer.concat([this.#received, part])
      this.#changed()
    })
    this.socket.on('error', () => undefined)
    this.socket.on('close', () => this.#changed())
  }

  send(bytes: string | Uint8Array): void {
    this.socket.write(bytes)
  }

  /** The next answer, in the order of arrival; bodies have a Content-Length. @throws Error where the connection ends before */
  async next(): Promise<RawResponse> {
    for (;;) {
      const response = this.#take()
      if (response !== undefined) return response
      if (this.socket.closed) throw new Error(`the connection ended behind "${this.#received.toString('latin1')}"`)
      await new Promise<void>((resolve) => (this.#changed = resolve))
    }
  }

  #take(): RawResponse | undefined {
    const end = this.#received.indexOf('\r\n\r\n')
    if (end === -1) return undefined
    const [first = '', ...lines] = this.#received.toString('latin1', 0, end).split('\r\n')
    const all = Object.fromEntries(lines.map((line) => [line.split(': ')[0]!.toLowerCase(), line.slice(line.indexOf(': ') + 2)]))
    const bodyEnd = end + 4 + Number(all['content-length'] ?? 0)
    if (this.#received.length < bodyEnd) return undefined
    const body = this.#received.toString('latin1', end + 4, bodyEnd)
    this.#received = this.#received.subarray(bodyEnd)
    const { date: _date, ...headers } = all
    return { status: Number(first.split(' ')[1]), headers, body }
  }

  async closed(): Promise<void> {
    while (!this.socket.closed) await new Promise<void>((resolve) => (this.#changed = resolve))
  }
}

/** A request's bytes. */
export function requestBytes(head: string, headers: Readonly<Record<string, string>>, body: Uint8Array): Buffer {
  const lines = Object.entries({ host: 'x', ...headers }).map(([name, value]) => `${name}: ${value}\r\n`)
  return Buffer.concat([Buffer.from(`${head}\r\n${lines.join('')}\r\n`), body])
}

/** A body in two chunks, as `Transfer-Encoding: chunked` has it. */
export function chunked(body: Uint8Array): Buffer {
  const half = body.length >> 1
  const chunks = [body.subarray(0, half), body.subarray(half)].filter((chunk) => chunk.length > 0)
  return Buffer.concat([
    ...chunks.flatMap((chunk) => [Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n')]),
    Buffer.from('0\r\n\r\n'),
  ])
}
