import { inject } from 'vitest'
import { type KafkaBroker, type SkippedBroker, startKafka } from './kafka.ts'
import { type NatsServer, startNats } from './nats.ts'
import { type RedisServer, startRedis } from './redis.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    /** The run's one broker, where `global-setup.ts` is a global set-up. */
    kafka: { readonly brokers: readonly string[] } | SkippedBroker
    /** The run's one Redis server, likewise. */
    redis: { readonly url: string } | SkippedBroker
    /** The run's one NATS server, likewise. */
    nats: { readonly servers: readonly string[] } | SkippedBroker
  }
}

/** The run's one broker where there is a global set-up for it; else one of the caller's own, to be stopped by the caller. */
export async function sharedKafka(): Promise<KafkaBroker | SkippedBroker> {
  const provided: { readonly brokers: readonly string[] } | SkippedBroker | undefined = inject('kafka')
  if (provided === undefined) return startKafka()
  if ('skipped' in provided) return provided
  return { brokers: provided.brokers, stop: async () => {} }
}

/** As `sharedKafka`. All the files of a run see the same database: give each test a key prefix of its own. */
export async function sharedRedis(): Promise<RedisServer | SkippedBroker> {
  const provided: { readonly url: string } | SkippedBroker | undefined = inject('redis')
  if (provided === undefined) return startRedis()
  if ('skipped' in provided) return provided
  return { url: provided.url, stop: async () => {} }
}

/** As `sharedKafka`. All the files of a run see the same topics and groups: give each test names of its own. */
export async function sharedNats(): Promise<NatsServer | SkippedBroker> {
  const provided: { readonly servers: readonly string[] } | SkippedBroker | undefined = inject('nats')
  if (provided === undefined) return startNats()
  if ('skipped' in provided) return provided
  return { servers: provided.servers, stop: async () => {} }
}
