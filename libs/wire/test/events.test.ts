import { type BytesColumn, bytesColumn, column, MeshError, textAt, textColumn } from '@spillway/core'
import { compileEventReader, type EventRecords, inputSchema, inputSignature, type ReadEvents } from '@spillway/wire'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'

const input = inputSchema.parse({
  id: 'transaction_id',
  key: 'customer_id',
  time: 'tx_datetime',
  fields: {
    transaction_id: 'integer',
    customer_id: { type: 'integer', min: 0 },
    amount: { type: 'number', min: 0, max: 1_000_000 },
    tx_datetime: 'timestamp',
    foreign: { type: 'boolean', optional: true },
    note: { type: 'string', optional: true, maxLength: 5 },
  },
})

const source = { topic: 'transactions', partition: 3, offsets: BigInt64Array.from({ length: 100 }, (_, i) => BigInt(1000 + i)) }

function event(change: Record<string, unknown> = {}): string {
  return JSON.stringify({ transaction_id: 7, customer_id: 12, amount: 9.5, tx_datetime: '2018-04-01T00:00:31Z', ...change })
}

function records(values: readonly (string | Uint8Array)[], more: Partial<EventRecords> = {}): EventRecords {
  return {
    count: values.length,
    values: bytesColumn(values.map((value) => Buffer.from(value))),
    timestampsMs: new Float64Array(values.length).fill(50),
    ...more,
  }
}

function read(values: readonly (string | Uint8Array)[], more: Partial<EventRecords> = {}): ReadEvents {
  return compileEventReader(input).read(records(values, more), source, 99)
}

