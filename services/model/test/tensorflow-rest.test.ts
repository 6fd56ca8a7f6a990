import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startTensorflowFixture, type TensorflowFixture } from './tensorflow-fixture.ts'

// Cases are from tensorflow.org/tfx/serving/api_rest and kserve.github.io/website ("Data Plane (V1)").
let fixture: TensorflowFixture

beforeAll(async () => {
  fixture = await startTensorflowFixture('half_plus_three', 'half_plus_two', 'column', 'scores', 'labelled', 'images', 'sensors')
})
afterAll(() => fixture.stop())

describe('classify and regress', () => {
  test.each<[string, string, string, string]>([
    [
      'the documents’ regression',
      'half_plus_three:regress',
      '{"signature_name": "tensorflow/serving/regress", "examples": [{"x": 1.0}, {"x": 2.0}]}',
      '{"results": [3.5, 4.0]}',
    ],
    ['features as lists', 'half_plus_three:regress', '{"examples": [{"x": [1.0]}, {"x": 2.0}]}', '{"results": [3.5, 4.0]}'],
    ['an output called outputs', 'column:regress', '{"examples": [{"x": 0.1}]}', '{"results": [0.1]}'],
    ['scores without labels', 'half_plus_three:classify', '{"examples": [{"x": 2.0}]}', '{"results": [[["", 4.0]]]}'],
    [
      'several scores',
      'scores:classify',
      '{"examples": [{"x": [0.5, 0.25, 0.25]}, {"x": [1, 0, 0]}]}',
      '{"results": [[["", 0.5], ["", 0.25], ["", 0.25]], [["", 1.0], ["", 0.0], ["", 0.0]]]}',
    ],
    [
      'labels of the model',
      'labelled:classify',
      '{"examples": [{"score": [0.9, 0.1], "name": ["cat", "dog"]}]}',
      '{"results": [[["cat", 0.9], ["dog", 0.1]]]}',
    ],
    [
      'a context',
      'labelled:classify',
      '{"context": {"name": ["a", "b"]}, "examples": [{"score": [1, 2]}, {"score": [3, 4]}]}',
      '{"results": [[["a", 1.0], ["b", 2.0]], [["a", 3.0], ["b", 4.0]]]}',
    ],
    ['a context behind the examples', 'half_plus_three:regress', '{"examples": [{}, {}], "context": {"x": 4}}', '{"results": [5.0, 5.0]}'],
  ])('%s', async (_what, path, body, answer) => {
    expect(await fixture.post(`/v1/models/${path}`, body)).toEqual([200, answer])
  })

  test.each<[string, string, string, string]>([
    ['no examples', 'half_plus_three:regress', '{"instances": [1]}', "key 'examples' is expected"],
    ['an empty list', 'half_plus_three:regress', '{"examples": []}', 'empty array'],
    ['no list', 'half_plus_three:classify', '{"examples": {"x": 1}}', 'to be an list/array'],
    ['an example that is no object', 'half_plus_three:classify', '{"examples": [1]}', 'Example must be JSON object'],
    ['a feature without an input', 'half_plus_three:classify', '{"examples": [{"z": 1}]}', 'no input for feature "z"'],
    ['a feature that is missing', 'labelled:classify', '{"examples": [{"score": [1, 2]}]}', 'feature "name" is missing'],
    ['a feature of the context again', 'half_plus_three:regress', '{"context": {"x": 1}, "examples": [{"x": 1}]}', "in 'context' already"],
    ['a feature of another length', 'scores:classify', '{"examples": [{"x": [1, 2]}]}', '2 values: expected 3'],
    ['a feature of another type', 'scores:classify', '{"examples": [{"x": ["a", "b", "c"]}]}', 'found a string'],
    ['a model that is no regression', 'scores:regress', '{"examples": [{"x": [1, 2, 3]}]}', 'no Regression signature'],
    ['a model that is no classification', 'images:classify', '{"examples": [{"image": "a"}]}', 'no Classification signature'],
  ])('%s is 400 and says why', async (_what, path, body, text) => {
    const [status, answer] = await fixture.post(`/v1/models/${path}`, body)
    expect([status, answer]).toEqual([400, expect.stringContaining('"error"')])
    expect((JSON.parse(answer) as { error: string }).error).toContain(text)
  })
})

