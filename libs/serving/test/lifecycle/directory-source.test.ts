import { appendFile, mkdir, mkdtemp, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { DirectorySource, type SourceModel } from '../../src/mod.ts'
import { refusal } from '../refusal.ts'
import { eventually } from './served-models.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'spillway-source-'))
})
afterEach(() => rm(folder, { recursive: true }))

/** A clock that stands until it is moved, ahead of the file system's by what the test says. */
const clock = (): { nowMs: () => number; atMs: number } => {
  const held = { atMs: Date.now(), nowMs: () => held.atMs }
  return held
}

async function put(path: string, content = 'model'): Promise<string> {
  const target = join(folder, path)
  await mkdir(join(target, '..'), { recursive: true })
  await writeFile(target, content)
  return target
}

const complete = ({ versions }: SourceModel): string[] => versions.map(({ version }) => version)

describe('a repository', () => {
  test('has the models that are folders in it, and their versions by number, newest first', async () => {
    for (const path of ['b/1/model.onnx', 'a/9/model.onnx', 'a/00010/model.onnx', 'a/notes/x', '.git/1/x', 'a/0/x', 'a/.hidden/x'])
      await put(path)
    await put('README.md')
    const source = new DirectorySource({ repository: folder, settleMs: 0 })
    expect(await source.names()).toEqual(['a', 'b'])
    const model = await source.model('a')
    expect(complete(model)).toEqual(['10', '9'])
    const files = await model.versions[0]!.fetch(new AbortController().signal)
    expect(files).toMatchObject({ folder: join(folder, 'a', '00010'), modelFolder: join(folder, 'a'), fileBytes: 5 })
  })

  test('has models beside it that a list names, with their policy and labels', async () => {
    await put('repository/a/1/model.onnx')
    await put('elsewhere/00000123/model.onnx')
    const labels = new Map([['stable', '123']])
    const listed = [{ name: 'digits', basePath: join(folder, 'elsewhere'), policy: { kind: 'all' } as const, labels }]
    const source = new DirectorySource({ repository: join(folder, 'repository'), listed, settleMs: 0 })
    expect(await source.names()).toEqual(['a', 'digits'])
    const model = await source.model('digits')
    expect(complete(model)).toEqual(['123'])
    expect(model).toMatchObject({ policy: { kind: 'all' }, labels })
    const alone = new DirectorySource({ listed, settleMs: 0 })
    expect(await alone.names()).toEqual(['digits'])
    expect(await refusal(() => alone.model('a'))).toMatchObject({ code: 'NOT_FOUND' })
  })

  test('says what was expected where a folder is not there or has no version', async () => {
    const source = new DirectorySource({ repository: join(folder, 'nowhere') })
    expect(await refusal(() => source.names())).toMatchObject({ code: 'NOT_FOUND', message: expect.stringContaining('nowhere') as string })
    await put('a/notes/x')
    const here = new DirectorySource({ repository: folder })
    expect((await refusal(() => here.model('a'))).message).toMatch(/no version in .*a: expected <repository>/)
    expect(await refusal(() => here.model('../a'))).toMatchObject({ code: 'INVALID_ARGUMENT' })
    expect(await refusal(() => here.model('.git'))).toMatchObject({ code: 'INVALID_ARGUMENT' })
  })

  test('follows a version that is a link to a folder', async () => {
    await put('store/v7/model.onnx')
    await put('models/a/1/model.onnx')
    await symlink(join(folder, 'store', 'v7'), join(folder, 'models', 'a', '7'))
    expect(complete(await new DirectorySource({ repository: join(folder, 'models'), settleMs: 0 }).model('a'))).toEqual(['7', '1'])
  })

  test('reads a config where one lies, and says which file is wrong', async () => {
    await put('a/1/model.onnx')
    const path = await put('a/config.pbtxt', 'max_batch_size: 8')
    const seen: string[] = []
    const parseConfig = (text: string, model: string): never => {
      seen.push(model, text)
      throw new Error('line 1: nonsense')
    }
    const source = new DirectorySource({ repository: folder, settleMs: 0, parseConfig })
    expect(await refusal(() => source.model('a'))).toMatchObject({ code: 'INVALID_ARGUMENT', message: `${path}: line 1: nonsense` })
    expect(seen).toEqual(['a', 'max_batch_size: 8'])
  })
})

