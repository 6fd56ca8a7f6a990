import { EmbeddedBus, recordsOf } from '@spillway/bus'
import { Gateway } from '@spillway/gateway'
import { createTelemetry } from '@spillway/telemetry'
import { expect, it, onTestFinished } from 'vitest'
import { readGateway } from './read-gateway.ts'

async function startGateway(topics: readonly string[]): Promise<{ bus: EmbeddedBus; url: string }> {
  const telemetry = createTelemetry({ service: 'gateway', logLevel: 'silent', otlp: false })
  const bus = new EmbeddedBus({ path: ':memory:' })
  await bus.start(new AbortController().signal)
  await bus.topics.ensure(topics.map((name) => ({ name, partitions: 3 })))
  const deadLetters = {
    list: () => Promise.resolve({ letters: [] }),
    show: () => Promise.reject(new Error('there are no letters')),
    settle: () => Promise.resolve({ settled: 0, left: [] }),
  }
  const pipeline = { name: 'fraud', topics, inputTopics: [], deadLetters, keyOf: () => undefined, predict: () => Promise.resolve([]) }
  const gateway = new Gateway({ host: '127.0.0.1', httpPort: 0, grpcPort: 0, bus, pipelines: [pipeline], telemetry })
  await gateway.start()
  onTestFinished(async () => {
    await gateway.drain()
    await bus.drain()
    await telemetry.shutdown()
  })
  return { bus, url: `http://127.0.0.1:${gateway.httpPort}` }
}

it('reads a topic with the places of its records', async () => {
  const { bus, url } = await startGateway(['predictions', 'alerts'])
  const values = Array.from({ length: 700 }, (_, index) => JSON.stringify({ index, text: 'a line\nand another' }))
  const positions = await bus.publish('predictions', recordsOf(values.map((value, index) => ({ key: String(index % 50), value }))))
  const placed = positions.map(({ partition, offset }, index) => `${partition}/${offset} ${values[index]}`)
  const enough = await readGateway(url, 'predictions', { expected: 700 })
  expect(enough.map(({ partition, offset, value }) => `${partition}/${offset} ${value}`).sort()).toEqual(placed.sort())
  expect(await readGateway(url, 'predictions', { quietMs: 300 })).toEqual(enough)
  expect(await readGateway(url, 'alerts', { quietMs: 300 })).toEqual([])
})

it('says what the gateway refused', async () => {
  const { url } = await startGateway(['predictions'])
  await expect(readGateway(url, 'nowhere')).rejects.toThrow('404')
})
