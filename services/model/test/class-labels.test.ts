import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createTelemetry } from '@spillway/telemetry'
import { expect, onTestFinished, test } from 'vitest'
import { mlpModel, writeModel } from '../../../libs/serving/test/onnx-builder.ts'
import { startModelService } from '../src/mod.ts'

const config = `
name: "animals"
max_batch_size: 8
input { name: "features" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "score" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "animals.txt" }
`
const animals = ['cat', 'dog', 'hen']

test('classification names classes from the label file of config.pbtxt, each row by itself', async () => {
  const repository = await mkdtemp(join(tmpdir(), 'spillway-labels-'))
  await writeModel(repository, 'animals', 1, mlpModel([4, 8, 3]))
  await writeFile(join(repository, 'animals', 'config.pbtxt'), config)
  await writeFile(join(repository, 'animals', 'animals.txt'), `${animals.join('\n')}\n`)
  const telemetry = createTelemetry({ service: 'labels-test', logLevel: 'silent', otlp: false })
  const { signal } = new AbortController()
  const service = await startModelService({ repository, host: '127.0.0.1', httpPort: 0, grpcPort: 0, telemetry, signal })
  onTestFinished(async () => {
    await service.drain()
    await telemetry.shutdown()
    await rm(repository, { recursive: true })
  })
  const inputs = [{ name: 'features', datatype: 'FP32', shape: [2, 4], data: [1, -2, 3, 4, -4, 3, 2, -1] }]
  const infer = async (parameters: object): Promise<unknown> => {
    const response = await fetch(`http://127.0.0.1:${service.httpPort}/v2/models/animals/infer`, {
      method: 'POST',
      body: JSON.stringify({ inputs, outputs: [{ name: 'score', parameters }] }),
    })
    expect(response.status).toBe(200)
    return ((await response.json()) as { outputs: [unknown] }).outputs[0]
  }

  const { data: scores } = (await infer({})) as { data: number[] }
  const named = [0, 1].flatMap((row) => {
    const own = scores.slice(row * 3, row * 3 + 3)
    const order = [0, 1, 2].toSorted((a, b) => own[b]! - own[a]!)
    return order.slice(0, 2).map((index) => `${Math.fround(own[index]!).toFixed(6)}:${index}:${animals[index]}`)
  })
  expect(await infer({ classification: 2 })).toMatchObject({ datatype: 'BYTES', shape: [2, 2], data: named })
})
