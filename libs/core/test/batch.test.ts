import { concatBatches, emptyBatch, MeshError, sliceBatch, takeRows, textColumn, textValues, withColumns } from '@spillway/core'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { batchArbitrary, batchesArbitrary, textArbitrary } from './arbitraries.ts'
import { rowsOf } from './rows.ts'

test('a slice holds the rows between its ends', () => {
  fc.assert(
    fc.property(batchArbitrary, fc.nat(), fc.nat(), (batch, a, b) => {
      const [start, end] = [a % (batch.rowCount + 1), b % (batch.rowCount + 1)].sort((left, right) => left - right) as [number, number]
      expect(rowsOf(sliceBatch(batch, start, end))).toEqual(rowsOf(batch).slice(start, end))
    }),
  )
})

test('taking rows gives them in the order asked for, repeated where asked for', () => {
  fc.assert(
    fc.property(batchArbitrary, fc.array(fc.nat(), { maxLength: 8 }), (batch, wanted) => {
      const indices = batch.rowCount === 0 ? [] : wanted.map((index) => index % batch.rowCount)
      const all = rowsOf(batch)
      expect(rowsOf(takeRows(batch, indices))).toEqual(indices.map((index) => all[index]))
    }),
  )
})

test('a concatenation holds the rows of all parts, and slicing it gives the parts back', () => {
  fc.assert(
    fc.property(batchesArbitrary, (parts) => {
      const joined = concatBatches(parts)
      expect(rowsOf(joined)).toEqual(parts.flatMap(rowsOf))
      let start = 0
      for (const part of parts) {
        expect(rowsOf(sliceBatch(joined, start, start + part.rowCount))).toEqual(rowsOf(part))
        start += part.rowCount
      }
    }),
  )
})

test('slices and takes of a slice are those of the whole', () => {
  fc.assert(
    fc.property(batchArbitrary, fc.nat(), (batch, a) => {
      const middle = a % (batch.rowCount + 1)
      const [head, tail] = [sliceBatch(batch, 0, middle), sliceBatch(batch, middle, batch.rowCount)]
      expect(rowsOf(concatBatches([head, tail]))).toEqual(rowsOf(batch))
      const backwards = Array.from({ length: tail.rowCount }, (_, row) => tail.rowCount - 1 - row)
      expect(rowsOf(takeRows(tail, backwards))).toEqual(rowsOf(tail).toReversed())
    }),
  )
})

test('text comes back as it was', () => {
  fc.assert(
    fc.property(fc.array(textArbitrary, { maxLength: 20 }), (values) => {
      expect(textValues(textColumn(values))).toEqual(values)
    }),
  )
})

test('batches whose columns differ are not joined', () => {
  const one = withColumns(emptyBatch, [['a', { datatype: 'FP32', shape: [0], data: new Float32Array(0) }]])
  const other = withColumns(emptyBatch, [['a', { datatype: 'FP64', shape: [0], data: new Float64Array(0) }]])
  expect(() => concatBatches([one, other])).toThrow(MeshError)
  expect(() => concatBatches([one, emptyBatch])).toThrow(/no column "a"/)
  expect(() => concatBatches([emptyBatch, one])).toThrow(/"a"/)
  const wide = withColumns(emptyBatch, [['a', { datatype: 'FP32', shape: [0, 2, 3], data: new Float32Array(0) }]])
  const tall = withColumns(emptyBatch, [['a', { datatype: 'FP32', shape: [0, 3, 2], data: new Float32Array(0) }]])
  expect(() => concatBatches([wide, tall])).toThrow(MeshError)
})
