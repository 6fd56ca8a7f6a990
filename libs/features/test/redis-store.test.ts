import { Redis } from 'ioredis'
import { describe, test } from 'vitest'
import { sharedRedis } from '../../../test/brokers/shared.ts'
import { newPrefix, openRedisStore } from './redis-fixture.ts'
import { describeStore } from './store-conformance.ts'

const redis = await sharedRedis()
if ('skipped' in redis) test.skip(`Redis store: ${redis.skipped}`, () => {})
else
  describe('Redis', () => {
    const { url } = redis
    describeStore('The Redis store', () => {
      const prefix = newPrefix()
      return { open: async (options = {}) => openRedisStore({ url, prefix, ...options }) }
    })
  })
