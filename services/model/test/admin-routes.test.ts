import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createTelemetry } from '@spillway/telemetry'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { logisticModel, writeModel } from '../../../libs/serving/test/onnx-builder.ts'
import { type ModelService, startModelService } from '../src/mod.ts'

let repository: string
let service: ModelService
let base: string
const telemetry = createTelemetry({ service: 'admin-test', logLevel: 'silent', otlp: false })

beforeAll(async () => {
  repository = await mkdtemp(join(tmpdir(), 'spillway-admin-'))
  for (const version of [1, 2]) await writeModel(repository, 'score', version, logisticModel([1, 2], version))
  await writeModel(repository, 'other model', 1, logisticModel([1], 0))
  const { signal } = new AbortController()
  service = await startModelService({ repository, host: '127.0.0.1', httpPort: 0, grpcPort: 0, workers: 1, telemetry, signal })
  base = `http://127.0.0.1:${service.httpPort}/v2`
})
afterAll(async () => {
  await service.drain()
  await telemetry.shutdown()
  await rm(repository, { recursive: true })
})

interface Answer {
  readonly status: number
  readonly body: unknown
}

async function call(method: string, path: string, body?: unknown): Promise<Answer> {
  const init = body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }
  const response = await fetch(base + path, { method, ...init })
  return { status: response.status, body: (await response.json()) as unknown }
}

async function answeredBy(): Promise<string> {
  const inputs = [{ name: 'features', datatype: 'FP32', shape: [1, 2], data: [0, 0] }]
  const { body } = await call('POST', '/models/score/infer', { inputs })
  return (body as { model_version: string }).model_version
}

describe('what is served is said, changed and taken back', () => {
  it('lists every model with its versions', async () => {
    const { status, body } = await call('GET', '/repository/models')
    expect(status).toBe(200)
    expect(body).toEqual({
      models: [
        expect.objectContaining({ name: 'other model', default_version: '1' }),
        {
          name: 'score',
          ready: true,
          default_version: '2',
          versions: [{ version: '2', state: 'AVAILABLE' }],
          labels: {},
          traffic: { split: [] },
        },
      ],
    })
    expect(await call('GET', '/repository/models/other%20model')).toMatchObject({ status: 200, body: { name: 'other model' } })
  })

  it('promotes a version, and rolls back', async () => {
    expect(await call('POST', '/repository/models/score/promote', { version: 1 })).toMatchObject({
      status: 200,
      body: { default_version: '1' },
    })
    expect(await answeredBy()).toBe('1')
    expect(await call('POST', '/repository/models/score/rollback')).toMatchObject({ status: 200, body: { default_version: '2' } })
    expect(await answeredBy()).toBe('2')
    const { status, body } = await call('POST', '/repository/models/score/rollback', {})
    expect(status).toBe(409)
    expect(body).toMatchObject({ error: expect.stringMatching(/has no earlier version to go back to/) as unknown })
  })

  it('sets labels, splits and shadows on loaded versions', async () => {
    expect(await call('PUT', '/models/score/labels/stable', { version: '2' })).toEqual({ status: 200, body: { stable: '2' } })
    expect(await call('PUT', '/models/score/labels/canary', { version: '1' })).toMatchObject({
      status: 409,
      body: { error: expect.stringMatching(/1 is not loaded: its loaded versions are 2/) as unknown },
    })
    await call('POST', '/repository/models/score/promote', { version: '1' })
    const split = [
      { to: '1', weight: 0 },
      { to: 'label:stable', weight: 1 },
    ]
    const traffic = { split, shadow: { to: '1', fraction: 0.5 } }
    expect(await call('PUT', '/models/score/traffic', traffic)).toEqual({ status: 200, body: traffic })
    expect(await answeredBy()).toBe('2')
    expect(await call('GET', '/models/score/traffic')).toEqual({ status: 200, body: traffic })
    expect(await call('PUT', '/models/score/traffic', {})).toEqual({ status: 200, body: { split: [] } })
    expect(await answeredBy()).toBe('1')
    expect(await call('DELETE', '/models/score/labels/stable')).toEqual({ status: 200, body: {} })
    expect(await call('DELETE', '/models/score/labels/stable')).toMatchObject({ status: 404 })
    expect(await call('GET', '/models/score/labels')).toEqual({ status: 200, body: {} })
  })
})

describe('what is wrong is refused with the member that is', () => {
  it.each<[string, string, unknown, number, RegExp]>([
    ['POST', '/repository/models/score/promote', undefined, 400, /has no body/],
    ['POST', '/repository/models/score/promote', '{', 400, /not valid JSON/],
    ['POST', '/repository/models/score/promote', [], 400, /expected a JSON object/],
    ['POST', '/repository/models/score/promote', { version: '1', force: true }, 400, /^force: there is no such member: expected version/],
    ['POST', '/repository/models/score/promote', { version: null }, 400, /^version: expected a version/],
    ['POST', '/repository/models/score/promote', { version: '9' }, 404, /version 9 is not found/],
    ['POST', '/repository/models/score/promote', { version: 'x'.repeat(70_000) }, 400, /at most 65536/],
    ['POST', '/repository/models/none/promote', { version: '1' }, 404, /'none' is not found/],
    ['GET', '/repository/models/none', undefined, 404, /'none' is not found/],
    ['PUT', '/models/score/traffic', { split: [{ to: '1', weight: -1 }] }, 400, /weight/],
    ['PUT', '/models/score/traffic', { split: [{ to: '1' }] }, 400, /^split\[0\]\.weight: expected a number/],
    ['PUT', '/models/score/traffic', { split: {} }, 400, /^split: expected an array/],
    ['PUT', '/models/score/traffic', { split: [{ to: '9', weight: 1 }] }, 409, /9 is not loaded/],
    ['PUT', '/models/score/traffic', { shadow: { to: '1', fraction: 2 } }, 400, /fraction/],
    ['DELETE', '/repository/models/score', undefined, 405, /expected GET/],
    ['GET', '/repository/models/score/promote', undefined, 405, /expected POST/],
    ['POST', '/models/score/labels/stable', { version: '1' }, 405, /expected PUT, DELETE/],
  ])('%s %s %j', async (method, path, body, status, message) => {
    const answer = await call(method, path, body)
    expect(answer.status).toBe(status)
    expect((answer.body as { error: string }).error).toMatch(message)
  })
})
