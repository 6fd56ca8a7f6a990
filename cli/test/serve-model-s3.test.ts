import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { logisticModel } from '../../libs/serving/test/onnx-builder.ts'
import { Bucket } from '../../libs/serving/test/s3/bucket.ts'
import { type S3Server, startS3 } from '../../test/brokers/s3.ts'
import { Command, spillway } from './command.ts'

const started = await startS3()
const skipped = 'skipped' in started ? started.skipped : undefined
if (skipped !== undefined) console.warn(`not run: ${skipped}`)

const folder = mkdtempSync(join(tmpdir(), 'spillway-serve-s3-'))
const ports: readonly string[] = ['--http-port', '0', '--grpc-port', '0']
const repository = 's3://shop/our models'
const startMs = 100_000
vi.setConfig({ testTimeout: 180_000 })

describe.skipIf(skipped !== undefined)('serve model from a bucket', () => {
  const server = started as S3Server
  const running: Command[] = []
  let bucket: Bucket

  beforeAll(async () => {
    const { accessKeyId, secretAccessKey } = server.credentials
    vi.stubEnv('AWS_ENDPOINT_URL', server.endpoint)
    vi.stubEnv('AWS_ACCESS_KEY_ID', accessKeyId)
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', secretAccessKey)
    vi.stubEnv('AWS_REGION', server.region)
    bucket = await Bucket.make(server, 'shop')
    await put(1)
  })
  afterEach(async () => {
    for (const command of running.splice(0)) await command.stop('SIGKILL')
  })
  afterAll(async () => {
    vi.unstubAllEnvs()
    await server.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  const put = async (version: number): Promise<void> => {
    await bucket.put(`our models/score/${version}/model.onnx`, logisticModel([1, 2], version))
    await bucket.put(`our models/score/${version}/.complete`, '')
  }

  it('answers, follows a new version, and starts anew from what it kept', async () => {
    const flags = ['--model-cache', join(folder, 'cache'), '--model-control-mode', 'poll', '--repository-poll-secs', '0.2']
    const command = new Command(['serve', 'model', ...ports, '--model-repository', repository, ...flags], folder)
    running.push(command)
    const [, http = ''] = await command.printed(/is running: (http:\/\/[\d.]+:\d+) /, startMs)
    const answeredBy = async (): Promise<string | undefined> => {
      const response = await fetch(`${http}/v1/models/score:predict`, { method: 'POST', body: '{"instances": [[0, 0]]}' })
      return response.ok ? (response.headers.get('spillway-model-version') ?? undefined) : undefined
    }
    expect(await answeredBy()).toBe('1')
    await put(2)
    await expect.poll(answeredBy, { timeout: 60_000 }).toBe('2')
    expect(await command.stop()).toBe(0)

    const again = new Command(['serve', 'model', ...ports, '--model-repository', repository, ...flags], folder)
    running.push(again)
    await again.printed(/score +2 +AVAILABLE +default/, startMs)
    expect(await again.stop()).toBe(0)
  })

  it('refuses in one line to start where the bucket is missing, the secret wrong or the server away', async () => {
    const refused = async (address: string): Promise<string> => {
      const { code, stdout, stderr } = await spillway(
        ['serve', 'model', ...ports, '--log-level', 'silent', '--model-repository', address],
        folder,
      )
      expect([code === 0, stdout]).toEqual([false, ''])
      return stderr
    }
    expect(await refused('s3://none-of-ours')).toMatch(/^spillway: .*s3:\/\/none-of-ours\/: the server answered 404 NoSuchBucket.*\n$/)
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'wrong')
    expect(await refused(repository)).toMatch(/^spillway: .*s3:\/\/shop\/our models\/: the server answered 403 SignatureDoesNotMatch.*\n$/)
    await server.faults.kill()
    expect(await refused(repository)).toMatch(/^spillway: .*http:\/\/127\.0\.0\.1:\d+ does not answer: ECONNREFUSED\n$/)
  })
})
