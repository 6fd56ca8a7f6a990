import { MeshError } from '@spillway/core'
import type { NatsLink } from './link.ts'
import { Puller } from './puller.ts'

/** The clocks of this machine and the server's differ by no more than this. */
const clockSkewMs = 60_000

/** A stream of this length is read in a fraction of it; longer ones are read on at the next attempt's expense. */
const timeoutMs = 60_000

/** For how long a stream recognises the ids that it has: its own setting, whoever made it. */
export async function duplicateWindowMs(link: NatsLink, stream: string): Promise<number> {
  const { config } = await link.request(() => link.manager.streams.info(stream))
  return (config.duplicate_window ?? 0) / 1e6
}

/** Reads a stream's message ids from a time on: which of `ids` are in it, and where. @throws MeshError UNAVAILABLE where it cannot be read to its present end in time */
export async function findStored(
  link: NatsLink,
  stream: string,
  sinceMs: number,
  ids: ReadonlySet<string>,
): Promise<ReadonlyMap<string, number>> {
  const found = new Map<string, number>()
  const { state } = await link.request(() => link.manager.streams.info(stream))
  if (state.messages === 0 || Date.parse(state.last_ts as unknown as string) < sinceMs - clockSkewMs) return found
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const puller = new Puller(link, {
    stream,
    from: { timeMs: sinceMs - clockSkewMs },
    headersOnly: true,
    wanted: () => 1000,
    onMessage: (message, { sequence }) => {
      const id = message.headers?.get('Nats-Msg-Id') ?? ''
      if (ids.has(id)) found.set(id, sequence)
      if (found.size === ids.size || sequence >= state.last_seq) resolve()
    },
    onFailure: () => {},
    onSuccess: () => {},
  })
  const timer = setTimeout(() => reject(new MeshError('UNAVAILABLE', `stream "${stream}" could not be read to its end in time`)), timeoutMs)
  puller.start()
  try {
    await promise
    return found
  } finally {
    clearTimeout(timer)
    await puller.stop()
  }
}
