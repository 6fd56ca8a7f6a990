import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Bus, KafkaBus, NatsBus, recordsOf } from '@spillway/bus'
import { describe, expect, test } from 'vitest'
import { sharedKafka, sharedNats } from '../brokers/mod.ts'
import { gatewayUrl } from './example-run.ts'
import { answeredCounts, customers, expectedCounts, LettersRun, partitions, payment } from './letters-run.ts'
import { metricsOf, untilAtRest } from './metrics.ts'
import { type SpillwayProcess, until } from './processes.ts'
import { readBus } from './read-bus.ts'

const count = 1000
const shut = 3 * (count / 10)
const [kafka, nats] = [await sharedKafka(), await sharedNats()]

const systems = [
  {
    name: 'Kafka',
    skipped: 'skipped' in kafka,
    address: 'skipped' in kafka ? '' : `kafka://${kafka.brokers.join(',')}`,
    bus: (): Bus => new KafkaBus({ brokers: 'skipped' in kafka ? [] : kafka.brokers, clientId: 'e2e' }),
  },
  {
    name: 'NATS JetStream',
    skipped: 'skipped' in nats,
    address: 'skipped' in nats ? '' : `nats://${nats.servers.join(',')}`,
    bus: (): Bus => new NatsBus({ servers: 'skipped' in nats ? [] : nats.servers, clientName: 'e2e' }),
  },
]

describe.each(systems)('dead letters of a mesh over $name', ({ skipped, address, bus: makeBus }) => {
  test.skipIf(skipped)(
    'two operators give the same letters back at once, one is killed: each is answered once, in its own place in history',
    async () => {
      const folder = mkdtempSync(join(tmpdir(), 'spillway-letters-'))
      const run = new LettersRun(folder, `letters-${Date.now()}`)
      await run.write()
      const bus = makeBus()
      await bus.start(AbortSignal.timeout(60_000))
      await bus.topics.ensure([{ name: run.topic('payments'), partitions }])
      const events = Array.from({ length: count }, (_, number) => ({ key: `c${number % customers}`, value: payment(number) }))
      await bus.publish(run.topic('payments'), recordsOf(events))
      const where = ['--bus', address]
      const mesh = run.up(address)
      const operators: SpillwayProcess[] = []
      try {
        const gateway = await gatewayUrl(mesh)
        await landed(bus, run.topic('dead-letters'), shut, mesh)
        run.mend()
        operators.push(...[0, 1].map(() => run.dlq('redrive', where, '--all', '--rate', '100')))
        await landed(bus, run.topic('redrive'), 20, mesh)
        await operators[0]!.stop('SIGKILL')
        await operators[1]!.finished(60_000)
        expect(await run.said('redrive', where, '--all')).toEqual(['0 letters redriven'])
        await landed(bus, run.topic('predictions'), count, mesh)
        await giveAllAgain(bus, run.topic('redrive'))
        await untilAtRest(async () => [await metricsOf(gateway)])
        expect(await mesh.stop('SIGTERM'), mesh.output.slice(-2000)).toBe(0)
        expect(answeredCounts(await readBus(bus, run.topic('predictions')))).toEqual(expectedCounts(count))
        expect(await readBus(bus, run.topic('dead-letters'))).toHaveLength(shut)
      } finally {
        for (const process of [mesh, ...operators]) await process.stop('SIGKILL')
        await bus.drain()
        rmSync(folder, { recursive: true, force: true })
      }
    },
    240_000,
  )
})

/** What an operator would do who saw nothing of what the others did. */
async function giveAllAgain(bus: Bus, topic: string): Promise<void> {
  for (const [partition, records] of Map.groupBy(await readBus(bus, topic), (record) => record.partition))
    await bus.publish(topic, recordsOf(records), partition)
}

async function landed(bus: Bus, topic: string, atLeast: number, mesh: SpillwayProcess): Promise<void> {
  const enough = async (): Promise<true | undefined> => {
    const made = (await bus.topics.describe(topic)) !== undefined
    return made && (await readBus(bus, topic)).length >= atLeast ? true : undefined
  }
  await until(`${atLeast} records on ${topic}`, enough, 60_000, () => mesh.output.slice(-2000))
}
