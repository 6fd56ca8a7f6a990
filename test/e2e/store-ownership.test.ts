import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Bus, KafkaBus, recordsOf } from '@spillway/bus'
import { loadPipeline } from '@spillway/mesh'
import { createTelemetry } from '@spillway/telemetry'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { Host, serviceNames, type StoreAddress } from 'spillway'
import { logisticModel, writeModel } from '../../libs/serving/test/onnx-builder.ts'
import { sharedKafka, sharedRedis } from '../brokers/mod.ts'
import { readKafka } from '../checker/read-kafka.ts'

const [kafka, redis] = [await sharedKafka(), await sharedRedis()]
const patienceMs = { timeout: 40_000, interval: 100 }

describe.skipIf('skipped' in kafka)('over Kafka, a store that belongs to one process', () => {
  const brokers = 'skipped' in kafka ? [] : kafka.brokers
  const folder = mkdtempSync(join(tmpdir(), 'spillway-owner-'))
  const open: Host[] = []
  let bus: Bus

  beforeAll(async () => {
    await writeModel(join(folder, 'models'), 'm', 1, logisticModel([0.1], 0))
    bus = new KafkaBus({ brokers, clientId: 'owner-test' })
    await bus.start(AbortSignal.timeout(60_000))
  })
  afterEach(async () => {
    for (const host of open.splice(0).toReversed()) await host.drain()
  })
  afterAll(async () => {
    await bus.drain()
    rmSync(folder, { recursive: true, force: true })
  })

  function pipelineFile(name: string): string {
    const path = join(folder, `${name}.yaml`)
    writeFileSync(
      path,
      `pipeline: ${name}
partitions: 2
inputs: { ${name}.in: { key: who, id: number, fields: { who: string, number: integer } } }
features:
  histories: { who: { input: ${name}.in, key: who } }
  columns: { seen: { window: count, history: who, length: 1d } }
  vector: [seen]
cascade: { tiers: [{ model: m }] }
outputs: { predictions: { topic: ${name}.out, include: [who, number], features: [seen] }, alerts: { topic: ${name}.alerts } }
`,
    )
    return path
  }

  /** A process of its own in all but memory. */
  async function start(name: string, data: string, store?: StoreAddress): Promise<Host> {
    const free = { http: 0, grpc: 0 }
    const host = new Host({
      pipeline: await loadPipeline(pipelineFile(name)),
      services: new Set(serviceNames),
      bus: { kind: 'kafka', brokers },
      ...(store && { store }),
      dataPath: join(folder, name, data),
      host: '127.0.0.1',
      ports: new Map([
        ['gateway', free],
        ['model', free],
      ]),
      peers: new Map(),
      telemetry: createTelemetry({ service: 'test', logLevel: 'silent', otlp: false }),
    })
    open.push(host)
    await host.start(AbortSignal.timeout(60_000))
    return host
  }

  async function stop(host: Host): Promise<void> {
    open.splice(open.indexOf(host), 1)
    await host.drain()
  }

  /** Ten events, of five keys. */
  async function publish(name: string, from: number): Promise<void> {
    const events = Array.from({ length: 10 }, (_, index) => ({ who: `w${index % 5}`, number: from + index }))
    await bus.publish(`${name}.in`, recordsOf(events.map((event) => ({ key: event.who, value: JSON.stringify(event) }))))
  }

  /** Waits for answers to the first `count` events: each once, and having seen all of its key before it. */
  async function expectAnswered(name: string, count: number): Promise<void> {
    await expect.poll(async () => (await readKafka(brokers, `${name}.out`)).length, patienceMs).toBe(count)
    const answers = (await readKafka(brokers, `${name}.out`)).map(
      ({ value }) => JSON.parse(value) as { number: number; features: { seen: number } },
    )
    answers.sort((a, b) => a.number - b.number)
    expect(answers.map(({ number, features }) => [number, features.seen])).toEqual(
      Array.from({ length: count }, (_, number) => [number, Math.floor(number / 5) + 1]),
    )
  }

  async function readiness(host: Host): Promise<readonly [number, string]> {
    const answer = await fetch(`http://127.0.0.1:${host.gateway.httpPort}/readyz`)
    return [answer.status, await answer.text()]
  }

  test('is used only by one that has every partition: two hold everything, and say so', async () => {
    const name = `lone-${Date.now()}`
    const first = await start(name, 'a')
    await publish(name, 0)
    await expectAnswered(name, 10)
    const second = await start(name, 'b')
    const held = /1 of 2 partitions.*stop the other processes of its consumer group.*--store redis:\/\/host:port/
    await expect.poll(() => readiness(first), patienceMs).toEqual([503, expect.stringMatching(held)])
    await expect.poll(() => readiness(second), patienceMs).toEqual([503, expect.stringMatching(held)])
    await publish(name, 10)
    await stop(second)
    await expectAnswered(name, 20)
    expect(second.metrics.status().eventsIn).toEqual([])
    expect(await readiness(first)).toEqual([200, expect.any(String)])
    expect(await readKafka(brokers, `${name}.dead-letters`)).toEqual([])
  })

  test('takes no position on that rests on another one', async () => {
    const name = `moved-${Date.now()}`
    const first = await start(name, 'a')
    await publish(name, 0)
    await expectAnswered(name, 10)
    await stop(first)
    const other = await start(name, 'empty')
    await publish(name, 10)
    await expect.poll(() => readiness(other), patienceMs).toEqual([503, expect.stringMatching(/left alone.*rests on/)])
    await stop(other)
    expect(other.metrics.status().eventsIn).toEqual([])
    await start(name, 'a')
    await expectAnswered(name, 20)
  })

  test('needs not be waited for where the store is shared', async () => {
    if ('skipped' in redis) return console.warn(`SKIPPED: ${redis.skipped}`)
    const name = `shared-${Date.now()}`
    const store: StoreAddress = { kind: 'redis', url: redis.url }
    const first = await start(name, 'a', store)
    await publish(name, 0)
    const second = await start(name, 'b', store)
    await expect.poll(() => second.process.segments.flatMap(({ lags }) => lags).length, patienceMs).toBeGreaterThan(0)
    await publish(name, 10)
    await expectAnswered(name, 20)
    expect(await readiness(first)).toEqual([200, expect.any(String)])
    await stop(first)
    await publish(name, 20)
    await expectAnswered(name, 30)
  })
})
