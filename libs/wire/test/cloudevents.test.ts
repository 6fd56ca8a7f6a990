import { column, rowMeta, textAt, textColumn } from '@spillway/core'
import { cloudEventHeaders, compileEventReader, inputSchema, type ReadEvents, type RecordHeaders } from '@spillway/wire'
import { describe, expect, test } from 'vitest'

const reader = compileEventReader(inputSchema.parse({ fields: { id: 'integer', amount: 'number' } }))
const traceParent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'

function read(value: string, headers: RecordHeaders): ReadEvents {
  const source = { topic: 't', partition: 0, offsets: BigInt64Array.of(4n) }
  return reader.read({ count: 1, values: textColumn([value]), timestampsMs: Float64Array.of(50), headers: [headers] }, source, 99)
}

describe('binary mode', () => {
  test('gives id, time, key and trace; what Spillway does not know passes through', () => {
    const { batch } = read('{"id":1,"amount":2}', {
      ce_specversion: '1.0',
      ce_id: 'A-1',
      ce_type: 'paid',
      ce_source: '/shop',
      ce_time: '2018-04-01T02:00:31.5+02:00',
      ce_partitionkey: 'customer 7',
      ce_subject: 's',
      'content-type': 'application/json',
      traceparent: traceParent,
      tracestate: 'v=1',
    })
    expect(batch.meta).toMatchObject({
      ids: ['A-1'],
      keys: ['customer 7'],
      eventTimesMs: Float64Array.of(1522540831500),
      traceParents: [traceParent],
      headers: [{ ce_subject: 's', tracestate: 'v=1' }],
    })
  })

  test('a trace parent that is none is left out, as W3C says', () => {
    expect(read('{"id":1,"amount":2}', { traceparent: 'zz' }).batch.meta.traceParents).toEqual([''])
  })

  test.each([
    [{ ce_time: 'soon' }, 'ce_time'],
    [{ ce_specversion: '0.3' }, 'ce_specversion'],
    [{ 'spillway-deadline-ms': 'soon' }, 'spillway-deadline-ms'],
  ])('a wrong header is a failure that names it: %j', (headers, field) => {
    const { failures, rejected } = read('{"id":1,"amount":2}', headers as RecordHeaders)
    expect(failures[0]!.error).toMatchObject({ code: 'INVALID_ARGUMENT', field })
    expect(rejected.meta.headers).toEqual([headers])
  })
})

describe('structured mode', () => {
  const structured = { 'content-type': 'application/cloudevents+json; charset=utf-8' }
  const envelope =
    '"specversion":"1.0","type":"paid","source":"/shop","id":"A-1","time":"2018-04-01T00:00:31Z","partitionkey":"k","traceparent":"' +
    traceParent +
    '","weight":3,"subject":"s"'

  test('takes the data out of the envelope, numbers exact', () => {
    const value = `{${envelope},"data":{"id":9007199254740993,"amount":2.5}}`
    const { batch, failures } = read(value, structured)
    expect(failures).toEqual([])
    expect(column(batch, 'id').data).toEqual(BigInt64Array.of(9007199254740993n))
    expect(batch.meta).toMatchObject({
      ids: ['A-1'],
      keys: ['k'],
      eventTimesMs: Float64Array.of(1522540831000),
      traceParents: [traceParent],
      headers: [{ ce_weight: '3', ce_subject: 's' }],
    })
    expect(textAt(batch.meta.events, 0)).toBe(value)
  })

  test('takes data_base64 too', () => {
    const data = Buffer.from('{"id":1,"amount":2.5}').toString('base64')
    expect(column(read(`{"data_base64":"${data}",${envelope}}`, structured).batch, 'amount').data).toEqual(Float64Array.of(2.5))
  })

  test.each([
    [`{${envelope}}`, 'data', /neither data nor data_base64/],
    [`{${envelope},"data":{"id":1}}`, 'amount', /is missing/],
    ['{"specversion":"0.3","data":{}}', 'specversion', /must be 1.0/],
    ['{"id":{},"data":{}}', 'id', /must be a text/],
    ['{"time":"soon","data":{}}', 'time', /RFC 3339/],
    [`{"data_base64":"${Buffer.of(0xff).toString('base64')}"}`, 'data_base64', /UTF-8/],
    [`{"data_base64":"*${Buffer.from('{"id":1,"amount":2}').toString('base64')}"}`, 'data_base64', /must be base64/],
    [`{${envelope},"data":{"id":1,"amount":2},"data":{"id":2,"amount":2}}`, 'data', /is given twice/],
    [`{${envelope},"data":{"id":1,"amount":2},"data_base64":"e30="}`, 'data', /as data and as data_base64/],
    [`{${envelope},"id":"A-2","data":{"id":1,"amount":2}}`, 'id', /is given twice/],
    ['[]', undefined, /expected a CloudEvent/],
    [`{${envelope}`, undefined, /malformed/],
  ])('what is wrong is named: %s', (value, field, text) => {
    const { failures } = read(value, structured)
    expect(failures[0]!.error).toMatchObject({ code: 'INVALID_ARGUMENT', field })
    expect(failures[0]!.error.message).toMatch(text)
  })
})

test('output events have attributes of their own, the trace, and what passed through', () => {
  const meta = rowMeta(2, {
    ids: ['a', 'b'],
    eventTimesMs: Float64Array.of(1522540831500, NaN),
    traceParents: [traceParent, ''],
    headers: [{ tracestate: 'v=1' }, {}],
  })
  const own = { ce_specversion: '1.0', ce_type: 'fraud.prediction', ce_source: 'spillway/fraud', 'content-type': 'application/json' }
  expect(cloudEventHeaders(meta, { type: 'fraud.prediction', source: 'spillway/fraud' })).toEqual([
    { ...own, ce_id: 'a', ce_time: '2018-04-01T00:00:31.500Z', traceparent: traceParent, tracestate: 'v=1' },
    { ...own, ce_id: 'b', ce_time: '1970-01-01T00:00:00.000Z' },
  ])
})
