import { type BytesColumn, bytesCount, rowMeta, type Tensor, text, textAt } from '@spillway/core'
import { compileEventReader, compileEventWriter, inputSchema, type OutputField } from '@spillway/wire'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'

function write(tensor: Tensor, as?: OutputField['as']): string[] {
  const rowCount = tensor.shape[0]!
  const field: OutputField = { name: 'v', source: { column: 'v' }, ...(as === undefined ? {} : { as }) }
  return rowsOf(compileEventWriter([field]).write({ rowCount, meta: rowMeta(rowCount), columns: new Map([['v', tensor]]) })).map((json) =>
    json.slice('{"v":'.length, -1),
  )
}

function rowsOf(column: BytesColumn): string[] {
  return Array.from({ length: bytesCount(column) }, (_, row) => textAt(column, row))
}

describe('a value is written as its datatype says', () => {
  test.each<[string, Tensor, OutputField['as'], string[]]>([
    ['FP64', { datatype: 'FP64', shape: [4], data: Float64Array.of(0.1, -0, NaN, Infinity) }, undefined, ['0.1', '0', 'null', 'null']],
    [
      'FP32',
      { datatype: 'FP32', shape: [4], data: Float32Array.of(0.1, 0.123456, 16_777_216, NaN) },
      undefined,
      ['0.1', '0.123456', '16777216', 'null'],
    ],
    [
      'INT64',
      { datatype: 'INT64', shape: [3], data: BigInt64Array.of(-1n, 2n ** 63n - 1n, -(2n ** 53n) - 1n) },
      undefined,
      ['-1', '9223372036854775807', '-9007199254740993'],
    ],
    ['UINT64', { datatype: 'UINT64', shape: [1], data: BigUint64Array.of(2n ** 64n - 1n) }, undefined, ['18446744073709551615']],
    ['BOOL', { datatype: 'BOOL', shape: [2], data: Uint8Array.of(0, 1) }, undefined, ['false', 'true']],
    [
      'a boolean that may be absent',
      { datatype: 'FP64', shape: [3], data: Float64Array.of(0, 1, NaN) },
      'boolean',
      ['false', 'true', 'null'],
    ],
    [
      'a time',
      { datatype: 'FP64', shape: [3], data: Float64Array.of(1522540831005.9, -1, NaN) },
      'timestamp',
      ['"2018-04-01T00:00:31.005Z"', '"1969-12-31T23:59:59.999Z"', 'null'],
    ],
    ['text', text(['plain', 'a"b\\', 'é\n']), undefined, ['"plain"', '"a\\"b\\\\"', '"é\\n"']],
    ['JSON', text(['{"a":[1]}', 'null']), 'json', ['{"a":[1]}', 'null']],
    ['several values a row', { datatype: 'FP32', shape: [2, 2], data: Float32Array.of(1, 2, 3, NaN) }, undefined, ['[1,2]', '[3,null]']],
    ['no value a row', { datatype: 'FP32', shape: [1, 0], data: new Float32Array(0) }, undefined, ['[]']],
  ])('%s', (_, tensor, as, expected) => {
    expect(write(tensor, as)).toEqual(expected)
  })

  test('every float reads back as it was', () => {
    const floats = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0))
    fc.assert(
      fc.property(floats, (values) => {
        const written = write({ datatype: 'FP32', shape: [values.length], data: Float32Array.from(values) })
        expect(written.map((json) => Math.fround(Number(json)))).toEqual(values)
      }),
    )
  })

  test('every text reads back as it was', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme' })), (values) => {
        expect(write(text(values)).map((json) => JSON.parse(json) as unknown)).toEqual(values)
      }),
    )
  })

  test('every time is that of Date', () => {
    fc.assert(
      fc.property(fc.array(fc.date({ noInvalidDate: true })), (dates) => {
        const times = Float64Array.from(dates, (date) => date.getTime())
        expect(write({ datatype: 'FP64', shape: [times.length], data: times }, 'timestamp')).toEqual(
          dates.map((date) => JSON.stringify(date)),
        )
      }),
    )
  })

  test('a column that cannot be written so is refused', () => {
    expect(() => write(text(['a']), 'timestamp')).toThrow(/a BYTES column cannot be written as timestamp/)
    expect(() => write({ datatype: 'FP16', shape: [1], data: new Uint16Array(1) })).toThrow(/FP16/)
    expect(() =>
      compileEventWriter([{ name: 'a', source: { column: 'b' } }]).write({ rowCount: 0, meta: rowMeta(0), columns: new Map() }),
    ).toThrow(/no column "b"/)
  })
})

test('what was read is written, field by field', () => {
  const input = inputSchema.parse({ fields: { id: 'integer', amount: 'number', at: 'timestamp', ok: 'boolean', note: 'string' } })
  const eventArbitrary = fc.record({
    id: fc.maxSafeInteger(),
    amount: fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0),
    at: fc.date({ min: new Date('0001-01-01'), max: new Date('9999-12-31'), noInvalidDate: true }).map((date) => date.toISOString()),
    ok: fc.boolean(),
    note: fc.string({ unit: 'grapheme' }),
  })
  const reader = compileEventReader(input)
  const writer = compileEventWriter(
    Object.keys(input.fields).map((name) => ({ name, source: { column: name }, ...(name === 'at' ? { as: 'timestamp' as const } : {}) })),
  )
  fc.assert(
    fc.property(fc.array(eventArbitrary, { maxLength: 5 }), (events) => {
      const { batch, failures } = reader.read(
        { count: events.length, values: text(events.map((event) => JSON.stringify(event))).data },
        undefined,
        0,
      )
      expect(failures).toEqual([])
      expect(rowsOf(writer.write(batch)).map((json) => JSON.parse(json) as unknown)).toEqual(events)
    }),
  )
})

test('values of a row are an object where they are named', () => {
  const column: Tensor = { datatype: 'FP32', shape: [2, 3], data: Float32Array.of(0.1, 2, NaN, 4, 5, 6) }
  const batch = { rowCount: 2, meta: rowMeta(2), columns: new Map([['v', column]]) }
  const elements = [
    { name: 'channel=web', index: 2 },
    { name: 'amount', index: 0 },
  ]
  const named = compileEventWriter([{ name: 'features', source: { column: 'v' }, elements }])
  expect(rowsOf(named.write(batch))).toEqual([
    '{"features":{"channel=web":null,"amount":0.1}}',
    '{"features":{"channel=web":6,"amount":4}}',
  ])
  const none = compileEventWriter([{ name: 'features', source: { column: 'v' }, elements: [] }])
  expect(rowsOf(none.write(batch))).toEqual(['{"features":{}}', '{"features":{}}'])
})

test('ids, keys and times come from the metadata; an output without fields is an empty object', () => {
  const meta = rowMeta(1, { ids: ['a"'], eventTimesMs: Float64Array.of(0), ingestTimesMs: Float64Array.of(5) })
  const batch = { rowCount: 1, meta, columns: new Map<string, Tensor>() }
  const fields: OutputField[] = [
    { name: 'id', source: { meta: 'ids' } },
    { name: 'time', source: { meta: 'eventTimesMs' }, as: 'timestamp' },
    { name: 'taken', source: { meta: 'ingestTimesMs' } },
  ]
  expect(rowsOf(compileEventWriter(fields).write(batch))).toEqual(['{"id":"a\\"","time":"1970-01-01T00:00:00.000Z","taken":5}'])
  expect(rowsOf(compileEventWriter([]).write(batch))).toEqual(['{}'])
})
