import { bytesAt, textAt } from '@spillway/core'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  checkRecords,
  choosePartitions,
  concatRecords,
  keyPartition,
  murmur2,
  recordBytes,
  recordsBytesLimit,
  recordsOf,
  sliceRecords,
  takeRecords,
} from '../src/records.ts'

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)

describe('partition by key', () => {
  // Apache Kafka, clients/src/test/.../common/utils/UtilsTest.java, testMurmur2.
  test.each([
    ['21', -973932308],
    ['foobar', -790332482],
    ['a-little-bit-long-string', -985981536],
    ['a-little-bit-longer-string', -1486304829],
    ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
    ['abc', 479470107],
  ])('murmur2 of %s', (key, hash) => {
    expect(murmur2(utf8(key))).toBe(hash)
    expect(keyPartition(utf8(key), 8)).toBe((hash & 0x7fffffff) % 8)
  })

  test('keyless records go round, over calls too', () => {
    const turn = { next: 0 }
    const records = recordsOf([{ value: 'a' }, { value: 'b' }])
    expect([...choosePartitions(records, 3, turn), ...choosePartitions(records, 3, turn)]).toEqual([0, 1, 2, 0])
  })
})

const row = fc.record(
  { key: fc.string(), value: fc.uint8Array({ maxLength: 20 }), headers: fc.dictionary(fc.string(), fc.string()), timestampMs: fc.nat() },
  { requiredKeys: ['value'] },
)

test('slice, take and concat agree with the rows', () => {
  fc.assert(
    fc.property(fc.array(row, { maxLength: 12 }), fc.nat(12), (rows, at) => {
      const records = recordsOf(rows)
      const cut = Math.min(at, rows.length)
      const joined = concatRecords([
        sliceRecords(records, 0, cut),
        takeRecords(
          records,
          Array.from({ length: rows.length - cut }, (_, i) => cut + i),
        ),
      ])
      checkRecords(joined, 10_000)
      expect(joined.count).toBe(rows.length)
      for (const [i, expected] of rows.entries()) {
        expect(joined.keys ? textAt(joined.keys, i) : '').toBe(new TextDecoder().decode(utf8(expected.key ?? '')))
        expect([...bytesAt(joined.values, i)]).toEqual([...expected.value])
        expect(joined.headers?.[i]).toEqual(expected.headers)
        expect(joined.timestampsMs?.[i] ?? NaN).toBe(expected.timestampMs ?? NaN)
      }
      expect(recordsBytesLimit(joined)).toBeGreaterThanOrEqual(rows.reduce((sum, _, i) => sum + recordBytes(records, i), 0))
    }),
  )
})

test('checkRecords names the column or record that is wrong', () => {
  const records = recordsOf([{ value: 'a' }, { value: 'too long' }])
  expect(() => checkRecords(records, 4)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', field: 'records[1]' }))
  expect(() => checkRecords({ ...records, timestampsMs: new Float64Array(1) }, 100)).toThrow(
    expect.objectContaining({ field: 'records.timestampsMs' }),
  )
})
