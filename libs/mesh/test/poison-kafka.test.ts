import { randomUUID } from 'node:crypto'
import { KafkaBus } from '@spillway/bus'
import { describe, test } from 'vitest'
import { startKafka } from '../../../test/brokers/kafka.ts'
import { expectEachOnce, type PoisonRun, publishNames, supervise } from './poison-runs.ts'

const kafka = await startKafka()
if ('skipped' in kafka) test.skip(`poison over Kafka: ${kafka.skipped}`, () => {})
else
  describe('rows that end the process, over Kafka', { timeout: 120_000 }, () => {
    test('one among 1,000 on four partitions becomes a dead letter; all others are answered, by whichever process comes next', async () => {
      const bus = new KafkaBus({ brokers: kafka.brokers })
      await bus.start(AbortSignal.timeout(20_000))
      const names = Array.from({ length: 1000 }, (_, i) => (i === 333 ? 'poison' : `good-${i}`))
      const run: PoisonRun = {
        kind: 'kafka',
        address: kafka.brokers.join(','),
        prefix: `poison-${randomUUID().slice(0, 8)}`,
        entry: 'events',
        partitions: 4,
        names,
      }
      await publishNames(bus, run)
      await supervise(run, Math.ceil(Math.log2(1000)) + 2)
      await expectEachOnce(bus, run)
      await bus.drain()
      await kafka.stop()
    })
  })
