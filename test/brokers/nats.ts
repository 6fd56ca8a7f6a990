import { dockerAnswers } from './container-kafka.ts'
import { startContainerNats } from './container-nats.ts'
import type { PausableFaults, SkippedBroker } from './kafka.ts'
import { NativeNats } from './native-nats.ts'
import { natsBinary } from './nats-binary.ts'
import { untilNatsAnswers } from './nats-ready.ts'

/** A NATS server with JetStream for tests. */
export interface NatsServer {
  /** `host:port` each. */
  readonly servers: readonly string[]
  /** Only on a server that the tests own as a process. */
  readonly faults?: PausableFaults
  /** Ends it and removes its data; a server that was given is left alone. Idempotent. */
  stop(): Promise<void>
}

export interface StartNatsOptions {
  /** Only a server that can be killed will do: an address from the environment or a container is passed over. */
  readonly withFaults?: boolean
}

/**
 * The addresses in `SPILLWAY_TEST_NATS`; else a server on the path; else one from `.cache`, of Debian's package or built by Go; else a container.
 * @throws Error in place of `skipped` where `SPILLWAY_REQUIRE_BROKER=1`.
 */
export async function startNats({ withFaults = false }: StartNatsOptions = {}): Promise<NatsServer | SkippedBroker> {
  const given = process.env['SPILLWAY_TEST_NATS']
  if (!withFaults && given !== undefined && given !== '') {
    const servers = given.replace(/^nats:\/\//, '').split(',')
    await untilNatsAnswers(servers, 10_000)
    return { servers, stop: async () => {} }
  }
  const binary = await natsBinary()
  if ('missing' in binary) {
    if (!withFaults && (await dockerAnswers())) return startContainerNats()
    if (process.env['SPILLWAY_REQUIRE_BROKER'] === '1')
      throw new Error(`a NATS server is required (SPILLWAY_REQUIRE_BROKER=1): ${binary.missing}`)
    return { skipped: binary.missing }
  }
  const server = await NativeNats.start(binary.command)
  return {
    servers: server.servers,
    faults: {
      kill: async () => server.kill(),
      restart: async () => server.restart(),
      pause: () => server.pause(),
      resume: () => server.resume(),
    },
    stop: async () => server.stop(),
  }
}
