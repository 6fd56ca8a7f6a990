import { defineConfig } from 'vitest/config'

/** Tests that need a broker: one Kafka, one Redis and one NATS server are started for all of them. */
const broker = [
  'cli/test/batch/kafka.test.ts',
  'libs/bus/test/kafka.test.ts',
  'libs/bus/test/kafka-codecs.test.ts',
  'libs/bus/test/kafka-faults.test.ts',
  'libs/bus/test/kafka-positions.test.ts',
  'libs/bus/test/kafka-together.test.ts',
  'libs/bus/test/nats.test.ts',
  'libs/bus/test/nats-faults.test.ts',
  'libs/features/test/redis-lookups.test.ts',
  'libs/features/test/redis-store.test.ts',
  'libs/features/test/redis-faults.test.ts',
  'libs/mesh/test/oversize-kafka.test.ts',
  'libs/mesh/test/poison-kafka.test.ts',
  'test/brokers/redis.test.ts',
  'test/chaos/chaos.test.ts',
  'test/chaos/unfenced.test.ts',
  'test/checker/read-kafka.test.ts',
  'test/e2e/backpressure.test.ts',
  'test/e2e/dead-letters-brokers.test.ts',
  'test/e2e/malformed.test.ts',
  'test/e2e/multi-process.test.ts',
  'test/e2e/nats-services.test.ts',
  'test/e2e/nats.test.ts',
  'test/e2e/redrive-redis.test.ts',
  'test/e2e/store-ownership.test.ts',
  'test/e2e/upgrade.test.ts',
  'test/handbook/mesh.test.ts',
]

// Real brokers, sockets and processes on a machine of two cores take their time; every wait in the tests is for a condition.
const patience = { testTimeout: 60_000, hookTimeout: 180_000, expect: { poll: { timeout: 20_000 } } }
const setupFiles = ['test/e2e/end-with-test.ts']

export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      {
        test: {
          name: 'here',
          include: ['{libs,services,examples}/*/test/**/*.test.ts', 'cli/test/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: ['**/node_modules/**', ...broker],
          setupFiles,
          ...patience,
        },
      },
      { test: { name: 'broker', include: broker, globalSetup: ['test/brokers/global-setup.ts'], setupFiles, ...patience } },
    ],
  },
})
