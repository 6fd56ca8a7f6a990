import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { expect, it, onTestFinished } from 'vitest'
import { mlpModel, writeModel } from '../../libs/serving/test/onnx-builder.ts'
import { Command } from './command.ts'

/** So many rows through two layers of this width keep a worker busy for seconds. */
const width = 3072
const rows = 8192

it('a second Ctrl-C ends the process by its signal though a worker is in the middle of a run', { timeout: 180_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'spillway-stop-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  await writeModel(folder, 'slow', 1, mlpModel([8, width, width, 1]))
  const flags = ['--model-repository', folder, '--max-batch-size', String(rows), '--instances', '1', '--http-port', '0', '--grpc-port', '0']
  const command = new Command(['serve', 'model', ...flags], folder)
  onTestFinished(async () => void (await command.stop('SIGKILL')))
  const [, http = ''] = await command.printed(/is running: (http:\/\/[\d.]+:\d+)/, 100_000)
  const json = JSON.stringify({
    inputs: [{ name: 'features', datatype: 'FP32', shape: [rows, 8], parameters: { binary_data_size: rows * 8 * 4 } }],
  })
  const call = (): Promise<string> =>
    fetch(`${http}/v2/models/slow/infer`, {
      method: 'POST',
      headers: { 'Inference-Header-Content-Length': String(json.length) },
      body: Buffer.concat([Buffer.from(json), Buffer.alloc(rows * 8 * 4)]),
    }).then(
      async (response) => `${response.status} ${await response.text()}`,
      () => 'cut off',
    )
  const answers = [call(), call()]
  // One waits: the other is run.
  const waits = async (): Promise<boolean> =>
    /nv_inference_pending_request_count\S* 1$/m.test(await (await fetch(`${http}/metrics`)).text())
  await expect.poll(waits, { timeout: 60_000, interval: 20 }).toBe(true)
  const stopped = command.stop('SIGINT')
  await command.printed(/Draining/)
  // One that comes sooner is taken for the same Ctrl-C, passed on by npm.
  await wait(600)
  await Promise.all([command.stop('SIGINT'), stopped])
  expect([command.endedBy, ...(await Promise.all(answers)).slice(1)]).toEqual(['SIGINT', 'cut off'])
  expect(command.stderr).not.toMatch(/terminate called|abort/i)
})
