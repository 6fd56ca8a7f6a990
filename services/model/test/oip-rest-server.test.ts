import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type OipFixture, startOipFixture } from './oip-fixture.ts'

let fixture: OipFixture
beforeAll(async () => {
  fixture = await startOipFixture()
})
afterAll(() => fixture.stop())

const call = (method: string, path: string, body?: string): Promise<Response> =>
  fetch(`${fixture.http}${path}`, { method, ...(body !== undefined && { body }) })

describe('health, metadata, configuration, statistics', () => {
  const gets: readonly (readonly [path: string, status: number, body: unknown])[] = [
    ['/v2/health/live', 200, ''],
    ['/v2/health/ready', 200, ''],
    ['/v2/models/logistic/ready', 200, ''],
    ['/v2/models/logistic/versions/2/ready', 200, ''],
    ['/v2/models/logistic/versions/9/ready', 400, ''],
    ['/v2/models/nobody/ready', 400, ''],
    ['/v2/models/nobody', 404, { error: "Request for unknown model: 'nobody' is not found" }],
    ['/v2/models/nobody/config', 404, { error: "Request for unknown model: 'nobody' is not found" }],
    ['/v2/models/nobody/stats', 404, { error: "Request for unknown model: 'nobody' is not found" }],
    ['/v2/models/logistic/versions/9', 404, { error: expect.stringContaining('version 9') }],
    ['/v2/models/logistic/versions/two', 400, { error: expect.stringContaining("specified version string 'two'") }],
    ['/v2/models/logistic/versions/02', 200, { versions: ['2'] }],
    [
      '/v2/models/pair',
      200,
      {
        name: 'pair',
        versions: ['1'],
        platform: 'onnxruntime_onnx',
        inputs: [
          { name: 'a', datatype: 'FP32', shape: [-1, 2] },
          { name: 'n', datatype: 'INT64', shape: [-1] },
        ],
        outputs: [
          { name: 'b', datatype: 'FP32', shape: [-1, 2] },
          { name: 'm', datatype: 'INT64', shape: [-1] },
        ],
      },
    ],
    ['/v2/models/whole', 200, { inputs: [{ name: 'x', datatype: 'FP32', shape: [3] }] }],
    ['/v2/models/ragged', 200, { inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, -1] }] }],
    [
      '/v2/models/echo-BYTES/config',
      200,
      {
        name: 'echo-BYTES',
        platform: 'onnxruntime_onnx',
        backend: 'onnxruntime',
        max_batch_size: 1024,
        input: [{ name: 'x', data_type: 'TYPE_STRING', dims: [2] }],
        output: [{ name: 'y', data_type: 'TYPE_STRING', dims: [2] }],
        version_policy: { latest: { num_versions: 1 } },
        model_transaction_policy: { decoupled: false },
      },
    ],
    ['/v2/models/whole/config', 200, { max_batch_size: 0, input: [{ name: 'x', data_type: 'TYPE_FP32', dims: [3] }] }],
    ['/v2/systemsharedmemory/status', 501, { error: expect.stringContaining('shared memory') }],
    ['/v2/cudasharedmemory/region/r/status', 501, { error: expect.stringContaining('shared memory') }],
    ['/v2/trace/setting', 501, { error: expect.stringContaining('trace') }],
    ['/v2/models/logistic/trace/setting', 501, { error: expect.stringContaining('trace') }],
    ['/v2/logging', 501, { error: expect.stringContaining('logging') }],
    ['/v2/models/logistic/generate', 501, { error: expect.stringContaining('generate') }],
    ['/v2/nowhere', 404, { error: expect.stringContaining('/v2/nowhere') }],
    ['/v2/models/logistic/infer', 405, { error: expect.stringContaining('expected POST') }],
    ['/v2/repository/index', 405, { error: expect.stringContaining('expected POST') }],
    ['/v2/models/lo%67istic', 200, { name: 'logistic' }],
    ['/v2/models/%ff', 400, { error: expect.any(String) }],
  ]
  test.each(gets)('GET %s is %i', async (path, status, body) => {
    const response = await call('GET', path)
    const text = await response.text()
    if (typeof body === 'string') expect(text).toBe(body)
    else expect(JSON.parse(text)).toMatchObject(body as object)
    expect(response.status).toBe(status)
  })

  test('server metadata lists the extensions that are served', async () => {
    for (const path of ['/v2', '/v2/']) {
      const metadata = (await (await call('GET', path)).json()) as { name: string; version: string; extensions: string[] }
      expect(metadata).toMatchObject({ name: 'spillway', version: expect.any(String) })
      expect(metadata.extensions).toEqual(
        expect.arrayContaining(['binary_tensor_data', 'classification', 'model_repository', 'model_configuration', 'statistics']),
      )
      expect(metadata.extensions).not.toContain('sequence')
      expect(metadata.extensions.join()).not.toMatch(/shared_memory|trace|logging/)
    }
  })

  test('other methods of a path are 405', async () => {
    for (const [method, path] of [
      ['POST', '/v2'],
      ['POST', '/v2/health/live'],
      ['DELETE', '/v2/models/logistic'],
      ['PUT', '/v2/models/logistic/infer'],
      ['POST', '/v2/models/logistic/stats'],
    ] as const) {
      const response = await call(method, path)
      expect(response.status).toBe(405)
      expect(response.headers.get('allow')).toMatch(/GET|POST/)
    }
  })

  test('statistics count requests, rows and runs from 0', async () => {
    type Stats = { model_stats: { name: string; version: string; inference_count: number; execution_count: number }[] }
    const stats = async (path: string): Promise<Stats['model_stats']> => ((await (await call('GET', path)).json()) as Stats).model_stats
    expect(await stats('/v2/models/ragged/stats')).toMatchObject([
      {
        name: 'ragged',
        version: '1',
        last_inference: 0,
        inference_count: 0,
        execution_count: 0,
        inference_stats: { success: { count: 0, ns: 0 } },
      },
    ])
    const body = '{"inputs":[{"name":"x","shape":[2,3],"datatype":"FP32","data":[1,2,3,4,5,6]}]}'
    for (let i = 0; i < 3; i++) expect((await call('POST', '/v2/models/ragged/infer', body)).status).toBe(200)
    expect((await call('POST', '/v2/models/ragged/infer', body.replace('FP32', 'FP64'))).status).toBe(400)
    const [after] = await stats('/v2/models/ragged/versions/1/stats')
    expect(after).toMatchObject({
      inference_count: 6,
      execution_count: 3,
      inference_stats: { success: { count: 3 }, queue: { count: 3 }, compute_infer: { count: 3 } },
      batch_stats: [{ batch_size: 2, compute_infer: { count: 3 } }],
    })
    expect((after as unknown as { last_inference: number }).last_inference).toBeGreaterThan(1.7e12)
    const all = await stats('/v2/models/stats')
    expect(all.find(({ name }) => name === 'ragged')).toEqual(after)
    expect(all.length).toBeGreaterThan(10)
  })
})

