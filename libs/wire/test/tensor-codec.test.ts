import { bytesColumn, type MeshError, type Tensor } from '@spillway/core'
import { fromRawTensors, inference, toRawTensors, type WireTensor } from '@spillway/wire'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { datatypes, tensorArbitrary } from '../../core/test/arbitraries.ts'

const shapeArbitrary = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 })

function wire(datatype: string, shape: bigint[], contents: Partial<inference.InferTensorContents> = {}): WireTensor {
  return { name: 'x', datatype, shape, parameters: {}, contents: { ...noContents, ...contents } }
}

const noContents: inference.InferTensorContents = {
  boolContents: [],
  intContents: [],
  int64Contents: [],
  uintContents: [],
  uint64Contents: [],
  fp32Contents: [],
  fp64Contents: [],
  bytesContents: [],
}

test.each(datatypes)('%s comes back from raw contents, whatever its shape and bits', (datatype) => {
  fc.assert(
    fc.property(
      shapeArbitrary.chain((shape) => tensorArbitrary(datatype, shape)),
      (tensor) => {
        const { tensors, raw } = toRawTensors([['x', tensor]])
        const response = { modelName: 'm', modelVersion: '', id: '', parameters: {}, outputs: tensors, rawOutputContents: raw }
        const received = inference.ModelInferResponse.decode(inference.ModelInferResponse.encode(response).finish())
        expect(fromRawTensors(received.outputs, received.rawOutputContents).get('x')).toEqual(tensor)
      },
    ),
  )
})

const typed: readonly [string, Partial<inference.InferTensorContents>, Tensor['data']][] = [
  ['BOOL', { boolContents: [true, false] }, Uint8Array.of(1, 0)],
  ['UINT8', { uintContents: [0, 255] }, Uint8Array.of(0, 255)],
  ['UINT16', { uintContents: [0, 65_535] }, Uint16Array.of(0, 65_535)],
  ['UINT32', { uintContents: [0, 4_294_967_295] }, Uint32Array.of(0, 4_294_967_295)],
  ['UINT64', { uint64Contents: [0n, 2n ** 64n - 1n] }, BigUint64Array.of(0n, 2n ** 64n - 1n)],
  ['INT8', { intContents: [-128, 127] }, Int8Array.of(-128, 127)],
  ['INT16', { intContents: [-32_768, 32_767] }, Int16Array.of(-32_768, 32_767)],
  ['INT32', { intContents: [-(2 ** 31), 2 ** 31 - 1] }, Int32Array.of(-(2 ** 31), 2 ** 31 - 1)],
  ['INT64', { int64Contents: [-(2n ** 63n), 2n ** 63n - 1n] }, BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n)],
  ['FP32', { fp32Contents: [0.5, NaN] }, Float32Array.of(0.5, NaN)],
  ['FP64', { fp64Contents: [0.1, -Infinity] }, Float64Array.of(0.1, -Infinity)],
  ['BYTES', { bytesContents: [Uint8Array.of(1), new Uint8Array(0)] }, bytesColumn([Uint8Array.of(1), new Uint8Array(0)])],
]

test.each(typed)('%s comes from typed contents', (datatype, contents, data) => {
  const request = inference.ModelInferRequest.decode(
    inference.ModelInferRequest.encode({
      modelName: '',
      modelVersion: '',
      id: '',
      parameters: {},
      inputs: [wire(datatype, [2n], contents)],
      outputs: [],
      rawInputContents: [],
    }).finish(),
  )
  expect(fromRawTensors(request.inputs, []).get('x')).toEqual({ datatype, shape: [2], data })
})

describe('a wrong tensor is named, with what was expected', () => {
  const wrong: readonly [string, WireTensor[], Uint8Array[], RegExp][] = [
    ['unknown datatype', [wire('FP8', [1n])], [], /unknown datatype "FP8"/],
    ['a property of objects as datatype', [wire('constructor', [1n])], [], /unknown datatype/],
    ['negative size', [wire('FP32', [-1n])], [new Uint8Array(4)], /negative size/],
    ['a product beyond 2^53', [wire('FP32', [2n ** 31n, 2n ** 31n])], [new Uint8Array(4)], /too large/],
    ['a size beyond 2^53', [wire('FP32', [2n ** 62n, 0n])], [new Uint8Array(0)], /too large/],
    ['too many bytes', [wire('FP32', [1n])], [new Uint8Array(8)], /FP32 of shape \[1\] needs 4 bytes, got 8/],
    ['elements that do not fit', [wire('BYTES', [2n])], [new Uint8Array(7)], /2 BYTES elements need at least 8 bytes, got 7/],
    [
      'an element longer than the rest',
      [wire('BYTES', [1n])],
      [Uint8Array.of(255, 255, 255, 255, 1)],
      /element 0 of 1 says that it has 4294967295 bytes, where 1 are left/,
    ],
    ['bytes behind the last element', [wire('BYTES', [1n])], [Uint8Array.of(0, 0, 0, 0, 1)], /end at byte 4, but 5/],
    ['a million elements claimed', [wire('BYTES', [2n ** 40n])], [new Uint8Array(4)], /need at least 4398046511104 bytes/],
    ['both contents', [wire('FP32', [1n], { fp32Contents: [1] })], [new Uint8Array(4)], /both raw and typed/],
    ['typed 16-bit floats', [wire('FP16', [1n], { fp32Contents: [1] })], [], /send it as raw contents/],
    ['the wrong field', [wire('INT64', [1n], { intContents: [1] })], [], /INT64 belongs in int64_contents, not in int_contents/],
    ['too few values', [wire('FP64', [2n, 2n], { fp64Contents: [1] })], [], /needs 4 elements, got 1/],
    ['a value out of range', [wire('INT8', [2n], { intContents: [1, 128] })], [], /128 \(element 1\) is out of range for INT8/],
    ['a name given twice', [wire('FP32', [0n]), wire('FP32', [0n])], [], /given twice/],
  ]
  test.each(wrong)('%s', (_, tensors, raw, text) => {
    const error = expect.objectContaining({ code: 'INVALID_ARGUMENT', field: 'x', message: expect.stringMatching(text) as string })
    expect(() => fromRawTensors(tensors, raw)).toThrow(error as MeshError)
  })
})
