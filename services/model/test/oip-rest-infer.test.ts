import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type OipFixture, startOipFixture } from './oip-fixture.ts'

let fixture: OipFixture
beforeAll(async () => {
  fixture = await startOipFixture()
})
afterAll(() => fixture.stop())

const post = (path: string, body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${fixture.http}${path}`, { method: 'POST', body, headers })

const infer = (model: string, body: string): Promise<Response> => post(`/v2/models/${model}/infer`, body)

/** A request with one input, its data as JSON text, since JavaScript has no literals for some of it. */
const one = (datatype: string, shape: string, data: string): string =>
  `{"inputs":[{"name":"x","shape":${shape},"datatype":"${datatype}","data":${data}}]}`

describe('tensor data as JSON (Inference Request JSON Object, Tensor Data)', () => {
  // What comes back as text is what went in, or the third element.
  const kept: readonly [datatype: string, data: string, back?: string][] = [
    ['BOOL', '[true,false]'],
    ['UINT8', '[0,255]'],
    ['UINT16', '[0,65535]'],
    ['UINT32', '[0,4294967295]'],
    ['UINT64', '[0,18446744073709551615]'],
    ['UINT64', '[9007199254740993,1]'],
    ['INT8', '[-128,127]'],
    ['INT16', '[-32768,32767]'],
    ['INT32', '[-2147483648,2147483647]'],
    ['INT64', '[-9223372036854775808,9223372036854775807]'],
    ['INT64', '[9007199254740993,-9007199254740993]'],
    ['FP32', '[0.1,-2.5]'],
    ['FP32', '[1,2]', '[1.0,2.0]'],
    ['FP32', '[3.4028234663852886e+38,1e-45]', '[3.4028235e+38,1e-45]'],
    ['FP32', '[16777217,0.1]', '[16777216.0,0.1]'],
    ['FP32', '[NaN,-Infinity]'],
    ['FP64', '[0.1,1e+300]'],
    ['FP64', '[0.30000000000000004,5e-324]'],
    ['BYTES', '["a","Grüße \\"x\\" \\n"]'],
    ['BYTES', '["","\\u00e9\\ud83d\\ude00"]', '["","é😀"]'],
  ]
  test.each(kept)('%s %s comes back', async (datatype, data, back) => {
    const response = await infer(`echo-${datatype}`, one(datatype, '[1,2]', data))
    const text = await response.text()
    expect(text).toContain(`"data":${back ?? data}`)
    expect(response.status).toBe(200)
  })

  test('nested data is read in row-major order', async () => {
    const response = await infer('echo-INT32', one('INT32', '[2,2]', '[[1,2],[3,4]]'))
    expect(await response.json()).toEqual({
      model_name: 'echo-INT32',
      model_version: '1',
      outputs: [{ name: 'y', datatype: 'INT32', shape: [2, 2], data: [1, 2, 3, 4] }],
    })
  })

  test('members may come in any order, with white space and unknown ones between', async () => {
    const body = ` { "extra": {"a":[1,{"b":null}]}, "inputs" : [ {"data": [[1.5, 2]], "note": "x", "datatype":"FP32", "shape":[1, 2], "name":"x"} ], "id":"7" } `
    const response = await infer('echo-FP32', body)
    expect(await response.text()).toBe(
      '{"id":"7","model_name":"echo-FP32","model_version":"1","outputs":[{"name":"y","datatype":"FP32","shape":[1,2],"data":[1.5,2.0]}]}',
    )
    expect(response.headers.get('content-type')).toMatch(/^application\/json/)
  })

  test('every content type is taken as JSON', async () => {
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/octet-stream', 'application/json; charset=utf-8']) {
      const response = await post('/v2/models/echo-FP32/infer', one('FP32', '[1,2]', '[1,2]'), { 'content-type': type })
      expect(response.status).toBe(200)
    }
  })

  test('a model whose first dimension is no row takes its whole tensor', async () => {
    const response = await infer('whole', one('FP32', '[3]', '[1,2,3]'))
    expect(await response.json()).toMatchObject({ outputs: [{ name: 'y', shape: [3], data: [1, 2, 3] }] })
  })
})

describe('what does not fit is refused, naming the tensor and what was expected', () => {
  const refused: readonly (readonly [what: string, model: string, body: string, message: RegExp])[] = [
    ['no JSON', 'echo-FP32', '{', /JSON/],
    ['nothing', 'echo-FP32', '', /document is empty|expected an object/],
    ['a list', 'echo-FP32', '[]', /expected an object/],
    ['something behind the JSON', 'echo-FP32', `${one('FP32', '[1,2]', '[1,2]')} x`, /follows the JSON/],
    ['no inputs', 'echo-FP32', '{}', /no "inputs"/],
    ['inputs that are no list', 'echo-FP32', '{"inputs":{}}', /"inputs" is an object: expected a list/],
    ['an input that is no object', 'echo-FP32', '{"inputs":[1]}', /inputs\[0\] is the number 1: expected a tensor/],
    ['no tensor', 'echo-FP32', '{"inputs":[]}', /"x" is missing: expected FP32 of shape \[rows, 2\], at least one row/],
    ['no name', 'echo-FP32', '{"inputs":[{"shape":[1,2],"datatype":"FP32","data":[1,2]}]}', /inputs\[0\] has no "name"/],
    ['no datatype', 'echo-FP32', '{"inputs":[{"name":"x","shape":[1,2],"data":[1,2]}]}', /tensor "x" has no "datatype"/],
    ['no shape', 'echo-FP32', '{"inputs":[{"name":"x","datatype":"FP32","data":[1,2]}]}', /tensor "x" has no "shape"/],
    ['no data', 'echo-FP32', '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2]}]}', /tensor "x" has no data/],
    ['an unknown datatype', 'echo-FP32', one('FLOAT', '[1,2]', '[1,2]'), /"x": unknown datatype "FLOAT": expected BOOL/],
    ['another datatype', 'echo-FP32', one('FP64', '[1,2]', '[1,2]'), /"x" is FP64.*expected FP32 of shape \[1, 2\]/],
    ['another shape', 'echo-FP32', one('FP32', '[1,3]', '[1,2,3]'), /"x" is FP32 of shape \[1, 3\]: expected FP32 of shape \[1, 2\]/],
    ['another count of dimensions', 'echo-FP32', one('FP32', '[2]', '[1,2]'), /"x" is FP32 of shape \[2\]: expected/],
    ['a negative dimension', 'echo-FP32', one('FP32', '[-1,2]', '[1,2]'), /"x": dimension 0 of its shape is not a whole number/],
    ['a fractional dimension', 'echo-FP32', one('FP32', '[1,2.5]', '[1,2]'), /"x": dimension 1 of its shape is not a whole number/],
    ['a huge dimension', 'echo-FP32', one('FP32', '[1e30,2]', '[1,2]'), /"x": dimension 0/],
    ['a huge shape', 'echo-FP32', one('FP32', '[1000000000,1000000000]', '[1,2]'), /"x": shape .* is too large/],
    ['too few elements', 'echo-FP32', one('FP32', '[2,2]', '[1,2,3]'), /"x": FP32 of shape \[2, 2\] needs 4 elements, got 3/],
    ['too many elements', 'echo-FP32', one('FP32', '[1,2]', '[1,2,3]'), /"x": its data has more than the 2 elements of shape \[1, 2\]/],
    ['ragged data', 'echo-FP32', one('FP32', '[2,2]', '[[1,2],[3]]'), /"x": data\[1\] has 1 elements: expected 2/],
    ['rows missing', 'echo-FP32', one('FP32', '[2,2]', '[[1,2]]'), /"x": data has 1 elements: expected 2/],
    ['a row too many', 'echo-FP32', one('FP32', '[1,2]', '[[1,2],[3,4]]'), /"x": data has more than 1 elements/],
    ['data nested too deep', 'echo-FP32', one('FP32', '[1,2]', '[[[1,2]]]'), /"x": found a list at offset \d+: expected a number/],
    ['data nested here and there', 'echo-FP32', one('FP32', '[2,2]', '[[1,2],3]'), /"x": data\[1\] is the number 3: expected a list/],
    ['data that is no list', 'echo-FP32', one('FP32', '[1,2]', '1'), /"x": its data is the number 1: expected a list of 2 elements/],
    ['text for a number', 'echo-FP32', one('FP32', '[1,2]', '[1,"2"]'), /"x": found a string.*expected a number/],
    ['null for a number', 'echo-FP32', one('FP32', '[1,2]', '[null,2]'), /"x": found null.*expected a number/],
    [
      'an FP32 out of range',
      'echo-FP32',
      one('FP32', '[1,2]', '[1e39,2]'),
      /"x": found the number 1e39 at offset \d+: expected a number in the range of FP32/,
    ],
    [
      'an FP64 out of range',
      'echo-FP64',
      one('FP64', '[1,2]', '[1e999,2]'),
      /"x": found the number 1e999 at offset \d+: expected a number in the range of FP64/,
    ],
    ['a UINT8 out of range', 'echo-UINT8', one('UINT8', '[1,2]', '[1,256]'), /"x": 256 is out of the range of UINT8/],
    ['a negative UINT64', 'echo-UINT64', one('UINT64', '[1,2]', '[-1,2]'), /"x": -1 is out of the range of UINT64/],
    ['an INT64 out of range', 'echo-INT64', one('INT64', '[1,2]', '[9223372036854775808,2]'), /"x": 9223372036854775808 is out/],
    ['a fraction for an integer', 'echo-INT32', one('INT32', '[1,2]', '[1.5,2]'), /"x": found the number 1.5.*whole number/],
    ['a number for BOOL', 'echo-BOOL', one('BOOL', '[1,2]', '[2,true]'), /"x": found the number 2.*true or false/],
    ['a number for BYTES', 'echo-BYTES', one('BYTES', '[1,2]', '[1,"a"]'), /"x": found the number 1.*expected a string/],
    ['FP16 as JSON', 'echo-FP16', one('FP16', '[1,2]', '[1,2]'), /"x": FP16 cannot be sent as JSON/],
    ['an unknown input', 'echo-FP32', one('FP32', '[1,2]', '[1,2]').replace('"x"', '"z"'), /unexpected inference input 'z' for model/],
    [
      'an input given twice',
      'echo-FP32',
      '{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]},{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}',
      /"x" is given twice/,
    ],
    [
      'a missing input',
      'pair',
      '{"inputs":[{"name":"a","shape":[1,2],"datatype":"FP32","data":[1,2]}]}',
      /input "n" is missing: expected INT64/,
    ],
    [
      'inputs of different rows',
      'pair',
      '{"inputs":[{"name":"a","shape":[1,2],"datatype":"FP32","data":[1,2]},{"name":"n","shape":[2],"datatype":"INT64","data":[1,2]}]}',
      /"n" is INT64 of shape \[2\]: expected INT64 of shape \[1\]/,
    ],
    [
      'data given twice',
      'echo-FP32',
      one('FP32', '[1,2]', '[1,2]').replace('"data"', '"data":[3,4],"data"'),
      /"inputs\[0\]\.data" is given twice/,
    ],
    [
      'a shape given twice',
      'echo-FP32',
      one('FP32', '[1,2]', '[1,2]').replace('"data"', '"shape":[1,2],"data"'),
      /\.shape" is given twice/,
    ],
    ['inputs given twice', 'echo-FP32', one('FP32', '[1,2]', '[1,2]').replace('{', '{"inputs":[],'), /"inputs" is given twice/],
    [
      'a parameter given twice',
      'echo-FP32',
      one('FP32', '[1,2]', '[1,2]').replace('{', '{"parameters":{"timeout":1,"timeout":2},'),
      /parameter "timeout" of the request is given twice/,
    ],
    ['no row', 'echo-FP32', one('FP32', '[0,2]', '[]'), /"x" is FP32 of shape \[0, 2\]: .*at least one row/],
    [
      'an id that is no string',
      'echo-FP32',
      one('FP32', '[1,2]', '[1,2]').replace('{', '{"id":1,'),
      /"id" is the number 1: expected a string/,
    ],
    [
      'shared memory',
      'echo-FP32',
      '{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"shared_memory_region":"r"}}]}',
      /shared memory/,
    ],
    ['text that is no UTF-8', 'echo-FP32', '\xff', /expected an object|UTF-8|JSON/],
  ]
  test.each(refused)('%s', async (_what, model, body, message) => {
    const response = await infer(model, body)
    const { error } = (await response.json()) as { error: string }
    expect(error).toMatch(message)
    expect(response.status).toBe(400)
  })

  test('bytes that are no UTF-8', async () => {
    const response = await post('/v2/models/echo-FP32/infer', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]))
    expect(response.status).toBe(400)
    expect(await response.text()).toContain('not UTF-8')
  })

  test('JSON that is nested deep, or long, is refused in time', async () => {
    const deep = 1_000_000
    const nested = [
      `{"inputs":${'['.repeat(deep)}`,
      one('FP32', '[1,2]', '['.repeat(deep) + ']'.repeat(deep)),
      `{"parameters":{"a":${'{"a":'.repeat(deep)}`,
    ]
    for (const body of nested) {
      const startMs = performance.now()
      const response = await infer('echo-FP32', body)
      expect(response.status).toBe(400)
      await response.text()
      expect(performance.now() - startMs).toBeLessThan(5_000)
    }
  })

  test('a body over the limit', async () => {
    const response = await post('/v2/models/echo-FP32/infer', Buffer.alloc(64 * 1024 * 1024 + 1))
    expect(response.status).toBe(413)
  })
})

describe('requested outputs and parameters', () => {
  const pairBody = (rest: string): string =>
    `{"inputs":[{"name":"a","shape":[1,2],"datatype":"FP32","data":[1,2]},{"name":"n","shape":[1],"datatype":"INT64","data":[5]}]${rest}}`

  test('all outputs come where none is asked for, else those asked for, in that order', async () => {
    const names = async (rest: string): Promise<string[]> => {
      const answer = (await (await infer('pair', pairBody(rest))).json()) as { outputs: { name: string }[] }
      return answer.outputs.map(({ name }) => name)
    }
    expect(await names('')).toEqual(['b', 'm'])
    expect(await names(',"outputs":[]')).toEqual(['b', 'm'])
    expect(await names(',"outputs":[{"name":"m"},{"name":"b"}]')).toEqual(['m', 'b'])
    expect(await names(',"outputs":[{"name":"m","parameters":{}}]')).toEqual(['m'])
  })

  const refused: readonly (readonly [what: string, rest: string, message: RegExp])[] = [
    ['an unknown output', ',"outputs":[{"name":"z"}]', /unexpected inference output 'z' for model 'pair'.*"b", "m"/],
    ['an output asked for twice', ',"outputs":[{"name":"m"},{"name":"m"}]', /output "m" is asked for twice/],
    ['outputs that are no list', ',"outputs":"m"', /"outputs" is a string/],
    ['an output without a name', ',"outputs":[{}]', /outputs\[0\] has no "name"/],
    ['a sequence', ',"parameters":{"sequence_id":5}', /"sequence_id": sequences are not supported/],
    ['a sequence by text', ',"parameters":{"sequence_id":"s"}', /"sequence_id"/],
    ['a sequence start', ',"parameters":{"sequence_start":true}', /"sequence_start"/],
    ['a priority that is no number', ',"parameters":{"priority":"high"}', /"priority" is "high": expected a whole number/],
    ['a timeout below 0', ',"parameters":{"timeout":-1}', /"timeout" is -1/],
    ['a reserved name', ',"parameters":{"triton_x":1}', /"triton_x"/],
    ['a parameter that is an object', ',"parameters":{"a":{}}', /parameter "a" of the request is an object/],
    ['parameters that are a list', ',"parameters":[]', /the parameters of the request are a list/],
    [
      'binary_data_output that is no boolean',
      ',"parameters":{"binary_data_output":1}',
      /"binary_data_output" is 1: expected true or false/,
    ],
    ['a classification of 0', ',"outputs":[{"name":"b","parameters":{"classification":0}}]', /"classification" is 0/],
    ['an output in shared memory', ',"outputs":[{"name":"b","parameters":{"shared_memory_region":"r"}}]', /shared memory/],
    ['a version beside a label', ',"parameters":{"spillway.label":"stable"}', /unknown label|label/i],
  ]
  test.each(refused)('%s is refused', async (_what, rest, message) => {
    const response = await infer('pair', pairBody(rest))
    const { error } = (await response.json()) as { error: string }
    expect(error).toMatch(message)
    expect(response.status).toBe(400)
  })

  test('what stands for no sequence, a priority, a timeout and parameters of the caller’s own are taken', async () => {
    const parameters = '{"sequence_id":0,"sequence_start":false,"priority":3,"timeout":60000000,"mine":"x","other":1.5,"flag":true}'
    expect((await infer('pair', pairBody(`,"parameters":${parameters}`))).status).toBe(200)
  })

  test('classification gives value, index and no label where the model has none', async () => {
    const body = (outputs: string): string =>
      `{"inputs":[{"name":"x","shape":[2,4],"datatype":"FP32","data":[1,5,10,4,0.5,0.25,0.125,0.0625]}],"outputs":[${outputs}]}`
    const two = await (await infer('classes', body('{"name":"y","parameters":{"classification":2}}'))).json()
    expect(two).toMatchObject({
      outputs: [{ name: 'y', datatype: 'BYTES', shape: [2, 2], data: ['10.000000:2', '5.000000:1', '0.500000:0', '0.250000:1'] }],
    })
    const many = (await (await infer('classes', body('{"name":"y","parameters":{"classification":9}}'))).json()) as {
      outputs: { shape: number[] }[]
    }
    expect(many.outputs[0]!.shape).toEqual([2, 4])
  })
})
