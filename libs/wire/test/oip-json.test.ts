import { bytesColumn, type Datatype, type FixedDatatype, MeshError, type Tensor, tensor } from '@spillway/core'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { tensorArbitrary } from '../../core/test/arbitraries.ts'
import { readInferRequest, readObject, writeInferResponse } from '../src/mod.ts'

const nothing = new Uint8Array(0)
const read = (json: string, binary: Uint8Array = nothing): ReturnType<typeof readInferRequest> =>
  readInferRequest(Buffer.from(json), binary)

const fixed: readonly FixedDatatype[] = ['BOOL', 'UINT8', 'UINT16', 'UINT32', 'UINT64', 'INT8', 'INT16', 'INT32', 'INT64', 'FP32', 'FP64']

/** Tensors of any bits: NaN, infinities, -0 and subnormal numbers among them. */
function anyTensor(datatype: Datatype): fc.Arbitrary<Tensor> {
  const shapes = fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 4 })
  if (datatype === 'BYTES')
    return shapes.chain((shape) => {
      const count = shape.reduce((product, size) => product * size, 1)
      return fc
        .array(fc.string({ unit: 'binary' }), { minLength: count, maxLength: count })
        .map((values) => ({ datatype, shape, data: bytesColumn(values.map((value) => Buffer.from(value.toWellFormed()))) }))
    })
  return shapes.chain((shape) => tensorArbitrary(datatype, shape))
}

function nested(values: readonly string[], shape: readonly number[]): string {
  if (shape.length === 1) return `[${values.join(', ')}]`
  const width = values.length / shape[0]! || 0
  return `[${Array.from({ length: shape[0]! }, (_, i) => nested(values.slice(i * width, (i + 1) * width), shape.slice(1))).join(', ')}]`
}

const elements = (tensor: Tensor): unknown => (tensor.datatype === 'BYTES' ? [tensor.data.bytes, tensor.data.offsets] : [...tensor.data])

describe('what is written reads back the same', () => {
  test.each([...fixed, 'BYTES' as const])('%s, flat, nested and binary', (datatype) => {
    fc.assert(
      fc.property(anyTensor(datatype), (tensor) => {
        const text = Buffer.from(
          writeInferResponse({ id: '', model: 'm', version: '1', outputs: [{ name: 'x', tensor, binary: false }] }).bytes,
        ).toString()
        const data = /"data":(\[.*\])\}\]\}$/s.exec(text)![1]!
        const request = (given: string): string =>
          `{"inputs":[{"name":"x","shape":${JSON.stringify(tensor.shape)},"datatype":"${datatype}","data":${given}}]}`
        const back = read(request(data)).inputs.get('x')!
        expect(elements(back)).toEqual(elements(tensor))
        if (datatype !== 'BYTES' && !tensor.shape.includes(0)) {
          const again = read(request(nested(data.slice(1, -1).split(','), tensor.shape))).inputs.get('x')!
          expect(elements(again)).toEqual(elements(tensor))
        }
        const { bytes, headerBytes } = writeInferResponse({
          id: 'i',
          model: 'm',
          version: '1',
          outputs: [{ name: 'x', tensor, binary: true }],
        })
        const answer = JSON.parse(Buffer.from(bytes.subarray(0, headerBytes)).toString()) as { outputs: object[] }
        const binary = read(JSON.stringify({ inputs: answer.outputs }), bytes.subarray(headerBytes))
        expect(elements(binary.inputs.get('x')!)).toEqual(elements(tensor))
      }),
      { numRuns: 150 },
    )
  })

  test('ids, names of models and of outputs, of any characters and length', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string({ minLength: 28, maxLength: 40 }),
      fc.constantFrom('"', '\\', '\x7f', '\x1f', '~', ' '),
    )
    fc.assert(
      fc.property(text, text, text, (id, model, name) => {
        const outputs = [{ name, tensor: tensor('FP32', [1], Float32Array.of(1)), binary: false }]
        const { bytes } = writeInferResponse({ id, model, version: '1', outputs })
        const written = JSON.parse(Buffer.from(bytes).toString()) as { id?: string; model_name: string; outputs: { name: string }[] }
        expect([written.id ?? '', written.model_name, written.outputs[0]!.name]).toEqual(
          [id, model, name].map((each) => each.toWellFormed()),
        )
      }),
    )
  })

  test('members that only look like the protocol’s are read over', () => {
    const { inputs } = read(
      '{"inpuus":1,"inputs":[{"dxta":[9],"name":"dbta","nxme":"y","shape":[1],"shxpe":[7],"datatype":"FP32","data":[1],"dat":[2],"":0}],"idd":"x"}',
    )
    expect(inputs).toEqual(new Map([['dbta', tensor('FP32', [1], Float32Array.of(1))]]))
  })

  test('an FP32 by its shortest text', () => {
    const written = (value: number): string => {
      const tensor = { datatype: 'FP32', shape: [1], data: Float32Array.of(value) } as const
      const { bytes } = writeInferResponse({ id: '', model: 'm', version: '1', outputs: [{ name: 'x', tensor, binary: false }] })
      return /"data":\[(.*)\]\}\]\}$/.exec(Buffer.from(bytes).toString())![1]!
    }
    expect([0.1, 1 / 3, 16_777_216, 1e-45, 3.4028235e38, -0, 0.3].map(written)).toEqual([
      '0.1',
      '0.33333334',
      '16777216.0',
      '1e-45',
      '3.4028235e+38',
      '-0.0',
      '0.3',
    ])
  })

  test('what JSON cannot carry names the output', () => {
    const write = (tensor: Tensor) => (): unknown =>
      writeInferResponse({ id: '', model: 'm', version: '1', outputs: [{ name: 'o', tensor, binary: false }] })
    expect(write({ datatype: 'BF16', shape: [1], data: new Uint16Array(1) })).toThrow(/output "o" is BF16/)
    expect(write({ datatype: 'BYTES', shape: [1], data: bytesColumn([Buffer.of(0xff)]) })).toThrow(/element 0 of output "o" is not UTF-8/)
  })
})

