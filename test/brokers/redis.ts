import { dockerAnswers } from './container-kafka.ts'
import { startContainerRedis } from './container-redis.ts'
import type { PausableFaults, SkippedBroker } from './kafka.ts'
import { NativeRedis } from './native-redis.ts'
import { redisBinary } from './redis-binary.ts'
import { untilRedisAnswers } from './redis-ready.ts'

/** A Redis or Valkey server for tests. */
export interface RedisServer {
  /** `redis://host:port/database`. */
  readonly url: string
  /** Only on a server that the tests own as a process. */
  readonly faults?: PausableFaults
  /** Ends it and removes its data; a server that was given is left alone. Idempotent. */
  stop(): Promise<void>
}

export interface StartRedisOptions {
  /** Only a server that can be killed will do: an address from the environment or a container is passed over. */
  readonly withFaults?: boolean
  /** Of a server that is started: `always` has on disk what it acknowledged, `everysec` is what is run in production. Default `always`. */
  readonly appendFsync?: 'always' | 'everysec'
}

/**
 * The url in `SPILLWAY_TEST_REDIS`; else a server on the path; else Debian's package from `.cache`; else a container.
 * @throws Error in place of `skipped` where `SPILLWAY_REQUIRE_BROKER=1`.
 */
export async function startRedis(options: StartRedisOptions = {}): Promise<RedisServer | SkippedBroker> {
  const { withFaults = false, appendFsync = 'always' } = options
  const given = process.env['SPILLWAY_TEST_REDIS']
  if (!withFaults && given !== undefined && given !== '') {
    await untilRedisAnswers(given, 10_000)
    return { url: given, stop: async () => {} }
  }
  const binary = await redisBinary()
  if ('missing' in binary) {
    if (!withFaults && (await dockerAnswers())) return startContainerRedis(appendFsync)
    if (process.env['SPILLWAY_REQUIRE_BROKER'] === '1')
      throw new Error(`a Redis server is required (SPILLWAY_REQUIRE_BROKER=1): ${binary.missing}`)
    return { skipped: binary.missing }
  }
  const server = await NativeRedis.start(binary, appendFsync)
  return {
    url: server.url,
    faults: {
      kill: async () => server.kill(),
      restart: async () => server.restart(),
      pause: () => server.pause(),
      resume: () => server.resume(),
    },
    stop: async () => server.stop(),
  }
}
