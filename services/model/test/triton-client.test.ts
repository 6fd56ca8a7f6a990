import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { logisticModel, writeModel } from '../../../libs/serving/test/onnx-builder.ts'
import { tritonPython } from './clients/python-client.ts'
import { startOipFixture } from './oip-fixture.ts'

const run = promisify(execFile)

test('Triton’s own client works unchanged over HTTP and gRPC', { timeout: 300_000 }, async (context) => {
  const found = await tritonPython()
  if ('missing' in found) return context.skip(found.missing)
  const folder = await mkdtemp(join(tmpdir(), 'spillway-upload-'))
  const model = await writeModel(folder, 'uploaded', 1, logisticModel([1, 2, 3], 0))
  const fixture = await startOipFixture({ identity: { name: 'triton', version: '2.73.0' }, explicit: true })
  try {
    const script = join(import.meta.dirname, 'clients', 'triton_client.py')
    const args = [script, fixture.http.slice('http://'.length), `127.0.0.1:${fixture.grpcPort}`, model]
    const { stdout } = await run(found.python, args, { timeout: 200_000 })
    expect(stdout).toMatch(/^[3-9]\d\d checks\n$/)
  } finally {
    await fixture.stop()
    await rm(folder, { recursive: true })
  }
})
