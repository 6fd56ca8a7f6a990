import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startTensorflowFixture, type TensorflowFixture } from './tensorflow-fixture.ts'

// Cases are from tensorflow.org/tfx/serving/api_rest and kserve.github.io/website ("Data Plane (V1)").
let fixture: TensorflowFixture

beforeAll(async () => {
  fixture = await startTensorflowFixture(
    'half_plus_three',
    'matrices',
    'ragged',
    'echo-INT32',
    'echo-UINT8',
    'echo-INT64',
    'echo-BYTES',
    'echo-BOOL',
    'images',
    'sensors',
    'labelled',
    'whole',
  )
})
afterAll(() => fixture.stop())

describe('a body that does not fit', () => {
  test.each<[string, string, string, ...string[]]>([
    ['no body', 'half_plus_three', '', 'JSON Parse error', 'empty'],
    ['no JSON', 'half_plus_three', 'x=1', 'Is not object'],
    ['a list', 'half_plus_three', '[1]', 'Is not object'],
    ['a body that was cut', 'half_plus_three', '{"instances": [1, 2', 'JSON Parse error', 'offset: 19'],
    ['a comma too many', 'half_plus_three', '{"instances": [1, 2,]}', 'expected a number'],
    ['a second value', 'half_plus_three', '{"instances": [1]} {}', 'JSON Parse error'],
    ['neither key', 'half_plus_three', '{}', "Missing 'inputs' or 'instances' key"],
    ['both keys', 'half_plus_three', '{"instances": [1], "inputs": [1]}', 'only one of'],
    ['no rows', 'half_plus_three', '{"instances": []}', "No values in 'instances'"],
    ['no rows in a column', 'half_plus_three', '{"inputs": []}', 'no rows'],
    ['rows that are no list', 'half_plus_three', '{"instances": 1}', "'instances' to be an list"],
    ['a string', 'half_plus_three', '{"instances": [1, "two"]}', 'Failed to process element: 1', 'input "x" is FP32 [rows]', 'a string'],
    ['null', 'half_plus_three', '{"instances": [null]}', 'input "x" is FP32 [rows]', 'found null'],
    ['a boolean', 'half_plus_three', '{"instances": [true]}', 'found true'],
    ['a list too deep', 'half_plus_three', '{"instances": [[1]]}', 'found a list', 'expected a number'],
    ['a list too shallow', 'matrices', '{"instances": [[1, 2]]}', 'input "x" is FP32 [rows, 1, 2]', 'expected a list of 2'],
    ['an element too few', 'matrices', '{"instances": [[[1]]]}', 'a list of 1', 'expected 2'],
    ['an element too many', 'matrices', '{"instances": [[[1, 2, 3]]]}', 'more than 2 elements'],
    ['ragged rows', 'ragged', '{"instances": [[1, 2], [3]]}', 'Failed to process element: 1', 'expected 2'],
    ['a number beyond FP32', 'half_plus_three', '{"instances": [1e39]}', 'range of FP32'],
    ['a fraction for an integer', 'echo-INT32', '{"instances": [1.5]}', 'whole number (INT32)'],
    ['an integer beyond its type', 'echo-UINT8', '{"instances": [256]}', 'range of UINT8'],
    ['an integer beyond 64 bits', 'echo-INT64', '{"instances": [9223372036854775808]}', 'range of INT64'],
    ['a number for a string', 'echo-BYTES', '{"instances": [1]}', 'a string or {"b64": "…"}'],
    ['no base64', 'images', '{"instances": [{"b64": "*"}]}', 'no base64'],
    ['a number for a boolean', 'echo-BOOL', '{"instances": [1]}', 'true or false'],
    ['an unknown input', 'half_plus_three', '{"instances": [{"z": 1}]}', 'does not have named input: z', 'keys must be equal to: x'],
    ['an unknown input in columns', 'half_plus_three', '{"inputs": {"z": [1]}}', 'does not have named input: z', 'x (FP32 [rows])'],
    ['an input that is missing', 'sensors', '{"instances": [{"tag": "a"}]}', 'Missing named input: signal'],
    ['an input that is missing in columns', 'sensors', '{"inputs": {"tag": ["a"]}}', 'Missing named input: signal'],
    ['an input given twice', 'half_plus_three', '{"instances": [{"x": 1, "x": 2}]}', 'given twice'],
    ['plain rows for several inputs', 'sensors', '{"instances": [1]}', 'expecting list of objects'],
    ['a plain column for several inputs', 'sensors', '{"inputs": [1]}', 'expecting an object'],
    ['values among objects', 'half_plus_three', '{"instances": [{"x": 1}, 2]}', 'Expecting object'],
    ['objects among values', 'half_plus_three', '{"instances": [1, {"x": 2}]}', 'Expecting value/list but got object'],
    [
      'columns of different length',
      'labelled',
      '{"inputs": {"score": [[1, 2]], "name": [["a", "b"], ["c", "d"]]}}',
      'input "name" has 2 rows',
    ],
    [
      'an unknown signature',
      'half_plus_three',
      '{"signature_name": "x", "instances": [1]}',
      'Serving signature name: "x" not found in signature def',
    ],
    [
      'a signature that is no name',
      'half_plus_three',
      '{"signature_name": 100, "instances": [1]}',
      "'signature_name' key must be a string value",
    ],
    ['a wrong count for a whole tensor', 'whole', '{"instances": [1, 2]}', 'expected 3 in its first dimension'],
  ])('%s is 400 and says why', async (_what, model, body, ...texts) => {
    const [status, answer] = await fixture.post(`/v1/models/${model}:predict`, body)
    expect(status).toBe(400)
    const { error } = JSON.parse(answer) as { error: string }
    for (const text of texts) expect(error).toContain(text)
  })
})
