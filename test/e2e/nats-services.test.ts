import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { keyPartition, NatsBus, recordsOf } from '@spillway/bus'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { logisticModel, writeModel } from '../../libs/serving/test/onnx-builder.ts'
import { sharedNats } from '../brokers/mod.ts'
import { readNats } from '../checker/read-nats.ts'
import { isClean, summary } from '../checker/report.ts'
import { brokenEvents, fraudNames, publishBacklog, writePipeline } from './fraud-run.ts'
import { drainAll, killAll, killAndRestart, lastWords, type ServiceProcess, startServices } from './mesh-services.ts'
import { checkOnNats, writtenOn } from './nats-run.ts'
import { until } from './processes.ts'

const transactionCount = 20_000
const nats = await sharedNats()
const services = ['model', 'postprocessing', 'cascade-router', 'preprocessing']

describe.skipIf('skipped' in nats)('every service in a process of its own, over NATS JetStream', () => {
  const servers = 'skipped' in nats ? [] : nats.servers
  const address = `nats://${servers.join(',')}`
  const folder = mkdtempSync(join(tmpdir(), 'spillway-e2e-'))
  let bus: NatsBus
  const read = (topic: string): ReturnType<typeof readNats> => readNats(servers, topic)

  beforeAll(async () => {
    bus = new NatsBus({ servers, clientName: 'e2e' })
    await bus.start(AbortSignal.timeout(20_000))
  })
  afterAll(async () => {
    await bus.drain()
    rmSync(folder, { recursive: true, force: true })
    if (!('skipped' in nats)) await nats.stop()
  })

  const answered = (mesh: readonly ServiceProcess[], topic: string, count: number): Promise<true> =>
    until(
      `${count} records on ${topic}`,
      async () => ((await writtenOn(bus, topic)) >= count ? true : undefined),
      180_000,
      () => lastWords(mesh),
    )

  test(
    'each is killed once at its work, and started again: every event answered once, in order, as recomputed',
    { timeout: 400_000 },
    async () => {
      const names = fraudNames(`fraud-nats-services-${Date.now()}`)
      const broken = brokenEvents().map(({ value }) => value)
      await publishBacklog(bus, names, transactionCount, broken)
      const pipeline = writePipeline(folder, names)
      const mesh = await startServices({ pipeline, bus: address, links: 'topic', services, data: join(folder, names.pipeline) })
      const atKills: number[] = []
      try {
        // From the head on, so that each has its work before it while the one before is away.
        for (const service of services.toReversed()) {
          await answered(mesh, names.predictions, (atKills.at(-1) ?? 0) + 1)
          await killAndRestart(mesh, service)
          atKills.push(await writtenOn(bus, names.predictions))
        }
        console.info(`predictions at the kills: ${atKills.join(', ')}`)
        expect(atKills.at(-1), 'predictions at the last kill').toBeLessThan(transactionCount)
        await answered(mesh, names.predictions, transactionCount)
        await answered(mesh, names.deadLetters, broken.length)
        expect(await drainAll(mesh)).toEqual([])
      } finally {
        await killAll(mesh)
      }
      const report = await checkOnNats(servers, names)
      expect(isClean(report), summary(report)).toBe(true)
      expect([report.predictions, report.deadLetters]).toEqual([transactionCount, broken.length])
    },
  )

  test(
    'a row that ends the process that handles it becomes a dead letter, without a crash loop; its neighbours are answered once',
    { timeout: 300_000 },
    async () => {
      const name = `poison-nats-${Date.now()}`
      const count = 1000
      const partitions = 4
      const events = Array.from({ length: count }, (_, number) => ({ number, who: number === 333 ? 'poison' : `w${number % 37}` }))
      await writeModel(join(folder, 'models'), 'm', 1, logisticModel([0.1], 0))
      // As a native crash does: no handler runs, no file is flushed.
      const deadly = `export default { process(batch: any) { if (batch.meta.keys.includes('poison')) process.abort(); return batch } }\n`
      writeFileSync(join(folder, 'deadly.ts'), deadly)
      const pipeline = join(folder, `${name}.yaml`)
      writeFileSync(
        pipeline,
        `pipeline: ${name}
partitions: ${partitions}
inputs: { ${name}.in: { key: who, id: number, fields: { who: string, number: integer } } }
features: { vector: [number] }
stages: [{ name: deadly, module: ./deadly.ts, at: events }]
cascade: { tiers: [{ model: m }] }
outputs: { predictions: { topic: ${name}.out, include: [who] }, alerts: { topic: ${name}.alerts } }
`,
      )
      await bus.topics.ensure([{ name: `${name}.in`, partitions }])
      const mesh = await startServices({ pipeline, bus: address, links: 'topic', services, data: join(folder, name) })
      let deaths = 0
      try {
        await bus.publish(`${name}.in`, recordsOf(events.map((event) => ({ key: event.who, value: JSON.stringify(event) }))))
        await until(
          'every row to be answered or given up',
          async () => {
            const last = mesh.at(-1)!
            if (last.ended) {
              expect(last.child.signalCode, last.output.slice(-2000)).toBe('SIGABRT')
              // Up to five for the row; one more where its slice was not the first of its process.
              expect(++deaths, 'a crash loop').toBeLessThanOrEqual(6)
              mesh[mesh.length - 1] = last.again()
            }
            return (await writtenOn(bus, `${name}.out`)) >= count - 1 && (await writtenOn(bus, `${name}.dead-letters`)) >= 1
              ? true
              : undefined
          },
          240_000,
          () => lastWords(mesh),
        )
        expect(await drainAll(mesh)).toEqual([])
      } finally {
        await killAll(mesh)
      }
      console.info(`the process ended ${deaths} times`)
      expect(deaths).toBeGreaterThan(0)
      const letters = await read(`${name}.dead-letters`)
      expect(letters.map(({ value }) => value)).toEqual([JSON.stringify(events[333])])
      expect(letters[0]!.headers).toMatchObject({
        'spillway-code': 'INTERNAL',
        'spillway-message': expect.stringContaining('the process ended') as string,
        'spillway-event-id': '333',
      })
      const answers = (await read(`${name}.out`)).map(({ partition, value }) => ({
        partition,
        id: (JSON.parse(value) as { id: string }).id,
      }))
      for (let partition = 0; partition < partitions; partition++)
        expect(answers.filter((answer) => answer.partition === partition).map(({ id }) => id)).toEqual(
          events
            .filter(({ who }) => who !== 'poison' && keyPartition(Buffer.from(who), partitions) === partition)
            .map(({ number }) => String(number)),
        )
    },
  )
})
