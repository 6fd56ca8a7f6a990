import { once } from 'node:events'
import { connect } from 'node:net'

/** Whether a server answers there that has JetStream: it says INFO first, and PONG when asked. */
async function answers(host: string, port: number): Promise<boolean> {
  const socket = connect(port, host)
  socket.setTimeout(2000, () => socket.destroy())
  try {
    await once(socket, 'connect')
    let said = ''
    for await (const chunk of socket) {
      said += (chunk as Buffer).toString('latin1')
      if (said.startsWith('INFO ') && said.includes('\r\n')) return /"jetstream":\s*true/.test(said)
    }
    return false
  } catch {
    // Refused or reset: it is not there yet, which is the answer.
    return false
  } finally {
    socket.destroy()
  }
}

/** Resolves when one of the servers (`host:port`) answers. */
export async function untilNatsAnswers(servers: readonly string[], timeoutMs: number): Promise<void> {
  const endMs = Date.now() + timeoutMs
  for (;;) {
    for (const server of servers) {
      const [host, port] = server.split(':') as [string, string]
      if (await answers(host, Number(port))) return
    }
    if (Date.now() > endMs) throw new Error(`no NATS server with JetStream answers at ${servers.join(', ')} after ${timeoutMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
