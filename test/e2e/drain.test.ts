import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EmbeddedBus } from '@spillway/bus'
import { afterAll, expect, test } from 'vitest'
import { check } from '../checker/check.ts'
import { isClean, summary } from '../checker/report.ts'
import { gatewayUrl } from './example-run.ts'
import { fraudEvents, fraudNames, pipelineFacts, topicRecords, writePipeline } from './fraud-run.ts'
import { metricsOf, sentRecords } from './metrics.ts'
import { anyPorts, SpillwayProcess, until } from './processes.ts'
import { readBus } from './read-bus.ts'

const folder = mkdtempSync(join(tmpdir(), 'spillway-drain-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const transactionCount = 10_000
/** A drain lets slices in work finish for 10 s, and calls for as long; the rest is closing files and threads. */
const drainLimitMs = 25_000

test('Given a full backlog, when the process is told to end again and again, then it ends in time, and nothing is lost or answered twice', async () => {
  const names = fraudNames('drain')
  const pipeline = writePipeline(folder, names, { placement: { escalations: 'topic', scored: 'topic' } })
  const data = join(folder, 'data')
  mkdirSync(data)
  const path = join(data, `${names.pipeline}.db`)
  const open = async (): Promise<EmbeddedBus> => {
    const bus = new EmbeddedBus({ path })
    await bus.start(AbortSignal.timeout(60_000))
    return bus
  }
  const filled = await open()
  await filled.topics.ensure([names.transactions, names.labels].map((name) => ({ name, partitions: 8 })))
  const events = fraudEvents(transactionCount)
  for (const topic of ['transactions', 'labels'] as const) await filled.publish(names[topic], topicRecords(events, topic))
  await filled.drain()

  const flags = ['--pipeline', pipeline, '--data', data, ...anyPorts]
  let answered = 0
  const drains: number[] = []
  for (let stops = 0; answered < transactionCount; stops++) {
    expect(stops).toBeLessThan(20)
    const mesh = new SpillwayProcess(['up', ...flags], folder)
    try {
      const base = await gatewayUrl(mesh)
      // Each time in the midst of work; the fourth run is let finish.
      const enough = stops < 3 ? 1 : transactionCount - answered
      const sent = await until(
        'some of the backlog to be answered',
        async () => {
          const count = sentRecords(await metricsOf(base), names.predictions)
          return count >= enough ? count : undefined
        },
        120_000,
        () => mesh.output.slice(-2000),
      )
      const startedMs = Date.now()
      expect(await mesh.stop('SIGTERM', drainLimitMs)).toBe(0)
      drains.push(Date.now() - startedMs)
      expect(sent).toBeGreaterThan(0)
    } finally {
      await mesh.stop('SIGKILL')
    }
    const bus = await open()
    const before = answered
    answered = (await readBus(bus, names.predictions)).length
    await bus.drain()
    expect(answered).toBeGreaterThan(before)
  }
  console.info(`drained under load in ${drains.map((ms) => `${ms} ms`).join(', ')}`)
  const bus = await open()
  const report = await check({
    inputs: { [names.transactions]: await readBus(bus, names.transactions), [names.labels]: await readBus(bus, names.labels) },
    predictions: await readBus(bus, names.predictions),
    alerts: await readBus(bus, names.alerts),
    deadLetters: await readBus(bus, names.deadLetters),
    pipeline: pipelineFacts(names),
    sample: 2000,
  })
  await bus.drain()
  expect(isClean(report), summary(report)).toBe(true)
}, 300_000)
