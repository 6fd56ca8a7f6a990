import type { TestProject } from 'vitest/node'
import { startKafka } from './kafka.ts'
import { startNats } from './nats.ts'
import { startRedis } from './redis.ts'

/** Vitest `globalSetup`: one broker of each kind for all the files of a run. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const [kafka, redis, nats] = await Promise.all([startKafka(), startRedis(), startNats()])
  if ('skipped' in kafka) console.warn(`no Kafka broker, its tests are skipped: ${kafka.skipped}`)
  if ('skipped' in redis) console.warn(`no Redis server, its tests are skipped: ${redis.skipped}`)
  if ('skipped' in nats) console.warn(`no NATS server, its tests are skipped: ${nats.skipped}`)
  project.provide('kafka', 'skipped' in kafka ? kafka : { brokers: kafka.brokers })
  project.provide('redis', 'skipped' in redis ? redis : { url: redis.url })
  project.provide('nats', 'skipped' in nats ? nats : { servers: nats.servers })
  return async () => {
    await Promise.all([kafka, redis, nats].map(async (server) => ('skipped' in server ? undefined : server.stop())))
  }
}
