import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, onTestFinished, test } from 'vitest'
import { logisticModel } from './onnx-builder.ts'

test('the runtime reports to nobody: it leaves neither an identifier nor a session of its reports', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'spillway-privacy-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  const path = join(folder, 'model.onnx')
  await writeFile(path, logisticModel([0.5, -1, 2], 0))
  const home = join(folder, 'home')
  await mkdir(home)
  // Nothing by which it takes the machine for one that tests: there it would not report anyway.
  const env = { PATH: process.env['PATH'], HOME: home, TMPDIR: home }
  await promisify(execFile)(process.execPath, [join(import.meta.dirname, 'start-onnx.ts'), path], { env })
  expect(await readdir(home)).toEqual([])
})
