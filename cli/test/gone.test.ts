import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { logisticModel, writeModel } from '../../libs/serving/test/onnx-builder.ts'
import { examplePipeline, spillway } from './command.ts'

const root = join(import.meta.dirname, '..', '..')
const folder = mkdtempSync(join(tmpdir(), 'spillway-gone-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** A command whose output nobody reads any more. */
async function unread(args: readonly string[]): Promise<{ code: number | null; stderr: string }> {
  const child: ChildProcess = spawn(join(root, 'node_modules', '.bin', 'node'), [join(root, 'cli', 'bin', 'spillway.mjs'), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stderr = ''
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  child.stdout!.destroy()
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, stderr }
}

describe('where whoever reads the output goes, as head does', () => {
  it('a command ends as by SIGPIPE, without a word', async () => {
    expect(await unread(['validate', examplePipeline])).toEqual({ code: 141, stderr: '' })
  })

  it('a service drains', async () => {
    await writeModel(folder, 'm', 1, logisticModel([1], 0))
    const ports = ['--http-port', '0', '--grpc-port', '0', '--log-level', 'warn']
    expect(await unread(['serve', 'model', '--model-repository', folder, ...ports])).toEqual({ code: 0, stderr: '' })
  })
})

it('subscribe says in one line that the gateway went away', async () => {
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: {"n":1}\n\n')
    setImmediate(() => response.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  try {
    const { code, stderr } = await spillway(['subscribe', 'predictions', '--gateway', `http://127.0.0.1:${port}`], folder)
    expect([code, stderr]).toEqual([1, `spillway: the gateway at http://127.0.0.1:${port} went away\n`])
  } finally {
    server.close()
  }
})
