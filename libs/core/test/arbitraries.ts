import {
  allocate,
  type Batch,
  bytesColumn,
  type Datatype,
  elementBytes,
  type PassThroughHeaders,
  rowMeta,
  type Tensor,
  viewBytes,
} from '@spillway/core'
import * as fc from 'fast-check'

export const datatypes: readonly Datatype[] = [
  'BOOL',
  'UINT8',
  'UINT16',
  'UINT32',
  'UINT64',
  'INT8',
  'INT16',
  'INT32',
  'INT64',
  'FP16',
  'BF16',
  'FP32',
  'FP64',
  'BYTES',
]

/** Text without lone surrogates, which UTF-8 does not have. */
export const textArbitrary: fc.Arbitrary<string> = fc.oneof(
  fc.string({ maxLength: 12 }),
  fc.string({ unit: 'grapheme', maxLength: 8 }),
  fc.constantFrom('', '\ufeffmark', 'x'.repeat(200)),
)

const bytesArbitrary = fc.uint8Array({ maxLength: 20 })

/** A tensor of `shape`, any bits that its datatype may have. */
export function tensorArbitrary(datatype: Datatype, shape: readonly number[]): fc.Arbitrary<Tensor> {
  const count = shape.reduce((product, size) => product * size, 1)
  if (datatype === 'BYTES')
    return fc
      .array(bytesArbitrary, { minLength: count, maxLength: count })
      .map((values) => ({ datatype, shape, data: bytesColumn(values) }))
  const width = count * elementBytes(datatype)
  return fc.uint8Array({ minLength: width, maxLength: width }).map((bytes) => {
    const data = allocate(datatype, count)
    new Uint8Array(data.buffer).set(datatype === 'BOOL' ? bytes.map((byte) => byte & 1) : bytes)
    return { datatype, shape, data: viewBytes(datatype, new Uint8Array(data.buffer)) }
  })
}

const headersArbitrary: fc.Arbitrary<PassThroughHeaders> = fc.dictionary(fc.string({ minLength: 1, maxLength: 8 }), textArbitrary, {
  maxKeys: 3,
  noNullPrototype: true,
})

const timeArbitrary = fc.oneof(
  fc.double({ noNaN: true }),
  fc.integer({ min: 0, max: 2 ** 31 }).map((seconds) => seconds * 1000),
  fc.constant(Infinity),
)

/** Columns of a batch, by name: datatype and row shape. */
const columnsArbitrary = fc.uniqueArray(
  fc.record({
    name: fc.string({ minLength: 1, maxLength: 8 }),
    datatype: fc.constantFrom(...datatypes),
    rowShape: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 2 }),
  }),
  { selector: ({ name }) => name, maxLength: 4 },
)

/** Any batch: none, some or all of the metadata known. */
export const batchArbitrary: fc.Arbitrary<Batch> = fc
  .tuple(fc.integer({ min: 0, max: 6 }), columnsArbitrary)
  .chain(([rowCount, columns]) => batchOf(rowCount, columns))

/** Batches with the same columns, as they can be concatenated. */
export const batchesArbitrary: fc.Arbitrary<Batch[]> = fc
  .tuple(fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 4 }), columnsArbitrary)
  .chain(([counts, columns]) => fc.tuple(...counts.map((count) => batchOf(count, columns))))

interface ColumnOf {
  readonly name: string
  readonly datatype: Datatype
  readonly rowShape: readonly number[]
}

function batchOf(rowCount: number, columns: readonly ColumnOf[]): fc.Arbitrary<Batch> {
  const each = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T[]> => fc.array(value, { minLength: rowCount, maxLength: rowCount })
  const meta = fc.record(
    {
      ids: each(textArbitrary),
      keys: each(textArbitrary),
      eventTimesMs: each(timeArbitrary).map((times) => Float64Array.from(times)),
      ingestTimesMs: each(timeArbitrary).map((times) => Float64Array.from(times)),
      deadlinesMs: each(timeArbitrary).map((times) => Float64Array.from(times)),
      traceParents: each(textArbitrary),
      principals: each(textArbitrary),
      topics: each(fc.constantFrom('', 'transactions')),
      partitions: each(fc.integer({ min: -1, max: 100 })).map((values) => Int32Array.from(values)),
      offsets: each(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })).map((values) => BigInt64Array.from(values)),
      events: each(bytesArbitrary).map(bytesColumn),
      headers: each(headersArbitrary),
    },
    { requiredKeys: [] },
  )
  const tensors = fc.tuple(...columns.map(({ datatype, rowShape }) => tensorArbitrary(datatype, [rowCount, ...rowShape])))
  return fc.tuple(meta, tensors).map(([known, values]) => ({
    rowCount,
    meta: rowMeta(rowCount, known),
    columns: new Map(columns.map(({ name }, i) => [name, values[i]!])),
  }))
}
