import { bytesAt } from '@spillway/core'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { chunkEnd, decodeChunk, encodeChunk, endWithin, runningSizes } from '../src/embedded/chunk.ts'
import { recordBytes, recordsOf, sliceRecords } from '../src/records.ts'

const row = fc.record(
  {
    key: fc.uint8Array({ maxLength: 9 }),
    value: fc.uint8Array({ maxLength: 20 }),
    headers: fc.dictionary(fc.string(), fc.string({ unit: 'grapheme' })),
    timestampMs: fc.nat(),
  },
  { requiredKeys: ['value'] },
)

test('any range of records comes back as it went in', () => {
  fc.assert(
    fc.property(fc.array(row, { minLength: 1, maxLength: 12 }), fc.nat(11), fc.nat(7), (rows, skip, shift) => {
      const all = recordsOf(rows)
      const start = Math.min(skip, rows.length - 1)
      const records = sliceRecords(all, start, rows.length)
      const encoded = encodeChunk(records, runningSizes(records), 99)
      // The database may hand the bytes out at any place of a larger buffer.
      const placed = new Uint8Array(encoded.byteLength + shift).subarray(shift)
      placed.set(encoded)
      const { base, records: decoded, sizes } = decodeChunk(5, placed)
      expect([base, decoded.count]).toEqual([5, rows.length - start])
      for (const [i, expected] of rows.slice(start).entries()) {
        expect([...bytesAt(decoded.values, i)]).toEqual([...expected.value])
        expect(decoded.keys ? [...bytesAt(decoded.keys, i)] : []).toEqual([...(expected.key ?? [])])
        expect(decoded.headers?.[i]).toEqual(expected.headers)
        expect(decoded.timestampsMs[i]).toBe(expected.timestampMs ?? 99)
        expect(sizes[i + 1]! - sizes[i]!).toBe(recordBytes(all, start + i))
      }
    }),
  )
})

test('damaged bytes are DATA_LOSS', () => {
  const records = recordsOf([{ key: 'k', value: 'v' }, { value: 'w' }])
  const encoded = encodeChunk(records, runningSizes(records), 0)
  const lost = expect.objectContaining({ code: 'DATA_LOSS' })
  for (let length = 0; length < encoded.byteLength; length++) expect(() => decodeChunk(0, encoded.slice(0, length))).toThrow(lost)
  for (let at = 0; at < 24; at += 4) {
    const damaged = encoded.slice()
    damaged[at + 3] = 0xff
    if (at !== 4) expect(() => decodeChunk(0, damaged)).toThrow(lost)
  }
})

test('the end of a range is the furthest within the bytes, and at least one record on', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(50), { minLength: 1, maxLength: 30 }), fc.nat(29), fc.nat(200), (lengths, from, maxBytes) => {
      const sizes = Uint32Array.from([0, ...lengths])
      for (let i = 1; i < sizes.length; i++) sizes[i]! += sizes[i - 1]!
      const start = Math.min(from, lengths.length - 1)
      let expected = start + 1
      while (expected < lengths.length && sizes[expected + 1]! - sizes[start]! <= maxBytes) expected++
      expect(endWithin(sizes, start, lengths.length, maxBytes)).toBe(expected)
    }),
  )
  expect(chunkEnd(new Uint32Array(10_001), 100)).toBe(100 + 4096)
})
