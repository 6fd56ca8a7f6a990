import { type Batch, bytesColumn, MeshError, rowMeta, type Tensor } from '@spillway/core'
import { compileEventReader, decodeFrame, encodeFrame, inference, inputSchema, toInferRequest } from '@spillway/wire'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { batchArbitrary } from '../../core/test/arbitraries.ts'

const info = { schema: 'abc', release: 'r1', target: 'scored' }

/** Bytes of memory that decoding may take for one byte of input: two bytes are an empty tensor, which the generated code makes an object of. */
const factor = 400
const allowance = 8_000_000

/** Decodes; the only error may be a MeshError that blames the input, and memory stays in proportion to it. */
function decodeHostile(bytes: Uint8Array): Batch | undefined {
  const before = process.memoryUsage()
  let batch: Batch | undefined
  try {
    batch = decodeFrame(bytes).batch
  } catch (error) {
    expect(error).toBeInstanceOf(MeshError)
    expect((error as MeshError).code).toBe('INVALID_ARGUMENT')
  }
  const after = process.memoryUsage()
  const taken = after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers
  expect(taken).toBeLessThan(bytes.length * factor + allowance)
  return batch
}

describe('a frame of hostile bytes', () => {
  test('random', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void decodeHostile(bytes)),
      { numRuns: 2000 },
    )
  })

  test('cut short', () => {
    fc.assert(
      fc.property(batchArbitrary, fc.double({ min: 0, max: 1, noNaN: true }), (batch, part) => {
        const frame = encodeFrame(batch, info)
        decodeHostile(frame.subarray(0, Math.floor(frame.length * part)))
      }),
      { numRuns: 500 },
    )
  })

  test('with bits flipped', () => {
    fc.assert(
      fc.property(batchArbitrary, fc.array(fc.nat(), { minLength: 1, maxLength: 5 }), (batch, bits) => {
        const frame = encodeFrame(batch, info)
        for (const bit of bits) frame[(bit >> 3) % frame.length]! ^= 1 << (bit & 7)
        decodeHostile(frame)
      }),
      { numRuns: 2000 },
    )
  })

  test('with shapes and datatypes forged', () => {
    const size = fc.oneof(
      fc.integer({ min: -2, max: 10 }).map(BigInt),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      fc.constantFrom(0n, 2n ** 31n, 2n ** 32n, 2n ** 53n),
    )
    const forged = fc.record({
      tensor: fc.nat(),
      shape: fc.array(size, { maxLength: 4 }),
      datatype: fc.constantFrom('BYTES', 'FP32', 'FP64', 'INT64', 'BOOL', 'FP8'),
    })
    fc.assert(
      fc.property(batchArbitrary, fc.array(forged, { minLength: 1, maxLength: 3 }), (batch, changes) => {
        const message = toInferRequest(batch, info)
        for (const { tensor, shape, datatype } of changes)
          Object.assign(message.inputs[tensor % message.inputs.length]!, { shape, datatype })
        decodeHostile(inference.ModelInferRequest.encode(message).finish())
      }),
      { numRuns: 2000 },
    )
  })

  test('with element lengths forged', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 2 ** 32 - 1 }), { minLength: 1, maxLength: 6 }),
        fc.nat({ max: 6 }),
        (lengths, count) => {
          const message = toInferRequest({ rowCount: 1, meta: rowMeta(1), columns: new Map() }, info)
          message.rawInputContents[0] = new Uint8Array(Uint32Array.from(lengths).buffer)
          message.inputs[0]!.shape = [BigInt(count)]
          decodeHostile(inference.ModelInferRequest.encode(message).finish())
        },
      ),
      { numRuns: 1000 },
    )
  })

  test('that claims rows which it does not hold', () => {
    for (const rows of [2n ** 24n, 2n ** 31n, 2n ** 53n - 1n, 2n ** 62n]) {
      const message = toInferRequest({ rowCount: 1, meta: rowMeta(1), columns: new Map<string, Tensor>() }, info)
      message.inputs[0]!.shape = [rows]
      expect(decodeHostile(inference.ModelInferRequest.encode(message).finish())).toBeUndefined()
    }
  })

  test.each([0x2a, 0x3a, 0x32, 0x22])('of a hundred thousand empty fields (tag %i)', (tag) => {
    const bytes = new Uint8Array(200_000)
    for (let i = 0; i < bytes.length; i += 2) bytes[i] = tag
    expect(decodeHostile(bytes)).toBeUndefined()
  })

  test('of groups nested without end', () => {
    expect(decodeHostile(new Uint8Array(100_000).fill(0x4b))).toBeUndefined()
  })
})

function deep(open: string): Buffer {
  return Buffer.from(`{"id":1,"x":${open.repeat(500_000)}`)
}

describe('events of hostile bytes', () => {
  const input = inputSchema.parse({
    id: 'id',
    fields: {
      id: 'integer',
      amount: { type: 'number', optional: true },
      at: 'timestamp',
      ok: 'boolean',
      note: { type: 'string', optional: true, maxLength: 5 },
    },
  })
  const reader = compileEventReader(input)
  const good = Buffer.from('{"id":1,"at":"2018-04-01T00:00:31Z","ok":true,"amount":1.5,"note":"n","x":{"y":[1,"\\u00e9"]}}')

  test('are each answered by a row or a failure, and their neighbours are untouched', () => {
    const hostile = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc
        .tuple(fc.nat(), fc.nat({ max: 255 }))
        .map(([at, byte]) => Uint8Array.from(good, (old, i) => (i === at % good.length ? byte : old))),
      fc.nat({ max: good.length }).map((end) => new Uint8Array(good.subarray(0, end))),
    )
    fc.assert(
      fc.property(fc.array(hostile, { minLength: 1, maxLength: 4 }), (events) => {
        const records = events.flatMap((event) => [event, good])
        const { batch, failures, rejected } = reader.read({ count: records.length, values: bytesColumn(records) }, undefined, 0)
        expect(batch.rowCount + failures.length).toBe(records.length)
        expect(rejected.rowCount).toBe(failures.length)
        for (const { row, error } of failures) {
          expect(row % 2, error.message).toBe(0)
          expect(error.code, error.stack ?? '').toBe('INVALID_ARGUMENT')
        }
      }),
      { numRuns: 2000 },
    )
  })

  test('deeply nested, or long', () => {
    const long = Buffer.from(`{"id":${'9'.repeat(1_000_000)},"at":0,"ok":true}`)
    const exponent = Buffer.from(`{"id":1e${'9'.repeat(1_000_000)},"at":0,"ok":true}`)
    const { failures } = reader.read({ count: 4, values: bytesColumn([deep('['), deep('{"a":'), long, exponent]) }, undefined, 0)
    expect(failures.map(({ error }) => error.message.slice(0, 60))).toEqual([
      expect.stringContaining('nested deeper than 64 levels'),
      expect.stringContaining('nested deeper than 64 levels'),
      expect.stringContaining('field "id" is out of range'),
      expect.stringContaining('field "id" must be an integer'),
    ])
    for (const { error } of failures) expect(error.message.length).toBeLessThan(200)
  })
})
