import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startTensorflowFixture, type TensorflowFixture } from './tensorflow-fixture.ts'

// Cases are from tensorflow.org/tfx/serving/api_rest and kserve.github.io/website ("Data Plane (V1)").
let fixture: TensorflowFixture

beforeAll(async () => {
  fixture = await startTensorflowFixture()
})
afterAll(() => fixture.stop())

describe('predict', () => {
  // [what, model, body, answer as it is written]
  test.each<[string, string, string, string]>([
    ['the documents’ call', 'half_plus_three', '{"instances": [1.0,2.0,5.0]}', '{"predictions": [3.5, 4.0, 5.5]}'],
    ['whole numbers for floats', 'half_plus_three', '{"instances": [1, 2, 5]}', '{"predictions": [3.5, 4.0, 5.5]}'],
    ['a signature', 'half_plus_three', '{"signature_name": "serving_default", "instances": [0]}', '{"predictions": [3.0]}'],
    [
      'a signature after the rows',
      'half_plus_three',
      '{"instances": [0], "signature_name": "tensorflow/serving/predict"}',
      '{"predictions": [3.0]}',
    ],
    ['columns', 'half_plus_three', '{"inputs": [1, 2]}', '{"outputs": [3.5,4.0]}'],
    ['rows by name', 'half_plus_three', '{"instances": [{"x": 1}, {"x": 2}]}', '{"predictions": [3.5, 4.0]}'],
    ['columns by name', 'half_plus_three', '{"inputs": {"x": [1, 2]}}', '{"outputs": [3.5,4.0]}'],
    [
      'Vertex’s parameters',
      'half_plus_three',
      '{"instances": [1], "parameters": {"k": [1, {"a": null}], "s": "x"}}',
      '{"predictions": [3.5]}',
    ],
    ['numbers in exponent notation', 'half_plus_three', '{"instances": [1e1, 2.5E-1]}', '{"predictions": [8.0, 3.125]}'],
    ['white space of all kinds', 'half_plus_three', '\r\n{\t"instances" :\n[ 1 ,\t2 ] }\n', '{"predictions": [3.5, 4.0]}'],
    ['a byte order mark', 'half_plus_three', '\ufeff{"instances": [1]}', '{"predictions": [3.5]}'],
    ['tensors of shape [1, 2]', 'matrices', '{"instances": [ [[1, 2]], [[3, 4]] ]}', '{"predictions": [[[1.0,2.0]], [[3.0,4.0]]]}'],
    ['strings', 'echo-BYTES', '{"instances": ["foo", "bar", "baz"]}', '{"predictions": ["foo", "bar", "baz"]}'],
    [
      'escapes and other scripts',
      'echo-BYTES',
      '{"instances": ["a\\"\\\\\\n\\u00fc", "語 😀"]}',
      '{"predictions": ["a\\"\\\\\\nü", "語 😀"]}',
    ],
    ['bytes', 'images', '{"instances": [{"b64": "aW1hZ2UgYnl0ZXM="}]}', '{"predictions": [{"b64":"aW1hZ2UgYnl0ZXM="}]}'],
    ['bytes by name', 'images', '{"instances": [{"image": {"b64": "w7w="}}]}', '{"predictions": [{"b64":"w7w="}]}'],
    ['bytes in a column', 'images', '{"inputs": [{"b64": "w7w="}]}', '{"outputs": [{"b64":"w7w="}]}'],
    ['text to an output of bytes', 'images', '{"inputs": {"image": ["foo"]}}', '{"outputs": [{"b64":"Zm9v"}]}'],
    [
      '64-bit integers',
      'echo-INT64',
      '{"instances": [9223372036854775807, -9223372036854775808, 9007199254740993]}',
      '{"predictions": [9223372036854775807, -9223372036854775808, 9007199254740993]}',
    ],
    ['unsigned 64-bit integers', 'echo-UINT64', '{"inputs": [18446744073709551615, 0]}', '{"outputs": [18446744073709551615,0]}'],
    ['32-bit integers', 'echo-INT32', '{"instances": [-2147483648, 2147483647]}', '{"predictions": [-2147483648, 2147483647]}'],
    ['unsigned 32-bit integers', 'echo-UINT32', '{"instances": [4294967295]}', '{"predictions": [4294967295]}'],
    ['16-bit integers', 'echo-INT16', '{"instances": [-32768]}', '{"predictions": [-32768]}'],
    ['8-bit integers', 'echo-INT8', '{"instances": [-128, 127]}', '{"predictions": [-128, 127]}'],
    ['unsigned 8-bit integers', 'echo-UINT8', '{"instances": [0, 255]}', '{"predictions": [0, 255]}'],
    ['booleans', 'echo-BOOL', '{"instances": [true, false]}', '{"predictions": [true, false]}'],
    ['halves', 'echo-FP16', '{"instances": [1.5, 65504]}', '{"predictions": [1.5, 65504.0]}'],
    ['NaN and infinities', 'echo-FP32', '{"instances": [NaN, Infinity, -Infinity]}', '{"predictions": [NaN, Infinity, -Infinity]}'],
    ['the same in FP64', 'echo-FP64', '{"inputs": [NaN, -Infinity, Infinity]}', '{"outputs": [NaN,-Infinity,Infinity]}'],
    [
      'floats as the server prints them',
      'echo-FP32',
      '{"instances": [3, 9000000, 0.00003, 0.2, -0, 1e-30]}',
      '{"predictions": [3.0, 9e+06, 3e-05, 0.2, -0.0, 1e-30]}',
    ],
    [
      'doubles in full',
      'echo-FP64',
      '{"instances": [0.1, 0.30000000000000004, 1e300]}',
      '{"predictions": [0.1, 0.30000000000000004, 1e+300]}',
    ],
    [
      'a size that the model leaves open',
      'ragged',
      '{"instances": [[1, 2, 3], [4, 5, 6]]}',
      '{"predictions": [[1.0,2.0,3.0], [4.0,5.0,6.0]]}',
    ],
    ['a tensor without rows, in columns', 'whole', '{"inputs": [1, 2, 3]}', '{"outputs": [1.0,2.0,3.0]}'],
    ['a tensor without rows, value by value', 'whole', '{"instances": [1, 2, 3]}', '{"predictions": [1.0, 2.0, 3.0]}'],
    ['a name that needs escaping in a path', 'with%20space', '{"instances": [2]}', '{"predictions": [2.0]}'],
  ])('%s', async (_what, model, body, answer) => {
    expect(await fixture.post(`/v1/models/${model}:predict`, body)).toEqual([200, answer])
  })

  const rows =
    '{"instances": [{"tag": "foo", "signal": [1, 2, 3, 4, 5], "sensor": [[1, 2], [3, 4]]}, {"sensor": [[4, 5], [6, 8]], "tag": "bar", "signal": [3, 4, 1, 2, 5]}]}'
  const columns =
    '{"inputs": {"tag": ["foo", "bar"], "signal": [[1, 2, 3, 4, 5], [3, 4, 1, 2, 5]], "sensor": [[[1, 2], [3, 4]], [[4, 5], [6, 8]]]}}'

  test('several named inputs and outputs, in rows and in columns', async () => {
    const [, inRows] = await fixture.post('/v1/models/sensors:predict', rows)
    expect(JSON.parse(inRows)).toEqual({
      predictions: [
        {
          tag_out: 'foo',
          signal_out: [1, 2, 3, 4, 5],
          sensor_out: [
            [1, 2],
            [3, 4],
          ],
        },
        {
          tag_out: 'bar',
          signal_out: [3, 4, 1, 2, 5],
          sensor_out: [
            [4, 5],
            [6, 8],
          ],
        },
      ],
    })
    const [, inColumns] = await fixture.post('/v1/models/sensors:predict', columns)
    expect(JSON.parse(inColumns)).toEqual({
      outputs: {
        tag_out: ['foo', 'bar'],
        signal_out: [
          [1, 2, 3, 4, 5],
          [3, 4, 1, 2, 5],
        ],
        sensor_out: [
          [
            [1, 2],
            [3, 4],
          ],
          [
            [4, 5],
            [6, 8],
          ],
        ],
      },
    })
  })

  test.each<[string, string]>([
    ['/v1/models/half_plus_two:predict', '3.0'],
    ['/v1/models/half_plus_two/versions/1:predict', '1.0'],
    ['/v1/models/half_plus_two/versions/0002:predict', '2.0'],
    ['/v1/models/half_plus_two/labels/stable:predict', '1.0'],
    ['/v1/models/half_plus_two/labels/canary:predict', '2.0'],
    ['/V1/Models/half_plus_two/Versions/3:Predict', '3.0'],
    ['/v1/models/half_plus_two:predict?key=value', '3.0'],
  ])('%s is answered by the version that it names', async (path, y) => {
    expect(await fixture.post(path, '{"instances": [0]}')).toEqual([200, `{"predictions": [${y}]}`])
  })
})
