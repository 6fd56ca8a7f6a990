import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createTelemetry } from '@spillway/telemetry'
import { expect, onTestFinished, test } from 'vitest'
import { mlpModel, writeModel } from '../../../libs/serving/test/onnx-builder.ts'
import { startModelService } from '../src/mod.ts'

/** Rows wait for a hundred seconds, or until there are four. */
const config = (override: boolean): string => `
max_batch_size: 4
dynamic_batching {
  preferred_batch_size: [ 4 ]
  max_queue_delay_microseconds: 100000000
  default_queue_policy { allow_timeout_override: ${override} }
}`

test('a request’s own timeout over REST, µs, ends its time in the queue where the model lets it, and counts for nothing where not', async () => {
  const repository = await mkdtemp(join(tmpdir(), 'spillway-timeout-'))
  for (const [model, override] of [
    ['patient', true],
    ['stubborn', false],
  ] as const) {
    await writeModel(repository, model, 1, mlpModel([4, 8, 1]))
    await writeFile(join(repository, model, 'config.pbtxt'), config(override))
  }
  const telemetry = createTelemetry({ service: 'timeout-test', logLevel: 'silent', otlp: false })
  const { signal } = new AbortController()
  const service = await startModelService({ repository, host: '127.0.0.1', httpPort: 0, grpcPort: 0, telemetry, signal })
  onTestFinished(async () => {
    await service.drain()
    await telemetry.shutdown()
    await rm(repository, { recursive: true })
  })
  const infer = async (model: string, parameters: object, rows = 1): Promise<readonly [number, string]> => {
    const data = Array.from({ length: rows * 4 }, (_, i) => i)
    const response = await fetch(`http://127.0.0.1:${service.httpPort}/v2/models/${model}/infer`, {
      method: 'POST',
      body: JSON.stringify({ inputs: [{ name: 'features', datatype: 'FP32', shape: [rows, 4], data }], parameters }),
    })
    return [response.status, await response.text()]
  }

  const refused = [503, expect.stringContaining("waited in the model's queue for longer than the 20 ms")]
  expect(await infer('patient', { timeout: 20_000 })).toEqual(refused)
  // Three wait; the fourth row lets them all go, and with them the one whose own limit does not count.
  const three = [infer('stubborn', { timeout: 1 }), infer('stubborn', {}), infer('stubborn', { timeout: 0 })]
  expect(await infer('patient', { timeout: 20_000 }, 3)).toEqual(refused)
  const four = [...three, infer('stubborn', {})]
  expect((await Promise.all(four)).map(([status]) => status)).toEqual([200, 200, 200, 200])
})
