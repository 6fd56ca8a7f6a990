import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { recordsOf } from '@spillway/bus'
import { type DeadLetter, type DeadLetterDesk, loadPipeline } from '@spillway/mesh'
import { Host, serviceNames } from 'spillway'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logisticModel, writeModel } from '../../libs/serving/test/onnx-builder.ts'
import { read, testTelemetry } from './mesh-run.ts'

/** Refuses amounts of 13, before the features or behind the tiers, for as long as its settings say so. */
const gate = `
export default {
  process(batch: any, { settings }: { settings: { shut: boolean } }) {
    const amounts = batch.columns.get('amount').data
    const failures = settings.shut ? [...amounts].flatMap((amount, row) => (amount === 13 ? [{ row, error: new Error('shut') }] : [])) : []
    return { batch, failures }
  },
}
`

interface Shape {
  readonly gateAt: 'events' | 'scored'
  readonly shut: boolean
  /** Of the event, beside its own: with another the rows between stages are made otherwise. */
  readonly moreFields?: string
  readonly scored?: 'local' | 'topic'
}

const folder = mkdtempSync(join(tmpdir(), 'spillway-redrive-'))
let data: string
let host: Host | undefined

beforeAll(async () => {
  await writeModel(join(folder, 'models'), 'm', 1, logisticModel([0.1, 0.01], -1))
  writeFileSync(join(folder, 'gate.ts'), gate)
})
beforeEach(() => {
  data = mkdtempSync(join(folder, 'data-'))
})
afterEach(async () => {
  await host?.drain()
  host = undefined
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Starts the pipeline anew on the same data. */
async function start({ gateAt, shut, moreFields = '', scored = 'local' }: Shape): Promise<{ host: Host; desk: DeadLetterDesk }> {
  await host?.drain()
  writeFileSync(
    join(folder, 'pipeline.yaml'),
    `pipeline: p
release: r1
partitions: 1
inputs:
  payments: { key: customer, lateness: 1h, fields: { customer: string, amount: number${moreFields} } }
features:
  histories: { customer: { input: payments, key: customer } }
  columns: { seen: { window: count, history: customer, length: 1h } }
  vector: [amount, seen]
stages: [{ name: gate, module: ./gate.ts, at: ${gateAt}${gateAt === 'scored' ? ', needs: [amount]' : ''}, settings: { shut: ${shut} } }]
cascade: { tiers: [{ model: m }] }
outputs: { predictions: { include: [customer], features: [seen] } }
placement: { scored: ${scored} }
`,
  )
  const free = { http: 0, grpc: 0 }
  host = new Host({
    pipeline: await loadPipeline(join(folder, 'pipeline.yaml')),
    services: new Set(serviceNames),
    bus: { kind: 'embedded', path: join(data, 'bus.db') },
    dataPath: data,
    host: '127.0.0.1',
    ports: new Map([
      ['gateway', free],
      ['model', free],
    ]),
    peers: new Map(),
    telemetry: testTelemetry(),
  })
  await host.start(new AbortController().signal)
  return { host, desk: host.process.gatewayPipeline().deadLetters }
}

const { signal } = new AbortController()
const payment = (customer: string, amount: number): string => JSON.stringify({ customer, amount })
const cloudEvent = (id: string, time: string): Record<string, string> => ({
  ce_specversion: '1.0',
  ce_type: 't',
  ce_source: 's',
  ce_id: id,
  ce_time: time,
})

async function publish(
  to: Host,
  ...events: readonly { readonly id: string; readonly time: string; readonly amount: number }[]
): Promise<void> {
  const rows = events.map(({ id, time, amount }) => ({ value: payment('c', amount), headers: cloudEvent(id, time) }))
  await to.bus.publish('payments', recordsOf(rows))
}

async function open(desk: DeadLetterDesk): Promise<readonly DeadLetter[]> {
  return (await desk.list({}, { limit: 100 }, signal)).letters
}

async function answers(from: Host, count: number): Promise<readonly unknown[]> {
  return (await read(from.bus, 'predictions', count)).map(({ value, headers }) => {
    const {
      id,
      event_time: time,
      features,
    } = JSON.parse(value.toString()) as { id: string; event_time: string; features: { seen: number } }
    return [id, time, features.seen, headers['spillway-redriven']]
  })
}

const positions = (letters: readonly DeadLetter[]): readonly string[] => letters.map(({ position }) => position)

describe('a letter that is given back', () => {
  it('is read again as the event that it was, where the fields have changed since: its id, its time, its place in history', async () => {
    const shut = await start({ gateAt: 'events', shut: true })
    await publish(
      shut.host,
      { id: 'a', time: '2026-01-01T00:00:00Z', amount: 1 },
      { id: 'b', time: '2026-01-01T00:01:00Z', amount: 13 },
      { id: 'c', time: '2026-01-01T00:02:00Z', amount: 2 },
    )
    await read(shut.host.bus, 'p.dead-letters', 1)
    const mended = await start({ gateAt: 'events', shut: false, moreFields: ', note: { type: string, optional: true }' })
    const letters = await open(mended.desk)
    expect(await mended.desk.settle(positions(letters), { outcome: 'redriven' }, signal)).toEqual({ settled: 1, left: [] })
    expect(await answers(mended.host, 3)).toEqual([
      ['a', '2026-01-01T00:00:00.000Z', 1, undefined],
      ['c', '2026-01-01T00:02:00.000Z', 2, undefined],
      ['b', '2026-01-01T00:01:00.000Z', 2, '1'],
    ])
    await publish(mended.host, { id: 'd', time: '2026-01-01T00:03:00Z', amount: 2 })
    expect((await answers(mended.host, 4))[3]).toEqual(['d', '2026-01-01T00:03:00.000Z', 4, undefined])
  })

  it('is read again where it could not be read before, and says the same where it still cannot', async () => {
    const { host: running, desk } = await start({ gateAt: 'events', shut: false })
    const soon = new Date(Date.now() + 3 * 86_400_000).toISOString()
    await running.bus.publish(
      'payments',
      recordsOf([
        { value: payment('c', 1).replace('1', '"x"'), headers: cloudEvent('a', '2026-01-01T00:00:00Z') },
        { value: payment('c', 1), headers: cloudEvent('b', soon) },
      ]),
    )
    await read(running.bus, 'p.dead-letters', 2)
    await desk.settle(positions(await open(desk)), { outcome: 'redriven' }, signal)
    const letters = await read(running.bus, 'p.dead-letters', 4)
    const said = letters.map(({ headers }) => [
      headers['spillway-event-id'],
      headers['spillway-code'],
      headers['spillway-message'],
      headers['spillway-redriven'],
    ])
    const messages = ['field "amount" must be a number, got "x"', expect.stringMatching(/lies more than a day in the future/)]
    expect(said).toEqual(
      [undefined, '1'].flatMap((times) => ['a', 'b'].map((id, index) => [id, 'INVALID_ARGUMENT', messages[index], times])),
    )
  })

  it('is a letter again where its windows look back to what is not kept any more, rather than a guess', async () => {
    const shut = await start({ gateAt: 'events', shut: true })
    await publish(
      shut.host,
      { id: 'a', time: '2026-01-01T00:00:00Z', amount: 1 },
      { id: 'b', time: '2026-01-01T00:01:00Z', amount: 13 },
      { id: 'c', time: '2026-01-02T00:00:00Z', amount: 2 },
    )
    await read(shut.host.bus, 'p.dead-letters', 1)
    const mended = await start({ gateAt: 'events', shut: false })
    await mended.desk.settle(positions(await open(mended.desk)), { outcome: 'redriven' }, signal)
    const [, again] = await read(mended.host.bus, 'p.dead-letters', 2)
    expect(again!.headers).toMatchObject({ 'spillway-code': 'OUT_OF_RANGE', 'spillway-redriven': '1', 'spillway-event-id': 'b' })
    expect(await open(mended.desk)).toMatchObject([{ code: 'OUT_OF_RANGE', redriven: 1 }])
  })

  it('of a segment that reads rows made otherwise today is refused, and takes the whole way from the input when asked to', async () => {
    const shut = await start({ gateAt: 'scored', shut: true, scored: 'topic' })
    await publish(shut.host, { id: 'a', time: '2026-01-01T00:00:00Z', amount: 13 }, { id: 'b', time: '2026-01-01T00:01:00Z', amount: 1 })
    await read(shut.host.bus, 'p.dead-letters', 1)
    const mended = await start({ gateAt: 'scored', shut: false, scored: 'topic', moreFields: ', note: { type: string, optional: true }' })
    const letters = positions(await open(mended.desk))
    const refused = await mended.desk.settle(letters, { outcome: 'redriven' }, signal)
    expect(refused).toEqual({
      settled: 0,
      left: [{ position: letters[0], reason: expect.stringMatching(/other features or fields/) as string }],
    })
    expect(await mended.desk.settle(letters, { outcome: 'redriven', at: 'input' }, signal)).toEqual({ settled: 1, left: [] })
    expect(await answers(mended.host, 2)).toEqual([
      ['b', '2026-01-01T00:01:00.000Z', 2, undefined],
      ['a', '2026-01-01T00:00:00.000Z', 1, '1'],
    ])
  })

  it('to a segment that there is no more by then is a letter again, and not lost', async () => {
    const shut = await start({ gateAt: 'scored', shut: true, scored: 'topic' })
    await publish(shut.host, { id: 'a', time: '2026-01-01T00:00:00Z', amount: 13 })
    const [letter] = await read(shut.host.bus, 'p.dead-letters', 1)
    const mended = await start({ gateAt: 'scored', shut: false })
    const [position] = positions(await open(mended.desk))
    const { left } = await mended.desk.settle([position!], { outcome: 'redriven' }, signal)
    expect(left).toMatchObject([{ reason: expect.stringMatching(/no segment "postprocessing" any more/) as string }])
    const headers = {
      ...letter!.headers,
      'spillway-letter': position!.split('-')[1]!,
      'spillway-outcome': 'redriven',
      'spillway-redriven': '1',
    }
    await mended.host.bus.publish('p.redrive', recordsOf([{ value: letter!.value, headers }]), 0)
    const [, again] = await read(mended.host.bus, 'p.dead-letters', 2)
    expect(again!.headers).toMatchObject({ 'spillway-code': 'FAILED_PRECONDITION', 'spillway-event-id': 'a', 'spillway-redriven': '1' })
  })
})

it('refuses what is no letter, and too many at once', async () => {
  const { desk, host: running } = await start({ gateAt: 'events', shut: false })
  await expect(desk.settle(['one'], { outcome: 'dropped' }, signal)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', field: 'position' })
  await expect(desk.settle(new Array<string>(501).fill('0-1'), { outcome: 'dropped' }, signal)).rejects.toMatchObject({
    field: 'positions',
  })
  const base = `http://127.0.0.1:${running.gateway.httpPort}/v1/pipelines/p/dead-letters`
  for (const [path, body, field] of [
    [':redrive', { positions: 'all' }, 'positions'],
    [':redrive', { positions: ['0-1'], at: 'head' }, 'at'],
    [':drop', { positions: ['0-1'], at: 'input' }, 'at'],
    ['?limit=0', undefined, 'limit'],
    ['?colour=red', undefined, 'colour'],
    ['?from=yesterday', undefined, 'from'],
    ['/0-', undefined, 'position'],
  ] as const) {
    const how = body && { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
    const answer = await fetch(base + path, how)
    expect([answer.status, ((await answer.json()) as { error: { field: string } }).error.field], path).toEqual([400, field])
  }
  expect((await fetch(`${base}/0-5`)).status).toBe(404)
})
