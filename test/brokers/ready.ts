import { once } from 'node:events'
import { connect } from 'node:net'

/** An ApiVersions request, version 0 (Kafka protocol): size, api key 18, version 0, correlation id 7, no client id. */
const request = Buffer.from([0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff])

/** Whether a Kafka broker answers there; one that starts takes no request before it is ready. */
async function answers(broker: string): Promise<boolean> {
  const [host, port] = broker.split(':') as [string, string]
  const socket = connect(Number(port), host)
  socket.setTimeout(2000, () => socket.destroy())
  try {
    await once(socket, 'connect')
    socket.write(request)
    const [response] = (await once(socket, 'data')) as [Buffer]
    return response.length >= 8 && response.readInt32BE(4) === 7
  } catch {
    // Refused or reset: it is not there yet, which is the answer.
    return false
  } finally {
    socket.destroy()
  }
}

/** Resolves when one of the brokers answers a request. */
export async function untilAnswers(brokers: readonly string[], timeoutMs: number): Promise<void> {
  const endMs = Date.now() + timeoutMs
  for (;;) {
    for (const broker of brokers) if (await answers(broker)) return
    if (Date.now() > endMs) throw new Error(`no Kafka broker answers at ${brokers.join(', ')} after ${timeoutMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
