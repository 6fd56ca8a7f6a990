import { createRequire } from 'node:module'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { encodeRecordBatch } from '../src/kafka/record-batch.ts'
import { recordsOf } from '../src/mod.ts'

const require = createRequire(import.meta.url)
interface Decoded {
  readonly records: readonly { offset: string; timestamp: string; key: Buffer | null; value: Buffer; headers: Record<string, Buffer> }[]
}
const decodeBatch = require('kafkajs/src/protocol/recordBatch/v0/decoder.js') as (decoder: unknown) => Promise<Decoded>
const Decoder = require('kafkajs/src/protocol/decoder.js') as new (buffer: Buffer) => unknown

const rows = fc.array(
  fc.record({
    key: fc.string({ maxLength: 40 }),
    value: fc.uint8Array({ maxLength: 200 }),
    timestampMs: fc.integer({ min: 0, max: 4_000_000_000_000 }),
    headers: fc.option(
      fc.dictionary(fc.stringMatching(/^x-[a-z]{1,12}$/), fc.string({ unit: 'binary', maxLength: 80 }), {
        maxKeys: 4,
        noNullPrototype: true,
      }),
      { nil: undefined },
    ),
  }),
  { minLength: 1, maxLength: 150 },
)

test('a record batch reads back, by another decoder, as the records that it was made of', async () => {
  await fc.assert(
    fc.asyncProperty(rows, async (given) => {
      const records = recordsOf(given.map(({ headers, ...row }) => ({ ...row, ...(headers && { headers }) })))
      const batch = encodeRecordBatch(records, { producerId: 12n, producerEpoch: 3, firstSequence: 77, transactional: true }, 0)
      const { records: read } = await decodeBatch(new Decoder(batch))
      expect(read.map(({ offset }) => Number(offset))).toEqual(given.map((_, row) => row))
      expect(read.map(({ timestamp }) => Number(timestamp))).toEqual(given.map(({ timestampMs }) => timestampMs))
      expect(read.map(({ key }) => key?.toString() ?? '')).toEqual(given.map(({ key }) => Buffer.from(key).toString()))
      expect(read.map(({ value }) => [...(value ?? [])])).toEqual(given.map(({ value }) => [...value]))
      const texts = read.map(({ headers }) => Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value.toString()])))
      const expected = given.map(({ headers = {} }) =>
        Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, Buffer.from(value).toString()])),
      )
      expect(texts).toEqual(expected)
    }),
    { numRuns: 200 },
  )
})
