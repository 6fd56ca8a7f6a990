import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { tensor } from '@spillway/core'
import { GrpcChannel } from '@spillway/rpc'
import { OipModelClient } from '@spillway/serving'
import { createTelemetry, type OwnedTelemetry } from '@spillway/telemetry'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { logistic, logisticModel, writeModel } from '../../../libs/serving/test/onnx-builder.ts'
import { type ModelService, startModelService } from '../src/mod.ts'

const weights = [1, -2]
let repository: string
let telemetry: OwnedTelemetry

beforeAll(async () => {
  repository = await mkdtemp(join(tmpdir(), 'spillway-service-'))
  await writeModel(repository, 'cheap', 1, logisticModel(weights, 0))
  telemetry = createTelemetry({ service: 'model-test', logLevel: 'silent', otlp: false })
})
afterAll(async () => {
  await telemetry.shutdown()
  await rm(repository, { recursive: true })
})

function start(options: { repository?: string; grpcPort?: number } = {}): Promise<ModelService> {
  const { signal } = new AbortController()
  return startModelService({ repository, host: '127.0.0.1', httpPort: 0, grpcPort: 0, telemetry, signal, ...options })
}

test('it serves the repository over gRPC, says so over HTTP, and drains', async () => {
  const service = await start()
  const client = new OipModelClient(new GrpcChannel({ address: `127.0.0.1:${service.grpcPort}`, telemetry }))
  const { signal } = new AbortController()
  const inputs = new Map([['features', tensor('FP32', [2, 2], Float32Array.of(1, 2, 3, 4))]])
  const { outputs } = await client.infer({ model: 'cheap', inputs, rowCount: 2, deadlineMs: Date.now() + 5_000, signal })
  const scores = outputs.get('score')!.data as Float32Array
  expect(scores[0]).toBeCloseTo(logistic(weights, 0, [1, 2]), 6)
  expect(scores[1]).toBeCloseTo(logistic(weights, 0, [3, 4]), 6)

  const http = `http://127.0.0.1:${service.httpPort}`
  expect((await fetch(`${http}/readyz`)).status).toBe(200)
  expect(await (await fetch(`${http}/metrics`)).text()).toContain('spillway_model_rows_total{model="cheap",version="1"} 2')

  await Promise.all([service.drain(), service.drain()])
  await expect(fetch(`${http}/livez`)).rejects.toThrow()
  await expect(client.infer({ model: 'cheap', inputs, rowCount: 2, deadlineMs: Infinity, signal })).rejects.toMatchObject({
    code: 'UNAVAILABLE',
  })
  await client.drain()
})

test('it does not start where the repository or the port is wrong, and leaves nothing behind', async () => {
  const missing = join(repository, 'nowhere')
  await expect(start({ repository: missing })).rejects.toMatchObject({
    code: 'NOT_FOUND',
    message: expect.stringContaining(missing) as string,
  })
  const service = await start()
  await expect(start({ grpcPort: service.grpcPort })).rejects.toMatchObject({
    code: 'FAILED_PRECONDITION',
    message: expect.stringContaining(`127.0.0.1:${service.grpcPort}`) as string,
  })
  await service.drain()
})