describe('good events', () => {
  test('become columns and metadata', () => {
    const { batch, failures, rejected } = read([event(), event({ transaction_id: 8, foreign: true, note: 'né"', extra: { a: [1, {}] } })], {
      keys: textColumn(['a', 'b']),
      headers: [
        undefined,
        {
          traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
          tracestate: 'v=1',
          'spillway-deadline-ms': '123',
          other: 'x',
        },
      ],
    })
    expect(failures).toEqual([])
    expect(rejected.rowCount).toBe(0)
    expect(column(batch, 'transaction_id')).toEqual({ datatype: 'INT64', shape: [2], data: BigInt64Array.of(7n, 8n) })
    expect(column(batch, 'amount').data).toEqual(Float64Array.of(9.5, 9.5))
    expect(column(batch, 'tx_datetime').data).toEqual(Float64Array.of(1522540831000, 1522540831000))
    expect(column(batch, 'foreign').data).toEqual(Float64Array.of(NaN, 1))
    expect(column(batch, 'note').datatype).toBe('BYTES')
    expect(textAt(column(batch, 'note').data as BytesColumn, 1)).toBe('né"')
    expect(batch.meta).toMatchObject({
      ids: ['7', '8'],
      keys: ['12', '12'],
      eventTimesMs: Float64Array.of(1522540831000, 1522540831000),
      ingestTimesMs: Float64Array.of(50, 50),
      deadlinesMs: Float64Array.of(Infinity, 123),
      traceParents: ['', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'],
      topics: ['transactions', 'transactions'],
      partitions: Int32Array.of(3, 3),
      headers: [{}, { tracestate: 'v=1', other: 'x' }],
    })
    expect(textAt(batch.meta.events, 0)).toBe(event())
    expect([...batch.columns].map(([name, { datatype }]) => [name, datatype])).toEqual(
      [...inputSignature(input)].map(([name, { datatype }]) => [name, datatype]),
    )
  })

  test('without an id, key or time field take those of the record', () => {
    const plain = compileEventReader(inputSchema.parse({ fields: { a: 'number' } }))
    const { batch } = plain.read(records(['{"a":1}', '{"a":2}'], { keys: textColumn(['k', '']) }), source, 99)
    expect(batch.meta).toMatchObject({
      ids: ['transactions/3/1000', 'transactions/3/1001'],
      keys: ['k', ''],
      eventTimesMs: Float64Array.of(50, 50),
    })
    const call = plain.read({ count: 1, values: textColumn(['{"a":1}']) }, undefined, 99)
    expect(call.batch.meta).toMatchObject({
      ids: [''],
      keys: [''],
      eventTimesMs: Float64Array.of(99),
      ingestTimesMs: Float64Array.of(99),
      topics: [''],
    })
  })

  test('keep 64-bit integers exact', () => {
    const bounds = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
    fc.assert(
      fc.property(bounds, (id) => {
        const { batch, failures } = read([event().replace('7', String(id))])
        expect(failures).toEqual([])
        expect(column(batch, 'transaction_id').data).toEqual(BigInt64Array.of(id))
        expect(batch.meta.ids).toEqual([String(id)])
      }),
    )
  })
})

describe('a bad event is a failure that names what is wrong', () => {
  const wrong: readonly [string, string | Uint8Array, string | undefined, RegExp][] = [
    ['empty', '', undefined, /empty/],
    ['no JSON', 'hello', undefined, /must be a JSON object, begins with "h"/],
    ['an array', '[]', undefined, /must be a JSON object/],
    ['cut short', event().slice(0, -1), undefined, /malformed JSON at its end: expected ',' or '}'/],
    ['two objects', `${event()}{}`, undefined, /nothing may follow the object/],
    ['a trailing comma', `${event().slice(0, -1)},}`, undefined, /a field must follow/],
    ['a missing field', '{"transaction_id":1,"customer_id":1,"tx_datetime":0}', 'amount', /field "amount" is missing/],
    ['a field given twice', `${event().slice(0, -1)},"amount":1}`, 'amount', /given twice/],
    ['a null', event({ amount: null }), 'amount', /must be a number, got null/],
    ['a string for a number', event({ amount: '9.5' }), 'amount', /must be a number, got "9.5"/],
    ['an object for a number', event({ amount: { a: 'x'.repeat(100) } }), 'amount', /must be a number, got {"a":"x{34}…/],
    ['NaN', event({ amount: 9.5 }).replace('9.5', 'NaN'), 'amount', /NaN is no JSON value/],
    ['-Infinity', event().replace('9.5', '-Infinity'), 'amount', /-Infinity is no JSON value/],
    ['more than a double holds', event().replace('9.5', '1e999'), 'amount', /out of range: no 64-bit float holds 1e999/],
    ['below the minimum', event({ amount: -0.5 }), 'amount', /must be at least 0, got -0.5/],
    ['above the maximum', event({ amount: 1_000_001 }), 'amount', /must be at most 1000000, got 1000001/],
    ['a fraction for an integer', event({ customer_id: 1.5 }), 'customer_id', /must be an integer, got 1.5/],
    ['more than 64 bits', event().replace('12', '9223372036854775808'), 'customer_id', /is no 64-bit integer/],
    [
      'a long number below the minimum',
      event().replace('12', '-9223372036854775808'),
      'customer_id',
      /must be at least 0, got -9223372036854775808/,
    ],
    ['a number for a boolean', event({ foreign: 1 }), 'foreign', /must be true or false, got 1/],
    ['a string too long', event({ note: 'abcdef' }), 'note', /at most 5 characters, got 6/],
    ['no time', event({ tx_datetime: 'yesterday' }), 'tx_datetime', /RFC 3339 time, .* got "yesterday"/],
    ['a time without offset', event({ tx_datetime: '2018-04-01T00:00:31' }), 'tx_datetime', /RFC 3339/],
    ['a day that is none', event({ tx_datetime: '2018-02-29T00:00:31Z' }), 'tx_datetime', /RFC 3339/],
    ['invalid UTF-8', Buffer.concat([Buffer.from('{"note":"'), Buffer.of(0xff), Buffer.from('"}')]), undefined, /no valid UTF-8/],
    ['too deep', `{"x":${'['.repeat(100)}`, undefined, /nested deeper than 64 levels/],
    ['a number that begins with 0', event().replace('9.5', '09'), 'amount', /does not begin with 0/],
    ['an unknown escape', event({ note: 'a' }).replace('"a"', '"\\x"'), 'note', /unknown escape/],
    ['a line break in a string', event({ note: 'a' }).replace('"a"', '"\n"'), 'note', /control character/],
  ]
  test.each(wrong)('%s', (_, value, field, text) => {
    const { batch, failures, rejected } = read([event(), value, event({ transaction_id: 9 })])
    expect(failures).toHaveLength(1)
    expect(failures[0]!.row).toBe(1)
    expect(failures[0]!.error).toBeInstanceOf(MeshError)
    expect(failures[0]!.error).toMatchObject({ code: 'INVALID_ARGUMENT', field })
    expect(failures[0]!.error.message).toMatch(text)
    expect(batch.meta.ids).toEqual(['7', '9'])
    expect(batch.meta.offsets).toEqual(BigInt64Array.of(1000n, 1002n))
    expect(column(batch, 'transaction_id').data).toEqual(BigInt64Array.of(7n, 9n))
    expect(Buffer.from(rejected.meta.events.bytes)).toEqual(Buffer.from(value))
    expect(rejected.meta.offsets).toEqual(BigInt64Array.of(1001n))
  })

  test('with all that is known of it', () => {
    const headers = { ce_id: 'a', ce_time: '2018-04-01T00:00:31Z', other: 'x' }
    const { rejected } = read([event({ amount: 'x' }), '{'], { keys: textColumn(['', 'record key']), headers: [headers, undefined] })
    expect(rejected.meta).toMatchObject({
      ids: ['7', 'transactions/3/1001'],
      keys: ['12', 'record key'],
      headers: [headers, {}],
      eventTimesMs: Float64Array.of(1522540831000, 50),
    })
    expect(rejected.columns.size).toBe(0)
  })

  test('larger than allowed', () => {
    const { failures } = compileEventReader(input, { maxEventBytes: 20 }).read(records([event()]), source, 0)
    expect(failures[0]!.error.message).toMatch(/has \d+ bytes, more than the 20 allowed/)
  })
})

describe('the reader agrees with JSON.parse', () => {
  const plain = compileEventReader(
    inputSchema.parse({ fields: { n: { type: 'number', optional: true }, s: { type: 'string', optional: true } } }),
  )
  const readOne = (json: string): ReadEvents => plain.read({ count: 1, values: textColumn([json]) }, undefined, 0)

  test('on every number', () => {
    const spelled = fc.oneof(
      fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => JSON.stringify(value)),
      fc.stringMatching(/^-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?$/),
      fc.tuple(fc.integer(), fc.integer({ min: 0, max: 12 })).map(([digits, places]) => (digits / 10 ** places).toFixed(places)),
    )
    fc.assert(
      fc.property(spelled, (number) => {
        const { batch, failures } = readOne(`{"n":${number}}`)
        const expected = JSON.parse(number) as number
        if (Number.isFinite(expected)) expect(column(batch, 'n').data).toEqual(Float64Array.of(expected))
        else expect(failures).toHaveLength(1)
      }),
      { numRuns: 3000 },
    )
  })

  test('on every string', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.boolean(), (text, escape) => {
        const json = JSON.stringify(text)
        const spelled = escape
          ? json.replace(/[^\\"]/gu, (unit) =>
              unit.length === 1 && !/["\\/bfnrtu0-9a-f]/.test(unit) ? `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}` : unit,
            )
          : json
        const { batch, failures } = readOne(`{"s":${spelled}}`)
        expect(failures).toEqual([])
        expect(textAt(column(batch, 's').data as BytesColumn, 0)).toBe(JSON.parse(spelled))
      }),
      { numRuns: 1000 },
    )
  })

  test('on what is JSON at all', () => {
    const damage = fc
      .tuple(fc.json({ maxDepth: 3 }), fc.nat(), fc.constantFrom('', '"', ',', '}', ']', '\\', '0', '.', '-', 'e', ' ', 'null', ':'))
      .map(([json, at, put]) => {
        const text = `{"x":${json},"y":1}`
        const place = at % text.length
        return text.slice(0, place) + put + text.slice(place + (at % 2))
      })
    fc.assert(
      fc.property(damage, (json) => {
        let parsed: unknown
        try {
          parsed = JSON.parse(json)
        } catch {
          parsed = undefined
        }
        const isObject = typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)
        expect(readOne(json).failures.length === 0, json).toBe(isObject)
      }),
      { numRuns: 3000 },
    )
  })
})

function part(value: number): string {
  return String(value).padStart(2, '0')
}

test('times are those of Date, at any offset', () => {
  const timed = compileEventReader(inputSchema.parse({ fields: { t: 'timestamp' } }))
  const dates = fc.date({ min: new Date('0001-01-02T00:00:00Z'), max: new Date('9999-12-30T00:00:00Z'), noInvalidDate: true })
  fc.assert(
    fc.property(dates, fc.integer({ min: -1439, max: 1439 }), (date, offset) => {
      const local = new Date(date.getTime() + offset * 60_000).toISOString().slice(0, -1)
      const zone = `${offset < 0 ? '-' : '+'}${part(Math.floor(Math.abs(offset) / 60))}:${part(Math.abs(offset) % 60)}`
      const events = [`{"t":"${date.toISOString()}"}`, `{"t":"${local}${zone}"}`, `{"t":${date.getTime()}}`]
      const { batch } = timed.read({ count: 3, values: textColumn(events) }, undefined, 0)
      expect(column(batch, 't').data).toEqual(new Float64Array(3).fill(date.getTime()))
    }),
    { numRuns: 1000 },
  )
})
