import type { TestProject } from 'vitest/node'
import { startKafka } from './kafka.ts'
import { startRedis } from './redis.ts'

/** Vitest `globalSetup`: one broker of each kind for all the files of a run. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const [kafka, redis] = await Promise.all([startKafka(), startRedis()])
  if ('skipped' in kafka) console.warn(`no Kafka broker, its tests are skipped: ${kafka.skipped}`)
  if ('skipped' in redis) console.warn(`no Redis server, its tests are skipped: ${redis.skipped}`)
  project.provide('kafka', 'skipped' in kafka ? kafka : { brokers: kafka.brokers })
  project.provide('redis', 'skipped' in redis ? redis : { url: redis.url })
  return async () => {
    await Promise.all([kafka, redis].map(async (server) => ('skipped' in server ? undefined : server.stop())))
  }
}
