import { type Batch, type MeshError, rowMeta, type Tensor, textColumn } from '@spillway/core'
import { decodeFrame, encodeFrame, fromInferRequest, inference, splitFrames, toInferRequest } from '@spillway/wire'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { batchArbitrary } from '../../core/test/arbitraries.ts'
import { rowsOf } from '../../core/test/rows.ts'

const infoArbitrary = fc.record({ schema: fc.string(), release: fc.string(), target: fc.string() })
const info = { schema: 'abc', release: 'r1', target: 'scored' }

function shapesOf(batch: Batch): unknown {
  return [batch.rowCount, [...batch.columns].map(([name, { datatype, shape }]) => [name, datatype, shape])]
}

describe('a frame', () => {
  test('gives back any batch, with all its metadata, and what it says of itself', () => {
    fc.assert(
      fc.property(batchArbitrary, infoArbitrary, (batch, about) => {
        const decoded = decodeFrame(encodeFrame(batch, about))
        expect(decoded.info).toEqual(about)
        expect(shapesOf(decoded.batch)).toEqual(shapesOf(batch))
        expect(rowsOf(decoded.batch)).toEqual(rowsOf(batch))
      }),
      { numRuns: 500 },
    )
  })

  test('is the bytes of its message, so that a model server takes it as it is', () => {
    fc.assert(
      fc.property(batchArbitrary, infoArbitrary, (batch, about) => {
        const message = toInferRequest(batch, about)
        expect(Buffer.from(encodeFrame(batch, about))).toEqual(Buffer.from(inference.ModelInferRequest.encode(message).finish()))
        expect(rowsOf(fromInferRequest(message).batch)).toEqual(rowsOf(batch))
      }),
    )
  })

  test('decodes the same at any alignment', () => {
    fc.assert(
      fc.property(batchArbitrary, fc.integer({ min: 0, max: 8 }), (batch, shift) => {
        const frame = encodeFrame(batch, info)
        const moved = new Uint8Array(frame.length + shift)
        moved.set(frame, shift)
        expect(rowsOf(decodeFrame(moved.subarray(shift)).batch)).toEqual(rowsOf(batch))
      }),
    )
  })

  test('leaves out metadata that says nothing', () => {
    const batch = { rowCount: 2, meta: rowMeta(2), columns: new Map<string, Tensor>() }
    expect(toInferRequest(batch, info).inputs.map((input) => input.name)).toEqual(['spillway.ids'])
  })

  test('names its metadata in snake case', () => {
    const batch = {
      rowCount: 1,
      meta: rowMeta(1, { eventTimesMs: Float64Array.of(5), headers: [{ a: 'b' }] }),
      columns: new Map<string, Tensor>(),
    }
    expect(toInferRequest(batch, info).inputs.map((input) => [input.name, input.datatype])).toEqual([
      ['spillway.ids', 'BYTES'],
      ['spillway.event_times_ms', 'FP64'],
      ['spillway.headers', 'BYTES'],
    ])
  })
})

function input(message: inference.ModelInferRequest, name: string): inference.ModelInferRequest_InferInputTensor {
  return message.inputs.find((one) => one.name === name)!
}

describe('what is wrong with a frame is said by tensor', () => {
  const batch: Batch = {
    rowCount: 2,
    meta: rowMeta(2, { ids: ['a', 'b'], eventTimesMs: Float64Array.of(1, 2) }),
    columns: new Map([['amount', { datatype: 'FP64', shape: [2], data: Float64Array.of(1, 2) }]]),
  }
  type Change = (message: inference.ModelInferRequest) => void
  const wrong: readonly [string, Change, string | undefined, RegExp][] = [
    ['no ids', (message) => (input(message, 'spillway.ids').name = 'other'), 'spillway.ids', /no frame/],
    [
      'unknown metadata',
      (message) => (input(message, 'spillway.event_times_ms').name = 'spillway.mood'),
      'spillway.mood',
      /unknown metadata/,
    ],
    [
      'metadata of another datatype',
      (message) => (input(message, 'spillway.event_times_ms').datatype = 'INT64'),
      'spillway.event_times_ms',
      /must be FP64 of shape \[2\], is INT64/,
    ],
    [
      'a column of fewer rows',
      (message) => ((input(message, 'amount').shape = [1n]), (message.rawInputContents[0] = new Uint8Array(8))),
      'amount',
      /must begin with 2/,
    ],
    [
      'a column given twice',
      (message) => (message.inputs.push(message.inputs[0]!), message.rawInputContents.push(message.rawInputContents[0]!)),
      'amount',
      /given twice/,
    ],
    [
      'metadata given twice',
      (message) => (message.inputs.push(message.inputs.at(-1)!), message.rawInputContents.push(message.rawInputContents.at(-1)!)),
      'spillway.event_times_ms',
      /given twice/,
    ],
    ['no schema', (message) => delete message.parameters['spillway.schema'], 'spillway.schema', /must be a string/],
    ['raw contents that are missing', (message) => message.rawInputContents.pop(), undefined, /3 tensors come with 2 raw contents/],
    ['no contents at all', (message) => (message.rawInputContents = []), 'spillway.ids', /must come as raw contents/],
    [
      'too few bytes',
      (message) => (message.rawInputContents[0] = new Uint8Array(15)),
      'amount',
      /FP64 of shape \[2\] needs 16 bytes, got 15/,
    ],
  ]
  test.each(wrong)('%s', (_, change, field, text) => {
    const message = toInferRequest(batch, info)
    change(message)
    const bytes = inference.ModelInferRequest.encode(message).finish()
    expect(() => decodeFrame(bytes)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', field, message: expect.stringMatching(text) as string }) as MeshError,
    )
  })

  test('a column may not take a reserved name', () => {
    const columns = new Map([['spillway.ids', batch.columns.get('amount')!]])
    expect(() => encodeFrame({ ...batch, columns }, info)).toThrow(/reserved/)
  })
})

describe('splitting by bytes', () => {
  test('keeps every row, in order, in frames within the limit, but for rows that alone exceed it', () => {
    fc.assert(
      fc.property(batchArbitrary, fc.integer({ min: 60, max: 2000 }), (batch, maxBytes) => {
        const { frames, oversize } = splitFrames(batch, info, maxBytes)
        for (const frame of frames) expect(frame.byteLength).toBeLessThanOrEqual(maxBytes)
        const left = new Set(oversize)
        expect(frames.flatMap((frame) => rowsOf(decodeFrame(frame).batch))).toEqual(rowsOf(batch).filter((_, row) => !left.has(row)))
      }),
    )
  })

  test('leaves out the one large row of many', () => {
    const values = Array.from({ length: 1000 }, (_, row) => (row === 700 ? 'x'.repeat(20_000) : `event ${row}`))
    const batch = { rowCount: 1000, meta: rowMeta(1000, { events: textColumn(values) }), columns: new Map<string, Tensor>() }
    const { frames, oversize } = splitFrames(batch, info, 10_000)
    expect(oversize).toEqual([700])
    expect(frames.length).toBeLessThan(20)
    expect(frames.reduce((sum, frame) => sum + decodeFrame(frame).batch.rowCount, 0)).toBe(999)
  })
})
