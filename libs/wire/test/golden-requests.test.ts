import type { Tensor } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { readGoldenRequests } from '../src/mod.ts'

const read = (json: string): ReturnType<typeof readGoldenRequests> => readGoldenRequests(Buffer.from(json))
const one = (tensor: string): string => `{"requests":[{"outputs":[],"inputs":[${tensor}]}]}`
const values = (tensor: Tensor | undefined): unknown[] => (tensor === undefined || tensor.datatype === 'BYTES' ? [] : [...tensor.data])

describe('golden requests', () => {
  test('are read with their tolerance, other members being read over', () => {
    const tensor = '{"name":"x","datatype":"FP32","shape":[1,2],"data":[[1.5,-Infinity]]}'
    const requests = read(
      `{"made":{"by":"me"},"requests":[{"inputs":[${tensor}],"outputs":[],"tolerance":1e-3,"why":null},{"inputs":[],"outputs":[${tensor}]}]}`,
    )
    expect(requests.map(({ tolerance }) => tolerance)).toEqual([1e-3, undefined])
    expect(values(requests[0]!.inputs.get('x'))).toEqual([1.5, -Infinity])
    expect(values(requests[1]!.outputs.get('x'))).toEqual([1.5, -Infinity])
  })

  test.each([
    ['FP16', '1.5, 65504, 0.1, NaN, -0.0', [0x3e00, 0x7bff, 0x2e66, 0x7e00, 0x8000]],
    // 1 + 3 * 2^-8 lies in the middle between two of them: the even one is nearest.
    ['BF16', '1, 1.01171875, 3.39e38, Infinity, NaN', [0x3f80, 0x3f82, 0x7f7f, 0x7f80, 0x7fc0]],
    ['INT64', '9007199254740993', [9007199254740993n]],
  ])('have %s as the nearest that there is', (datatype, data, expected) => {
    const requests = read(one(`{"name":"x","datatype":"${datatype}","shape":[${expected.length}],"data":[${data}]}`))
    expect(values(requests[0]!.inputs.get('x'))).toEqual(expected)
  })

  test.each([
    ['{', /JSON Parse error/],
    ['[]', /expected \{"requests"/],
    ['{"requests":[]}', /with one request at least/],
    ['{"requests":[1]}', /requests\[0\]: it is the number 1: expected an object/],
    ['{"requests":[{"inputs":[]}]}', /requests\[0\]: expected "inputs" and "outputs"/],
    [one('1'), /requests\[0\]: inputs\[0\] is the number 1/],
    [one('{"name":"x","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}'), /tensor "x" has no "data"/],
    [one('{"name":"x","datatype":"FP32","shape":[1],"data":["NaN"]}'), /tensor "x": found a string at offset/],
    ['{"requests":[{"inputs":[],"outputs":[],"tolerance":Infinity}]}', /tolerance: expected a number/],
  ])('%s is refused', (json, message) => {
    expect(() => read(json)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) as string }) as Error,
    )
  })
})
