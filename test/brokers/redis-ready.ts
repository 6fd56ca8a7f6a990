import { once } from 'node:events'
import { connect } from 'node:net'

/** Whether a server answers there; one that still loads its data does not count, one that wants a password does. */
async function answers(host: string, port: number): Promise<boolean> {
  const socket = connect(port, host)
  socket.setTimeout(2000, () => socket.destroy())
  try {
    await once(socket, 'connect')
    socket.write('PING\r\n')
    const [answer] = (await once(socket, 'data')) as [Buffer]
    return /^(\+PONG|-NOAUTH)/.test(answer.toString('latin1'))
  } catch {
    // Refused or reset: it is not there yet, which is the answer.
    return false
  } finally {
    socket.destroy()
  }
}

/** Resolves when the server answers a PING. */
export async function untilRedisAnswers(url: string, timeoutMs: number): Promise<void> {
  const { hostname, port } = new URL(url)
  const endMs = Date.now() + timeoutMs
  while (!(await answers(hostname, port === '' ? 6379 : Number(port)))) {
    if (Date.now() > endMs) throw new Error(`no Redis server answers at ${hostname}:${port} after ${timeoutMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