describe('the model repository extension', () => {
  test('the index has a line for each version, all or those that are ready', async () => {
    for (const body of [undefined, '{}', '{"ready":true}', '{"ready":false}']) {
      const response = await call('POST', '/v2/repository/index', body)
      expect(response.status).toBe(200)
      expect(await response.json()).toContainEqual({ name: 'logistic', version: '2', state: 'READY', reason: '' })
    }
  })

  test.each([
    ['/v2/repository/index', '{"ready":1', 400],
    ['/v2/repository/index', '{"ready":"yes"}', 400],
    ['/v2/repository/index', '[]', 400],
    ['/v2/repository/other/index', '', 501],
    ['/v2/repository/other/models/logistic/load', '', 501],
    ['/v2/repository/models/logistic/load', '{"parameters":{"config":5}}', 400],
    ['/v2/repository/models/logistic/load', '{"parameters":{"unknown":"x"}}', 400],
    ['/v2/repository/models/logistic/load', '{"parameters":{"file:1/model.onnx":"AAAA"}}', 400],
    ['/v2/repository/models/logistic/load', '{"parameters":{"config":"{}","file:1/model.onnx":"no base64!"}}', 400],
    ['/v2/repository/models/logistic/load', '{"parameters":{"config":"{}","file:../x":"AAAA"}}', 400],
    ['/v2/repository/models/logistic/load', '{"parameters":{"config":"{}","file:/etc/x":"AAAA"}}', 400],
    ['/v2/repository/models/logistic/unload', '{"parameters":{"unload_dependents":"yes"}}', 400],
    ['/v2/repository/models/logistic/unload', '{"parameters":{"other":true}}', 400],
  ])('POST %s %s is %i', async (path, body, status) => {
    const response = await call('POST', path, body)
    expect(await response.json()).toMatchObject({ error: expect.any(String) })
    expect(response.status).toBe(status)
  })
})
