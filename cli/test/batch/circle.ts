import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Bus, EmbeddedBus, KafkaBus, type Records } from '@spillway/bus'

import { type PlayEvent, topicRecords } from '@spillway/example-fraud'
import { loadPipeline } from '@spillway/mesh'
import { type BusAddress, Host, serviceNames } from 'spillway'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { spillway } from '../command.ts'
import { read, testTelemetry } from '../mesh-run.ts'
import { expectSameAnswers, killedMidway, killedWhen, linesOf, playedDays, rowsOf, writePipeline } from './fixture.ts'

const partitions = 4
type Address = Exclude<BusAddress, { readonly kind: 'nats' }>
const signal = AbortSignal.timeout(600_000)

/** From events to what is served, logged, exported and filled in: all of them must be the same. */
export function provesTheCircle(addressIn: (folder: string) => Address): void {
  const run = `circle-${Date.now()}`
  const folder = mkdtempSync(join(tmpdir(), 'spillway-circle-'))
  const place = (name: string): string => join(folder, name)
  const address = addressIn(folder)
  const busOption = address.kind === 'kafka' ? `kafka://${address.brokers.join(',')}` : `embedded:${address.path}`
  const events = playedDays(40)
  const count = events.filter(({ topic }) => topic === 'transactions').length
  let pipeline: string
  let predictions: readonly string[]
  let alerts: readonly string[]

  beforeAll(async () => {
    pipeline = writePipeline(folder, changes(run))
    await withBus(address, async (bus) => {
      await bus.topics.ensure(['transactions', 'labels'].map((topic) => ({ name: `${run}.${topic}`, partitions })))
      await publish(bus, run, events)
    })
    const host = await serve(pipeline, address, place('data'))
    predictions = values(await read(host.bus, `${run}.predictions`, count))
    await host.drain()
    alerts = predictions.filter((line) => (JSON.parse(line) as { decision: boolean }).decision)
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  const features = async (command: string, ...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await spillway(['features', command, '--pipeline', pipeline, '--bus', busOption, ...args], folder)
    expect(code, stderr).toBe(0)
    return stdout + stderr
  }

  it('exports what was served: the log of it has no skew against the export', async () => {
    await features('log', '--out', place('log'))
    await features('export', '--out', place('export.parquet'), '--label', 'labels.fraud', '--on', 'transaction_id')
    const { code, stdout } = await spillway(['features', 'diff', place('log'), place('export.parquet'), '--json'], folder)
    expect([code, JSON.parse(stdout)]).toMatchObject([
      0,
      { rowsCompared: count, rowsThatDiffer: 0, onlyInLog: { rows: 0 }, onlyInTraining: { rows: 0 } },
    ])
    const again = await features('log', '--out', place('log'))
    expect(again).toMatch(/ 0 of them new/)
    expect(await rowsOf(place('log'))).toHaveLength(count)
  })

  it('fills in predictions and alerts as they were served', async () => {
    const args = ['backfill', '--pipeline', pipeline, '--bus', busOption, '--out', place('filled'), '--work', place('work')]
    await killedMidway([...args, '--checkpoint-every', '50ms'], folder, place('work'))
    const { code, stderr } = await spillway(args, folder)
    expect(code, stderr).toBe(0)
    expectSameAnswers(linesOf(place('filled/predictions')), predictions)
    expectSameAnswers(linesOf(place('filled/alerts')), alerts)
  })

  it('fills in topics, each event once though it is killed, and takes nothing that came in later', async () => {
    const args = ['backfill', '--pipeline', pipeline, '--bus', busOption, '--out-topic-suffix', '.again', '--work', place('topics')]
    // What is in the histories' log was appended by slices: some of them are committed by now.
    const log = place('topics/histories.db-wal')
    const killed = await killedWhen(args, folder, () => existsSync(log) && statSync(log).size > 200_000)
    expect(killed, 'the run was over before it was killed').toBe(true)
    const { code, stderr } = await spillway(args, folder)
    expect(code, stderr).toBe(0)
    await withBus(address, async (bus) => {
      await publish(bus, run, events.slice(0, 100))
      expectSameAnswers(values(await read(bus, `${run}.predictions.again`, count)), predictions)
      expectSameAnswers(values(await read(bus, `${run}.alerts.again`, alerts.length)), alerts)
      const ends = await bus.topics.offsets(`${run}.dead-letters.again`)
      expect(ends.every(({ earliest, end }) => earliest === end)).toBe(true)
    })
    const over = await spillway(args, folder)
    expect([over.code, over.stderr]).toEqual([2, expect.stringMatching(/run "default" has come to its end/)])
  })
}

function changes(run: string): Readonly<Record<string, unknown>> {
  return {
    pipeline: run,
    partitions,
    featureLog: {},
    inputs: Object.fromEntries(
      Object.entries(inputDefinitions).map(([name, definition]) => [name, { ...definition, topic: `${run}.${name}` }]),
    ),
    outputs: {
      predictions: { topic: `${run}.predictions`, include: ['transaction_id', 'customer_id', 'amount'] },
      alerts: { topic: `${run}.alerts`, atLeast: 0.5 },
    },
  }
}

const inputDefinitions = {
  transactions: {
    id: 'transaction_id',
    key: 'customer_id',
    time: 'tx_datetime',
    lateness: '7d',
    fields: { transaction_id: 'integer', customer_id: 'integer', terminal_id: 'integer', amount: 'number', tx_datetime: 'timestamp' },
  },
  labels: {
    predict: false,
    id: 'transaction_id',
    key: 'terminal_id',
    time: 'tx_datetime',
    lateness: '30d',
    fields: { transaction_id: 'integer', terminal_id: 'integer', tx_datetime: 'timestamp', fraud: 'boolean' },
  },
} as const

async function withBus(address: Address, work: (bus: Bus) => Promise<void>): Promise<void> {
  const bus =
    address.kind === 'kafka' ? new KafkaBus({ brokers: address.brokers, clientId: 'circle' }) : new EmbeddedBus({ path: address.path })
  await bus.start(signal)
  try {
    await work(bus)
  } finally {
    await bus.drain()
  }
}

/** Transactions are logged as they happen and labels as they become known: not all of one before the other. */
async function publish(bus: Bus, run: string, events: readonly PlayEvent[]): Promise<void> {
  for (let start = 0; start < events.length; start += 1000) {
    for (const topic of ['transactions', 'labels'] as const) {
      const records: Records = topicRecords(events.slice(start, start + 1000), topic)
      if (records.count > 0) await bus.publish(`${run}.${topic}`, records)
    }
  }
}

async function serve(pipeline: string, address: BusAddress, dataPath: string): Promise<Host> {
  const free = { http: 0, grpc: 0 }
  const host = new Host({
    pipeline: await loadPipeline(pipeline),
    services: new Set(serviceNames),
    bus: address,
    dataPath,
    host: '127.0.0.1',
    ports: new Map([
      ['gateway', free],
      ['model', free],
    ]),
    peers: new Map(),
    telemetry: testTelemetry(),
  })
  await host.start(signal)
  return host
}

function values(records: readonly { readonly value: Buffer }[]): readonly string[] {
  return records.map(({ value }) => value.toString()).sort()
}