/** Nothing else than a MeshError that says what is wrong with the request. */
function readOrRefuse(read: () => unknown): void {
  try {
    read()
  } catch (error) {
    expect(error).toBeInstanceOf(MeshError)
    expect((error as MeshError).code).toBe('INVALID_ARGUMENT')
    expect((error as MeshError).message).not.toBe('')
  }
}

describe('whatever comes is read or refused', () => {
  const valid =
    '{"id":"a","parameters":{"p":1},"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[[1,2.5],[-3e2,4]]},' +
    '{"name":"y","shape":[2],"datatype":"INT64","parameters":{"binary_data_size":16}},{"name":"z","shape":[1],"datatype":"BYTES","data":["\\u00e9"]}],' +
    '"outputs":[{"name":"o","parameters":{"classification":2}}]}'
  const tokens = [
    '[',
    ']',
    '{',
    '}',
    ',',
    ':',
    '"',
    '\\',
    'null',
    'true',
    'NaN',
    '-',
    '1e999',
    '9'.repeat(40),
    '"FP16"',
    '"shape"',
    '\u0000',
    'é',
  ]

  test('a valid request, changed in some places', () => {
    const change = fc.tuple(fc.nat({ max: valid.length }), fc.nat({ max: 12 }), fc.constantFrom('', ...tokens))
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), fc.uint8Array({ maxLength: 24 }), (changes, binary) => {
        let text = valid
        for (const [at, cut, put] of changes) text = text.slice(0, at) + put + text.slice(at + cut)
        readOrRefuse(() => read(text, binary))
      }),
      { numRuns: 2_000 },
    )
  })

  test('any JSON, any bytes', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 6 }), (json) => readOrRefuse(() => read(`{"inputs":[${json}],"outputs":${json}}`))),
      { numRuns: 500 },
    )
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        readOrRefuse(() => readInferRequest(bytes, nothing))
        readOrRefuse(() => readObject(bytes))
      }),
      { numRuns: 1_000 },
    )
  })

  test('a shape that claims much more than there is costs nothing', () => {
    const started = performance.now()
    for (const shape of ['[4000000000]', '[1000000,1000000]', '[0,9007199254740991]', `[${'1,'.repeat(40)}1]`])
      readOrRefuse(() => read(`{"inputs":[{"name":"x","shape":${shape},"datatype":"FP64","data":[1]}]}`))
    expect(performance.now() - started).toBeLessThan(1_000)
  })
})