describe('a version that is being written', () => {
  test('is not complete before nothing of it has changed for the settling time', async () => {
    const held = clock()
    const source = new DirectorySource({ repository: folder, settleMs: 1000, clock: held })
    const path = await put('a/1/model.onnx', 'half')
    expect(await source.model('a')).toMatchObject({ versions: [], unsettled: ['1'] })
    held.atMs += 900
    await appendFile(path, ', and more')
    expect(await source.model('a')).toMatchObject({ versions: [], unsettled: ['1'] })
    held.atMs += 1100
    expect(complete(await source.model('a'))).toEqual(['1'])
  })

  test('is complete at the first look where the file system last saw it change long ago', async () => {
    await put('a/1/model.onnx')
    const held = clock()
    held.atMs += 60_000
    expect(complete(await new DirectorySource({ repository: folder, settleMs: 1000, clock: held }).model('a'))).toEqual(['1'])
  })

  test('is not taken as complete because a copy keeps old times', async () => {
    const path = await put('a/1/model.onnx')
    await utimes(path, new Date('2020-01-01'), new Date('2020-01-01'))
    expect(await new DirectorySource({ repository: folder, settleMs: 5000 }).model('a')).toMatchObject({ versions: [], unsettled: ['1'] })
  })

  test('is complete after two looks, where the file system’s clock goes ahead', async () => {
    const path = await put('a/1/model.onnx')
    await utimes(path, new Date(Date.now() + 3_600_000), new Date(Date.now() + 3_600_000))
    const held = clock()
    const source = new DirectorySource({ repository: folder, settleMs: 1000, clock: held })
    expect(complete(await source.model('a'))).toEqual([])
    held.atMs += 999
    expect(complete(await source.model('a'))).toEqual([])
    held.atMs += 1
    expect(complete(await source.model('a'))).toEqual(['1'])
  })

  test('is never complete while its marker says so, however still it is', async () => {
    await put('a/1/model.onnx')
    await put('a/1/.incomplete', '')
    const held = clock()
    held.atMs += 86_400_000
    const source = new DirectorySource({ repository: folder, clock: held })
    expect(await source.model('a')).toMatchObject({ versions: [], unsettled: ['1'] })
    await rm(join(folder, 'a/1/.incomplete'))
    expect(complete(await source.model('a'))).toEqual(['1'])
  })

  test('is complete at once by the marker that is written last', async () => {
    const model = await put('a/1/model.onnx')
    const marker = await put('a/1/.complete', '')
    await utimes(model, 1_000, 1_000)
    await utimes(marker, 1_001, 1_001)
    const source = new DirectorySource({ repository: folder, settleMs: 3_600_000 })
    expect(complete(await source.model('a'))).toEqual(['1'])
    // Written anew, the marker is the old files'.
    await utimes(model, 2_000, 2_000)
    expect(complete(await source.model('a'))).toEqual([])
  })

  test('under another name is none until it is renamed', async () => {
    await put('a/1/model.onnx')
    await put('a/2.tmp/model.onnx')
    const source = new DirectorySource({ repository: folder, settleMs: 0 })
    expect(complete(await source.model('a'))).toEqual(['1'])
    await rename(join(folder, 'a', '2.tmp'), join(folder, 'a', '2'))
    expect(complete(await source.model('a'))).toEqual(['2', '1'])
  })

  test('has another fingerprint when any of its files changes', async () => {
    await put('a/1/model.onnx')
    const weights = await put('a/1/weights/w.bin', '0')
    const source = new DirectorySource({ repository: folder, settleMs: 0 })
    const fingerprint = async (): Promise<string> => (await source.model('a')).versions[0]!.fingerprint
    const first = await fingerprint()
    expect(await fingerprint()).toBe(first)
    await writeFile(weights, '01')
    expect(await fingerprint()).not.toBe(first)
  })
})

test('what changes in the folders is told', async () => {
  await put('a/1/model.onnx')
  let hints = 0
  const stop = new DirectorySource({ repository: folder }).watch(() => hints++)
  try {
    await put('a/2/model.onnx')
    await eventually(() => hints).toBeGreaterThan(0)
  } finally {
    stop()
  }
})
