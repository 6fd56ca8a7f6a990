import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Bus, KafkaBus } from '@spillway/bus'
import { bytesAt } from '@spillway/core'
import { decodeFrame } from '@spillway/wire'
import { afterAll, describe, expect, test } from 'vitest'
import { parse, stringify } from 'yaml'
import { sharedKafka } from '../brokers/mod.ts'
import { readKafka } from '../checker/read-kafka.ts'
import { fraudEvents, type FraudNames, fraudNames, topicRecords, writePipeline } from './fraud-run.ts'
import { drainAll, killAll, lastWords, type ServiceProcess, startServices } from './mesh-services.ts'
import { until } from './processes.ts'
import { slicesOn } from './read-bus.ts'

const backlog = 400
const later = 100
const kafka = await sharedKafka()

interface File {
  release: string
  features: { columns: { night: { steps: [string, { atMost: number }] } } }
  cascade: { tiers: { accept?: { below?: number; above?: number } }[] }
}

/** Rows in the frames that lie on a topic now. */
async function frameRows(bus: Bus, topic: string): Promise<number> {
  if ((await bus.topics.describe(topic)) === undefined) return 0
  let rows = 0
  for await (const { records } of slicesOn(bus, topic))
    for (let i = 0; i < records.count; i++) rows += decodeFrame(bytesAt(records.values, i)).batch.rowCount
  return rows
}

describe.skipIf('skipped' in kafka)('Given a backlog of frames that release 1 made, when release 2 starts', () => {
  const brokers = 'skipped' in kafka ? [] : kafka.brokers
  const folder = mkdtempSync(join(tmpdir(), 'spillway-upgrade-'))
  const running: ServiceProcess[] = []
  afterAll(async () => {
    await killAll(running)
    rmSync(folder, { recursive: true, force: true })
  })

  const serve = async (pipeline: string, services: readonly string[], data: string): Promise<ServiceProcess[]> => {
    const started = await startServices({ pipeline, bus: `kafka://${brokers.join(',')}`, links: 'topic', services, data })
    running.push(...started)
    return started
  }
  const publish = async (names: FraudNames, from: number, to: number): Promise<void> => {
    const bus = new KafkaBus({ brokers })
    await bus.start(AbortSignal.timeout(30_000))
    await bus.topics.ensure([names.transactions, names.labels].map((name) => ({ name, partitions: 8 })))
    const events = fraudEvents(to)
      .filter(({ topic }) => topic === 'transactions')
      .slice(from)
    await bus.publish(names.transactions, topicRecords(events, 'transactions'))
    await bus.drain()
  }
  const count = async (topic: string): Promise<number> => (await readKafka(brokers, topic)).length
  /** Release 1 makes the frames; release 2, changed so, has what follows. @returns the backlog's predictions and letters, and the predictions of what came later */
  const upgrade = async (run: string, change: (file: File) => void): Promise<{ names: FraudNames; predicted: number; letters: number }> => {
    const names = fraudNames(`${run}-${Date.now()}`)
    const first = writePipeline(folder, names)
    await publish(names, 0, backlog)
    const [preprocessing] = await serve(first, ['preprocessing'], join(folder, run))
    const bus = new KafkaBus({ brokers })
    await bus.start(AbortSignal.timeout(30_000))
    await until(
      'the backlog of frames',
      async () => ((await frameRows(bus, `${names.pipeline}.features`)) === backlog ? true : undefined),
      90_000,
    )
    await bus.drain()
    expect(await preprocessing!.stop()).toBe(0)
    const file = parse(readFileSync(first, 'utf8')) as File
    file.release = '2'
    change(file)
    writeFileSync(first, stringify(file))
    const mesh = await serve(first, ['model', 'postprocessing', 'cascade-router', 'preprocessing'], join(folder, run))
    const answered = async (): Promise<number> => (await count(names.predictions)) + (await count(names.deadLetters))
    await until(
      'the backlog to be answered',
      async () => ((await answered()) >= backlog ? true : undefined),
      90_000,
      () => lastWords(mesh),
    )
    const [predicted, letters] = [await count(names.predictions), await count(names.deadLetters)]
    await publish(names, backlog, backlog + later)
    await until(
      'what came later',
      async () => ((await answered()) >= backlog + later ? true : undefined),
      90_000,
      () => lastWords(mesh),
    )
    expect(await drainAll(mesh)).toEqual([])
    expect(await count(names.predictions)).toBe(predicted + later)
    return { names, predicted, letters }
  }

  test('with the same features and another threshold, then each row is predicted', async () => {
    const { predicted, letters } = await upgrade('same-features', (file) => (file.cascade.tiers[0]!.accept = { below: 0.02, above: 0.98 }))
    expect([predicted, letters]).toEqual([backlog, 0])
  }, 300_000)

  test('with other features, then each row is a dead letter that says so, and what comes later is predicted', async () => {
    const { names, predicted, letters } = await upgrade(
      'other-features',
      (file) => (file.features.columns.night.steps = ['hour', { atMost: 5 }]),
    )
    expect([predicted, letters]).toEqual([0, backlog])
    for (const { headers, value } of await readKafka(brokers, names.deadLetters)) {
      expect(headers).toMatchObject({
        'spillway-code': 'FAILED_PRECONDITION',
        'spillway-message': expect.stringContaining('release 1 with other features') as string,
      })
      expect(JSON.parse(value)).toHaveProperty('transaction_id')
    }
  }, 300_000)
})