describe('status and metadata', () => {
  const available = (version: string): object => ({ version, state: 'AVAILABLE', status: { error_code: 'OK', error_message: '' } })

  test('of a model, a version and a label', async () => {
    expect(await fixture.get('/v1/models/half_plus_three')).toEqual([
      200,
      { model_version_status: [available('123')], name: 'half_plus_three', ready: true },
    ])
    expect(await fixture.get('/v1/models/half_plus_two')).toMatchObject([200, { model_version_status: ['3', '2', '1'].map(available) }])
    expect(await fixture.get('/v1/models/half_plus_three/versions/123')).toEqual([200, { model_version_status: [available('123')] }])
    expect(await fixture.get('/v1/models/half_plus_two/labels/canary')).toEqual([200, { model_version_status: [available('2')] }])
    expect(await fixture.get('/V1/MODELS/half_plus_two/VERSIONS/1')).toEqual([200, { model_version_status: [available('1')] }])
  })

  test('of all models, as KServe lists them', async () => {
    expect(await fixture.get('/v1/models')).toEqual([200, { models: fixture.models.names() }])
  })

  test('metadata is the signature definition', async () => {
    const dim = (...sizes: string[]): object => ({ dim: sizes.map((size) => ({ size, name: '' })), unknown_rank: false })
    expect(await fixture.get('/v1/models/sensors/metadata')).toEqual([
      200,
      {
        model_spec: { name: 'sensors', signature_name: '', version: '1' },
        metadata: {
          signature_def: {
            signature_def: {
              serving_default: {
                inputs: {
                  tag: { dtype: 'DT_STRING', tensor_shape: dim('-1'), name: 'tag:0' },
                  signal: { dtype: 'DT_FLOAT', tensor_shape: dim('-1', '5'), name: 'signal:0' },
                  sensor: { dtype: 'DT_INT64', tensor_shape: dim('-1', '2', '2'), name: 'sensor:0' },
                },
                outputs: {
                  tag_out: { dtype: 'DT_STRING', tensor_shape: dim('-1'), name: 'tag_out:0' },
                  signal_out: { dtype: 'DT_FLOAT', tensor_shape: dim('-1', '5'), name: 'signal_out:0' },
                  sensor_out: { dtype: 'DT_INT64', tensor_shape: dim('-1', '2', '2'), name: 'sensor_out:0' },
                },
                method_name: 'tensorflow/serving/predict',
              },
            },
          },
        },
      },
    ])
    expect(await fixture.get('/v1/models/half_plus_two/versions/2/metadata')).toMatchObject([200, { model_spec: { version: '2' } }])
    expect(await fixture.get('/v1/models/half_plus_two/labels/stable/metadata')).toMatchObject([200, { model_spec: { version: '1' } }])
  })

  test.each<[string, string, number, string]>([
    ['GET', '/v1/models/nowhere', 404, 'Could not find any versions of model nowhere'],
    ['GET', '/v1/models/half_plus_two/versions/9', 404, 'Could not find version 9 of model half_plus_two'],
    ['GET', '/v1/models/half_plus_two/labels/none', 400, 'Unrecognized servable version label: none'],
    ['GET', '/v1/models/nowhere/metadata', 404, 'Servable not found for request: Latest(nowhere)'],
    ['GET', '/v1/models/half_plus_two/versions/9/metadata', 404, 'Servable not found for request: Specific(half_plus_two, 9)'],
    ['GET', '/v1/models/half_plus_two/labels/none/metadata', 400, 'Unrecognized servable version label: none'],
    ['POST', '/v1/models/nowhere:predict', 404, 'Servable not found for request: Latest(nowhere)'],
    ['POST', '/v1/models/nowhere/labels/stable:predict', 400, 'Unrecognized servable version label: stable'],
    ['POST', '/v1/models/half_plus_two/versions/9:classify', 404, 'Servable not found for request: Specific(half_plus_two, 9)'],
    ['POST', '/v1/models/half_plus_two/labels/none:regress', 400, 'Unrecognized servable version label: none'],
    ['GET', '/v1/models/m/versions/99999999999999999999', 400, 'Failed to convert version: 99999999999999999999 to numeric.'],
    ['POST', '/v1/models/half_plus_two:explain', 400, 'Malformed request: POST /v1/models/half_plus_two:explain'],
    ['POST', '/v1/models/half_plus_two', 400, 'Malformed request: POST /v1/models/half_plus_two'],
    ['POST', '/v1/models/half_plus_two/versions/x:predict', 400, 'Malformed request: POST /v1/models/half_plus_two/versions/x:predict'],
    ['POST', '/v1/models/:predict', 400, 'Malformed request: POST /v1/models/:predict'],
    ['GET', '/v1/models/half_plus_two:predict', 400, 'Malformed request: GET /v1/models/half_plus_two:predict'],
    ['GET', '/v1/models/half_plus_two/', 400, 'Malformed request: GET /v1/models/half_plus_two/'],
    ['GET', '/v1/model', 400, 'Malformed request: GET /v1/model'],
    ['PUT', '/v1/models/half_plus_two', 400, 'Malformed request: PUT /v1/models/half_plus_two'],
    ['DELETE', '/v1/models/half_plus_two', 400, 'Malformed request: DELETE /v1/models/half_plus_two'],
  ])('%s %s is %d', async (method, path, status, error) => {
    if (method === 'POST') expect(await fixture.post(path, '{"instances": [1]}')).toEqual([status, JSON.stringify({ error })])
    else expect(await fixture.get(path, method)).toEqual([status, { error }])
  })

  test('metrics are where TensorFlow Serving is scraped', async () => {
    const response = await fetch(`${fixture.url}/monitoring/prometheus/metrics`)
    expect([response.status, await response.text()]).toEqual([200, expect.stringContaining('nv_inference_count')])
  })
})
