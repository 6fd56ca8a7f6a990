import type { Slice } from '@spillway/bus'
import { textAt } from '@spillway/core'
import { expect, it } from 'vitest'
import { post, type Started, startGateway } from './fixture.ts'

interface Row {
  readonly partition: number
  readonly offset: string
  readonly key: string
  readonly value: string
  readonly headers: Readonly<Record<string, string>>
}

function rows({ partition, offsets, records }: Slice): Row[] {
  return Array.from(offsets, (offset, row) => ({
    partition,
    offset: String(offset),
    key: records.keys === undefined ? '' : textAt(records.keys, row),
    value: textAt(records.values, row),
    headers: { ...records.headers?.[row] },
  }))
}

async function read({ bus }: Started, count: number): Promise<Row[]> {
  const stop = new AbortController()
  const found: Row[] = []
  for await (const slice of bus.subscribe({ topic: 'transactions', from: 'earliest', maxSliceRecords: 100, signal: stop.signal })) {
    found.push(...rows(slice))
    if (found.length >= count) break
  }
  stop.abort()
  return found
}

/** The rows in the order in which their positions were answered. */
async function published(started: Started, response: Response): Promise<Row[]> {
  expect(response.status).toBe(200)
  const { positions } = (await response.json()) as { positions: { partition: number; offset: string }[] }
  const all = await read(started, positions.length)
  return positions.map((position) => all.find((row) => row.partition === position.partition && row.offset === position.offset)!)
}

const exact = ['{"customer": 7, "id": 9007199254740993,  "amount":1.0}', '{"customer": 7, "id":18446744073709551615}', '{"odd": [1, "]"]}']

it('appends JSON events byte for byte, keyed by the field that the input names', async () => {
  const started = await startGateway()
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
  const response = await post(`${started.url}/v1/topics/transactions/events?key=other`, ` [${exact.join(' , ')}] `, {
    traceparent,
    tracestate: 'a=b',
  })
  const found = await published(started, response)
  expect(found.map((row) => row.value)).toEqual(exact)
  expect(found.map((row) => row.key)).toEqual(['7', '7', 'other'])
  expect(found[0]!.partition).toBe(found[1]!.partition)
  expect(found[0]!.headers).toEqual({ 'content-type': 'application/json', traceparent, tracestate: 'a=b' })
})

it('takes one event, and lines', async () => {
  const one = await startGateway()
  const single = await published(one, await post(`${one.url}/v1/topics/transactions/events`, exact[0]!))
  expect(single.map((row) => row.value)).toEqual([exact[0]])
  const many = await startGateway()
  const lines = await post(`${many.url}/v1/topics/transactions/events`, `${exact.join('\n')}\n\n{no json`, {
    'content-type': 'application/x-ndjson',
  })
  expect((await published(many, lines)).map((row) => row.value)).toEqual([...exact, '{no json'])
})

it('takes CloudEvents in binary mode', async () => {
  const started = await startGateway()
  const headers = { 'ce-specversion': '1.0', 'ce-id': 'a%20%C3%A9', 'ce-source': '/shop', 'ce-type': 'card.used', 'ce-partitionkey': 'k' }
  const [row] = await published(started, await post(`${started.url}/v1/topics/transactions/events`, '{"amount": 1}', headers))
  const kept = {
    ce_specversion: '1.0',
    ce_id: 'a é',
    ce_source: '/shop',
    ce_type: 'card.used',
    ce_partitionkey: 'k',
    'content-type': 'application/json',
  }
  expect(row).toMatchObject({ key: 'k', value: '{"amount": 1}', headers: kept })
})

it('takes CloudEvents in structured mode and in batches, data byte for byte', async () => {
  const started = await startGateway()
  const envelope = '"specversion":"1.0","id":"1","source":"/shop","type":"card.used"'
  const events = [
    `{${envelope},"data": {"id": 9007199254740993}}`,
    `{${envelope},"data_base64":"eyJhIjoxfQ=="}`,
    `{${envelope},"seq":5,"datacontenttype":"text/plain","data":"hi"}`,
  ]
  const batch = await post(`${started.url}/v1/topics/transactions/events`, `[${events.join(',')}]`, {
    'content-type': 'application/cloudevents-batch+json',
  })
  const found = await published(started, batch)
  expect(found.map((row) => row.value)).toEqual(['{"id": 9007199254740993}', '{"a":1}', 'hi'])
  expect(found[2]!.headers).toMatchObject({ ce_seq: '5', ce_type: 'card.used', 'content-type': 'text/plain' })
  const other = await startGateway()
  const single = await post(`${other.url}/v1/topics/transactions/events`, events[0]!, {
    'content-type': 'application/cloudevents+json; charset=utf-8',
  })
  expect((await published(other, single))[0]!.value).toBe('{"id": 9007199254740993}')
})

it('refuses what it cannot take', async () => {
  const { url, bus } = await startGateway()
  const events = `${url}/v1/topics/transactions/events`
  const structured = { 'content-type': 'application/cloudevents+json' }
  const cases: readonly [Promise<Response>, number, object][] = [
    [post(events, '{"a":'), 400, { code: 'INVALID_ARGUMENT' }],
    [post(events, ''), 400, { code: 'INVALID_ARGUMENT' }],
    [post(events, 'x', { 'content-type': 'text/csv' }), 415, { code: 'INVALID_ARGUMENT' }],
    [post(`${url}/v1/topics/unknown/events`, '{}'), 404, { code: 'NOT_FOUND' }],
    [post(`${url}/v1/topics/predictions/events`, '{}'), 403, { code: 'PERMISSION_DENIED' }],
    [post(events, '{}', { 'ce-specversion': '1.0', 'ce-id': '1', 'ce-source': 'x' }), 400, { field: 'ce-type' }],
    [post(events, '{}', { 'ce-specversion': '2.0', 'ce-id': '1', 'ce-source': 'x', 'ce-type': 't' }), 400, { field: 'ce-specversion' }],
    [post(events, '{"specversion":"1.0"}', structured), 400, { field: 'id' }],
    [post(events, '[]', structured), 400, { code: 'INVALID_ARGUMENT' }],
    [post(events, JSON.stringify('x'.repeat(bus.maxRecordBytes))), 400, { code: 'INVALID_ARGUMENT' }],
  ]
  for (const [pending, status, error] of cases) {
    const response = await pending
    expect([response.status, await response.json()]).toEqual([status, { error: expect.objectContaining(error) }])
  }
  expect((await bus.topics.offsets('transactions')).every(({ end }) => end === 0n)).toBe(true)
})
