import { createReadStream, createWriteStream, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { EmbeddedBus } from '@spillway/bus'
import { bytesAt } from '@spillway/core'
import { afterAll, describe, expect, test } from 'vitest'
import { gatewayUrl } from '../e2e/example-run.ts'
import { fraudNames, writePipeline } from '../e2e/fraud-run.ts'
import { metricsOf, sentRecords } from '../e2e/metrics.ts'
import { anyPorts, SpillwayProcess, until } from '../e2e/processes.ts'
import { slicesOn } from '../e2e/read-bus.ts'
import { handbookFolder, readDay, recentDays } from './handbook-data.ts'
import { labelEvents, publishEvents, tooLateEach, transactionEvents, transactionJson } from './handbook-events.ts'
import { type Comparison, compareWithReference, comparisonText } from './reference.ts'

/** The reference's features out of one process on the embedded bus, out of synchronous calls, and out of the export for training. */
const folder = handbookFolder()
const names = recentDays(folder)
if (names.length === 0) console.warn(`SKIPPED: no reference data in ${folder} (SPILLWAY_HANDBOOK names another folder)`)

describe.skipIf(names.length === 0)('the reference data', () => {
  const work = mkdtempSync(join(tmpdir(), 'spillway-handbook-'))
  afterAll(() => rmSync(work, { recursive: true, force: true }))
  const days = names.map((name) => readDay(folder, name))
  /** The last transactions of so many customers are asked for by calls instead: history then ends where a call about them begins. */
  const asked = lastTransactions(500)

  function lastTransactions(count: number): ReadonlySet<number> {
    const last = new Map<number, number>()
    for (const id of days.at(-1)!.ids.keys()) last.set(days.at(-1)!.customers[id]!, days.at(-1)!.ids[id]!)
    return new Set([...last.values()].slice(0, count))
  }

  test('Given one process, then predictions carry the features that pandas computed, and so do calls as of their time', async () => {
    const topics = fraudNames('handbook-embedded')
    const pipeline = writePipeline(work, topics, { predictions: { features: true } })
    const data = join(work, 'embedded')
    mkdirSync(data)
    const path = join(data, `${topics.pipeline}.db`)
    const bus = new EmbeddedBus({ path })
    await bus.start(AbortSignal.timeout(60_000))
    await bus.topics.ensure([topics.transactions, topics.labels].map((name) => ({ name, partitions: 8 })))
    const kept = transactionEvents(days, (day, row) => asked.has(day.ids[row]!))
    const published = await publishEvents(bus, topics.transactions, kept)
    await publishEvents(bus, topics.labels, labelEvents(days))
    await bus.drain()

    const mesh = new SpillwayProcess(['up', '--pipeline', pipeline, '--data', data, ...anyPorts], work)
    const answered = new Map<number, ArrayLike<number>>()
    try {
      const base = await gatewayUrl(mesh)
      const startedMs = Date.now()
      await until(
        'every transaction to be answered',
        async () => (sentRecords(await metricsOf(base), topics.predictions) >= published - tooLateEach ? true : undefined),
        300_000,
        () => mesh.output.slice(-2000),
      )
      console.info(`${published} transactions in ${((Date.now() - startedMs) / 1000).toFixed(0)} s`)
      for (const day of days.slice(-1))
        for (const [row, id] of day.ids.entries())
          if (asked.has(id)) answered.set(id, await featuresOfCall(base, topics.pipeline, transactionJson(day, row)))
    } finally {
      await mesh.stop()
    }
    const calls = compareWithReference(
      folder,
      days,
      await namesOf(pipeline),
      (id) => answered.get(id),
      (id) => asked.has(id),
    )
    expectEqual('synchronous calls', calls, 400)
    const predicted = await predictedFeatures(path, topics.predictions)
    const streamed = compareWithReference(
      folder,
      days,
      await namesOf(pipeline),
      (id) => predicted.get(id),
      (id) => !asked.has(id),
    )
    expectEqual('mesh on the embedded bus', streamed, 190_000)
  }, 600_000)

  test('Given files, then the export has the features that pandas computed', async () => {
    const pipeline = writePipeline(work, fraudNames('handbook-export'))
    const [transactions, labels, out] = ['transactions.ndjson', 'labels.ndjson', 'features.ndjson'].map((name) => join(work, name))
    await writeLines(transactions!, transactionEvents(days))
    await writeLines(labels!, labelEvents(days))
    const [from] = names.slice(38)
    const exported = new SpillwayProcess(
      [
        'features',
        'export',
        '--pipeline',
        pipeline,
        '--input',
        `transactions=${transactions!}`,
        '--input',
        `labels=${labels!}`,
        '--out',
        out!,
        '--from',
        `${from!}T00:00:00Z`,
        '--label',
        'labels.fraud',
        '--on',
        'transaction_id',
      ],
      work,
    )
    expect(await exported.finished(300_000), exported.output.slice(-3000)).toBe(0)
    console.info(exported.output.trim().split('\n').at(-1))
    const columns = await namesOf(pipeline)
    const vectors = new Map<number, Float32Array>()
    const frauds = new Map<number, boolean>()
    for await (const line of createInterface({ input: createReadStream(out!) })) {
      const row = JSON.parse(line) as Record<string, unknown>
      vectors.set(
        Number(row['id']),
        Float32Array.from(columns, (name) => row[name] as number),
      )
      frauds.set(Number(row['id']), row['fraud'] as boolean)
    }
    expectEqual(
      'export',
      compareWithReference(folder, days, columns, (id) => vectors.get(id)),
      190_000,
    )
    for (const day of days)
      for (const [row, id] of day.ids.entries()) if (vectors.has(id)) expect(frauds.get(id), `label of ${id}`).toBe(day.frauds[row] === 1)
  }, 600_000)
})

function expectEqual(what: string, comparison: Comparison, atLeast: number): void {
  console.info(comparisonText(what, comparison))
  expect(comparison.unexplained.slice(0, 5)).toEqual([])
  expect(comparison.missing.slice(0, 5)).toEqual([])
  expect(comparison.ties.size).toBeLessThanOrEqual(8)
  expect(comparison.compared).toBeGreaterThanOrEqual(atLeast)
}

async function namesOf(pipeline: string): Promise<readonly string[]> {
  const { loadPipeline } = await import('@spillway/mesh')
  return (await loadPipeline(pipeline)).features.vector.names
}

async function featuresOfCall(base: string, pipeline: string, event: string): Promise<readonly number[]> {
  const response = await fetch(`${base}/v1/pipelines/${pipeline}:predict`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: `{"event":${event}}`,
  })
  const body = (await response.json()) as { prediction?: { features: Record<string, number> } }
  if (body.prediction === undefined) throw new Error(`${response.status}: ${JSON.stringify(body)}`)
  return Object.values(body.prediction.features)
}

async function predictedFeatures(path: string, topic: string): Promise<ReadonlyMap<number, ArrayLike<number>>> {
  const bus = new EmbeddedBus({ path })
  await bus.start(AbortSignal.timeout(60_000))
  const found = new Map<number, Float32Array>()
  for await (const { records } of slicesOn(bus, topic, 300_000))
    for (let row = 0; row < records.count; row++) {
      const { id, features } = JSON.parse(Buffer.from(bytesAt(records.values, row)).toString()) as {
        id: string
        features: Record<string, number>
      }
      expect(found.has(Number(id)), `a second prediction of ${id}`).toBe(false)
      found.set(Number(id), Float32Array.from(Object.values(features)))
    }
  await bus.drain()
  return found
}

async function writeLines(path: string, events: Iterable<{ readonly value: string }>): Promise<void> {
  const file = createWriteStream(path)
  for (const { value } of events) if (!file.write(`${value}\n`)) await once(file, 'drain')
  file.end()
  await once(file, 'close')
}
