import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { freePorts } from '../../../../test/brokers/ports.ts'
import { type S3Server, startS3 } from '../../../../test/brokers/s3.ts'
import { modelConfigParsers, parseS3Address, S3Client, type S3Credentials, S3Source, type S3SourceOptions } from '../../src/mod.ts'
import { refusal } from '../refusal.ts'
import { eventually, signal, states, TestBed, versionOf, weights } from '../lifecycle/served-models.ts'
import { logisticModel } from '../onnx-builder.ts'
import { Bucket } from './bucket.ts'

const started = await startS3()
const skipped = 'skipped' in started ? started.skipped : undefined
if (skipped !== undefined) console.warn(`not run: ${skipped}`)

/** Prefixes are part of what is encoded, too. */
const prefix = 'some where/ünïcödé'
const model = (version: number): Uint8Array => logisticModel(weights, version)

describe.skipIf(skipped !== undefined)('models in a bucket', () => {
  const server = started as S3Server
  let bed: TestBed
  let buckets = 0
  let name: string
  let bucket: Bucket

  afterAll(() => server.stop())
  beforeEach(async () => {
    bed = await TestBed.make()
    name = `models-${buckets++}`
    bucket = await Bucket.make(server, name)
  })
  afterEach(() => bed.close())

  const put = (path: string, content: Uint8Array | string): Promise<void> => bucket.put(`${prefix}/${path}`, content)

  function client(address: string = `s3://${name}`, credentials: S3Credentials | undefined = server.credentials): S3Client {
    const { region, endpoint } = server
    return new S3Client({ address: parseS3Address(address, region, endpoint), region, ...(credentials && { credentials }) })
  }

  function source(options: Partial<S3SourceOptions> = {}): S3Source {
    const cacheFolder = join(bed.repository, 'cache')
    const { parseConfig } = modelConfigParsers(bed.telemetry.logger)
    return new S3Source({ client: client(), prefix, name: 's3://it', cacheFolder, settleMs: 0, parseConfig, ...options })
  }

  it('are loaded, followed as versions come and go, whatever their keys are', async () => {
    await put('a/1/model.onnx', model(1))
    await put("模型 & (more) 100 % +!*'/00000007/model.onnx", model(7))
    await put('stray.txt', 'no model')
    const manager = await bed.started({ source: source(), mode: 'poll' })
    const strange = "模型 & (more) 100 % +!*'"
    expect(manager.names()).toEqual(['a', strange])
    expect([await versionOf(manager, 'a'), await versionOf(manager, strange)]).toEqual(['1', '7'])
    await put('a/2/model.onnx', model(2))
    await eventually(() => versionOf(manager, 'a')).toBe('2')
    await bucket.delete(`${prefix}/a/2/model.onnx`)
    await eventually(() => versionOf(manager, 'a')).toBe('1')
    await bucket.delete(`${prefix}/${strange}/00000007/model.onnx`)
    await eventually(() => manager.names()).toEqual(['a'])
  })

  it('have their config, and files beside their versions', async () => {
    await put(
      'a/config.pbtxt',
      'max_batch_size: 4 version_policy { all {} } output { name: "score" data_type: TYPE_FP32 dims: 1 label_filename: "l.txt" }',
    )
    await put('a/l.txt', 'only')
    await put('a/1/model.onnx', model(1))
    await put('a/2/model.onnx', model(2))
    const manager = await bed.started({ source: source() })
    expect(states(manager, 'a')).toEqual(['2:AVAILABLE', '1:AVAILABLE'])
    const handle = await manager.acquire('a')
    expect([handle.config.maxBatchSize, handle.classLabels.get('score')]).toEqual([4, ['only']])
    handle.release()
    await put('a/config.pbtxt', 'max_batch_sise: 4')
    expect((await refusal(() => bed.started({ source: source() }))).message).toMatch(
      /s3:\/\/it\/a\/config\.pbtxt: line 1, column 1: max_batch_sise/,
    )
  })

  it('are not loaded while a version is being written', async () => {
    const files = source({ settleMs: 60_000 })
    const found = async (): Promise<unknown> => {
      const { versions, unsettled } = await files.model('a', signal)
      return { whole: versions.map(({ version }) => version), unsettled }
    }
    await put('a/1/model.onnx', model(1))
    expect(await found()).toEqual({ whole: [], unsettled: ['1'] })
    await put('a/1/.complete', '')
    await put('a/2/.incomplete', '')
    await put('a/2/model.onnx', model(2))
    expect(await found()).toEqual({ whole: ['1'], unsettled: ['2'] })
    await put('a/2/.complete', '')
    expect(await found()).toEqual({ whole: ['1'], unsettled: ['2'] })
    await bucket.delete(`${prefix}/a/2/.incomplete`)
    expect(await found()).toEqual({ whole: ['2', '1'], unsettled: [] })
  })

  it('come whole or not at all: an object that is replaced meanwhile is refused', async () => {
    await put('a/1/model.onnx', model(1))
    const files = source()
    const [version] = (await files.model('a', signal)).versions
    await put('a/1/model.onnx', model(9))
    expect(await refusal(() => version!.fetch(signal))).toMatchObject({ code: 'ABORTED' })
    const [again] = (await files.model('a', signal)).versions
    const { folder, fileBytes } = await again!.fetch(signal)
    expect(Buffer.compare(await readFile(join(folder, 'model.onnx')), model(9))).toBe(0)
    expect(fileBytes).toBe(model(9).byteLength)
    expect((await readdir(join(folder, '..'))).filter((file) => file.startsWith('.coming'))).toEqual([])
  })

  it('are downloaded to a folder of their own, which goes with the source', async () => {
    await put('a/1/model.onnx', model(1))
    const files = new S3Source({ client: client(`s3://${server.endpoint}/${name}`), prefix, name: 's3', settleMs: 0 })
    const [version] = (await files.model('a', signal)).versions
    const local = await version!.fetch(signal)
    const other = await version!.fetch(signal)
    await local.release()
    expect(existsSync(local.folder)).toBe(true)
    await other.release()
    await other.release()
    expect(existsSync(local.folder)).toBe(false)
    const { folder } = await version!.fetch(signal)
    await files.close()
    expect(existsSync(folder)).toBe(false)
  })

  it('are all found where there is more than one page of keys', async () => {
    // Plain ones: this server gives an encoded key for the token of the next page, and does not know it again.
    const keys = Array.from({ length: 1005 }, (_, i) => `many/1/part-${i}`)
    for (let i = 0; i < keys.length; i += 50) await Promise.all(keys.slice(i, i + 50).map((key) => bucket.put(key, key)))
    const { objects } = await client().list('many/', true, signal)
    expect(objects.map(({ key }) => key).toSorted()).toEqual(keys.toSorted())
  })

  it.each([
    ['the wrong secret', { accessKeyId: 'spillway', secretAccessKey: 'wrong' }, /answered 403 SignatureDoesNotMatch/],
    ['an unknown key', { accessKeyId: 'nobody', secretAccessKey: 'wrong' }, /answered 403 InvalidAccessKeyId/],
    ['no credentials', null, /answered 403 AccessDenied/],
  ])('are refused with %s', async (_, credentials, message) => {
    const address = parseS3Address(`s3://${name}`, server.region, server.endpoint)
    const asked = new S3Client({ address, region: server.region, ...(credentials && { credentials }) })
    const error = await refusal(() => bed.started({ source: source({ client: asked }) }))
    expect(error).toMatchObject({ code: 'PERMISSION_DENIED', message: expect.stringMatching(message) as unknown })
    expect(error.message).toContain(`s3://${name}/`)
  })

  it('and what else is wrong is said with where it is', async () => {
    expect((await refusal(() => source().model('none', signal))).message).toMatch(/has no version in s3:\/\/it\/none: expected <prefix>/)
    expect(await refusal(() => client('s3://no-such-bucket').list('', false, signal))).toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringMatching(/s3:\/\/no-such-bucket\/: the server answered 404 NoSuchBucket/) as unknown,
    })
    const [port] = await freePorts(1)
    expect(await refusal(() => client(`s3://http://127.0.0.1:${port}/models`).list('', false, signal))).toMatchObject({
      code: 'UNAVAILABLE',
      message: `http://127.0.0.1:${port} does not answer: ECONNREFUSED`,
    })
  })

  it('go on being served while the server is away, and are followed again when it is back', async () => {
    await put('a/1/model.onnx', model(1))
    const manager = await bed.started({ source: source(), mode: 'poll' })
    await server.faults.kill()
    expect(await refusal(() => source().names(signal))).toMatchObject({ code: 'UNAVAILABLE' })
    expect(await versionOf(manager, 'a')).toBe('1')
    await server.faults.restart()
    await put('a/2/model.onnx', model(2))
    await eventually(() => versionOf(manager, 'a')).toBe('2')
  })
})
