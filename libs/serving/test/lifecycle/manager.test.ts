import { mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { logistic, logisticModel, mlpModel, writeModel } from '../onnx-builder.ts'
import { refusal } from '../refusal.ts'
import { ask, eventually, features, signal, states, TestBed, versionOf, weights } from './served-models.ts'

let bed: TestBed
beforeEach(async () => {
  bed = await TestBed.make()
})
afterEach(() => bed.close())

describe('models that are loaded at the start', () => {
  test('answer by the newest version, and are described by their file', async () => {
    await bed.write('a', 1)
    await bed.write('a', 2)
    const manager = await bed.started()
    const { version, score } = await ask(manager, 'a')
    expect(version).toBe('2')
    expect(score).toBeCloseTo(logistic(weights, 2, [0, 0, 0]), 6)
    expect(states(manager, 'a')).toEqual(['2:AVAILABLE'])
    const handle = await manager.acquire('a')
    expect(handle.config).toMatchObject({
      name: 'a',
      platform: 'onnxruntime_onnx',
      maxBatchSize: 1024,
      inputs: [{ name: 'features', datatype: 'FP32', dims: [3] }],
      outputs: [{ name: 'score', datatype: 'FP32', dims: [1] }],
    })
    handle.release()
  })

  test('are refused by the texts that clients look for', async () => {
    await bed.write('a', 2)
    const manager = await bed.started()
    expect(await refusal(() => manager.acquire('x'))).toMatchObject({
      code: 'NOT_FOUND',
      message: "Request for unknown model: 'x' is not found",
    })
    const version = await refusal(() => manager.acquire('a', { version: '9' }))
    expect(version).toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringMatching(/^Request for unknown model: 'a' version 9 is not found/) as string,
    })
    expect(await refusal(() => manager.acquire('a', { version: 'x' }))).toMatchObject({ code: 'NOT_FOUND' })
    expect(await refusal(() => manager.acquire('a', { label: 'canary' }))).toMatchObject({ code: 'FAILED_PRECONDITION' })
    expect(() => manager.statuses('x')).toThrow(/'x' is not found/)
    expect(await versionOf(manager, 'a', { version: '0002' })).toBe('2')
    expect([manager.isReady('a'), manager.isReady('a', { version: '9' }), manager.isReady('x')]).toEqual([true, false, false])
    expect(await refusal(() => manager.load('a'))).toMatchObject({ code: 'FAILED_PRECONDITION' })
  })

  test('that fail end the start, or leave the others to be served where that is asked for', async () => {
    await bed.write('good', 1)
    await writeModel(bed.repository, 'bad', 1, Buffer.from('garbage'))
    expect((await refusal(() => bed.started())).message).toContain(join(bed.repository, 'bad', '1', 'model.onnx'))
    const manager = await bed.started({ exitOnError: false })
    expect(await versionOf(manager, 'good')).toBe('1')
    expect(manager.ready).toBe(false)
    expect(manager.statuses('bad')).toMatchObject([{ version: '1', state: 'END', error: { code: 'FAILED_PRECONDITION' } }])
    const unloaded = await refusal(() => manager.acquire('bad'))
    expect(unloaded).toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/^Request for unknown model: 'bad' has no available versions/) as string,
    })
  })

  test('have the versions that the policy of a list says, and its labels', async () => {
    for (const version of [1, 2, 3]) await bed.write('a', version)
    const listed = [
      {
        name: 'digits',
        basePath: join(bed.repository, 'a'),
        policy: { kind: 'specific' as const, versions: ['1', '3'] },
        labels: new Map([
          ['stable', '1'],
          ['canary', '3'],
        ]),
      },
    ]
    const manager = await bed.started({ listed, models: ['digits'] })
    expect(states(manager, 'digits')).toEqual(['3:AVAILABLE', '1:AVAILABLE'])
    expect(await versionOf(manager, 'digits', { label: 'stable' })).toBe('1')
    expect(await versionOf(manager, 'digits')).toBe('3')
    expect(manager.statuses('digits').map(({ labels }) => labels)).toEqual([['canary'], ['stable']])
    expect(manager.names()).toEqual(['digits'])
  })
})

describe('models that are polled', () => {
  test('get new versions, lose old ones, and are gone when their folder is', async () => {
    await bed.write('a', 1)
    const manager = await bed.started({ mode: 'poll' })
    expect(await versionOf(manager, 'a')).toBe('1')
    await bed.write('a', 2)
    await eventually(() => states(manager, 'a')).toEqual(['2:AVAILABLE', '1:END'])
    await bed.write('b', 7)
    await eventually(() => manager.isReady('b')).toBe(true)
    await rm(join(bed.repository, 'a', '2'), { recursive: true })
    await eventually(() => versionOf(manager, 'a')).toBe('1')
    await rm(join(bed.repository, 'a'), { recursive: true })
    await eventually(() => manager.names()).toEqual(['b'])
    expect(await refusal(() => manager.acquire('a'))).toMatchObject({ code: 'NOT_FOUND' })
    expect(manager.ready).toBe(true)
  })

  test('are loaded anew when their files change, and the running files stay where the new ones are refused', async () => {
    const path = await bed.write('a', 1, 0.25)
    const manager = await bed.started({ mode: 'poll' })
    const score = async (): Promise<number> => (await ask(manager, 'a')).score
    expect(await score()).toBeCloseTo(logistic(weights, 0.25, [0, 0, 0]), 5)
    await writeFile(path, logisticModel(weights, -3))
    await eventually(score).toBeCloseTo(logistic(weights, -3, [0, 0, 0]), 5)
    await writeFile(path, 'garbage')
    await eventually(() => manager.statuses('a')[0]?.error?.code).toBe('FAILED_PRECONDITION')
    expect(states(manager, 'a')).toEqual(['1:AVAILABLE'])
    expect(await score()).toBeCloseTo(logistic(weights, -3, [0, 0, 0]), 5)
    await writeFile(path, logisticModel(weights, 4))
    await eventually(score).toBeCloseTo(logistic(weights, 4, [0, 0, 0]), 5)
    expect(manager.statuses('a')[0]).not.toHaveProperty('error')
  })

  test('keep the running version while a newer one is refused, and try it again only when its files change', async () => {
    await bed.write('a', 1)
    const manager = await bed.started({ mode: 'poll' })
    const path = await writeModel(bed.repository, 'a', 2, Buffer.from('garbage'))
    await eventually(() => states(manager, 'a')).toEqual(['2:END', '1:AVAILABLE'])
    const refused = (): Promise<number> => bed.metric('spillway_model_loads_total', { model: 'a', outcome: 'refused' })
    expect(manager.ready).toBe(true)
    expect(await versionOf(manager, 'a')).toBe('1')
    // Looks go on meanwhile: another model comes and is served.
    await bed.write('b', 1)
    await eventually(() => manager.isReady('b')).toBe(true)
    expect(await refused()).toBe(1)
    await writeFile(path, logisticModel(weights, 2))
    await eventually(() => states(manager, 'a')).toEqual(['2:AVAILABLE', '1:END'])
  })

  test('stay as they are while the repository cannot be read', async () => {
    await bed.write('models/a', 1)
    const repository = join(bed.repository, 'models')
    const manager = await bed.started({ mode: 'poll', repository })
    await rename(repository, join(bed.repository, 'away'))
    const looks = performance.now() + 200
    await eventually(() => performance.now() > looks).toBe(true)
    expect(await versionOf(manager, 'a')).toBe('1')
  })
})

describe('models that are loaded when asked for', () => {
  test('are loaded and unloaded by name, and known meanwhile', async () => {
    for (const model of ['a', 'b', 'c']) await bed.write(model, 1)
    const manager = await bed.started({ mode: 'explicit', loadModels: ['b'] })
    expect(manager.names()).toEqual(['a', 'b', 'c'])
    expect([manager.isReady('a'), manager.isReady('b'), manager.ready]).toEqual([false, true, true])
    expect(await refusal(() => manager.acquire('a'))).toMatchObject({
      code: 'UNAVAILABLE',
      message: "Request for unknown model: 'a' has no available versions",
    })
    await manager.load('a')
    expect(await versionOf(manager, 'a')).toBe('1')
    await bed.write('a', 2)
    await manager.load('a')
    expect(await versionOf(manager, 'a')).toBe('2')
    await manager.unload('a')
    expect(states(manager, 'a')).toEqual(['2:END', '1:END'])
    expect(await refusal(() => manager.acquire('a'))).toMatchObject({ code: 'UNAVAILABLE' })
    expect(await refusal(() => manager.load('x'))).toMatchObject({ code: 'NOT_FOUND' })
    expect(await refusal(() => manager.unload('x'))).toMatchObject({ code: 'NOT_FOUND' })
  })

  test('that came with their requests keep the files of what runs, and leave none behind', async () => {
    const temporary = await mkdtemp(join(tmpdir(), 'spillway-requests-'))
    vi.stubEnv('TMPDIR', temporary)
    onTestFinished(async () => {
      vi.unstubAllEnvs()
      await rm(temporary, { recursive: true })
    })
    const manager = await bed.started({ mode: 'explicit' })
    const load = (model: string, content: Uint8Array): Promise<void> => manager.load(model, { files: new Map([['1/model.onnx', content]]) })
    const kept = async (): Promise<string[]> => (await readdir(temporary)).filter((name) => name.startsWith('spillway-load-'))
    await load('a', logisticModel(weights, 1))
    const [running] = await kept()
    expect(await refusal(() => load('a', Buffer.from('garbage')))).toMatchObject({ code: 'FAILED_PRECONDITION' })
    expect(await versionOf(manager, 'a')).toBe('1')
    expect(await kept()).toContain(running)
    await load('a', logisticModel(weights, 2))
    await eventually(kept).toHaveLength(1)
    expect(await kept()).not.toContain(running)
    expect(await refusal(() => load('b', Buffer.from('garbage')))).toMatchObject({ code: 'FAILED_PRECONDITION' })
    expect(await kept()).toHaveLength(1)
    await manager.unload('a')
    expect(await kept()).toEqual([])
  })

  test('are all loaded at the start where that is asked for', async () => {
    for (const model of ['a', 'b']) await bed.write(model, 1)
    const manager = await bed.started({ mode: 'explicit', loadModels: ['*'] })
    expect([manager.isReady('a'), manager.isReady('b')]).toEqual([true, true])
  })

  test('that are refused leave what ran before', async () => {
    const path = await bed.write('a', 1, 0.5)
    const manager = await bed.started({ mode: 'explicit', loadModels: ['a'] })
    await writeFile(path, 'garbage')
    expect(await refusal(() => manager.load('a'))).toMatchObject({ code: 'FAILED_PRECONDITION' })
    expect((await ask(manager, 'a')).score).toBeCloseTo(logistic(weights, 0.5, [0, 0, 0]), 5)
  })

  test('may come with the request, in place of the repository’s files', async () => {
    await bed.write('a', 1)
    const manager = await bed.started({ mode: 'explicit', loadModels: ['a'] })
    await manager.load('a', { files: new Map([['5/model.onnx', logisticModel(weights, -5)]]) })
    expect(await ask(manager, 'a')).toMatchObject({ version: '5', score: expect.closeTo(logistic(weights, -5, [0, 0, 0]), 5) as number })
    await manager.load('new', { files: new Map([['1/model.onnx', logisticModel(weights, 8)]]) })
    expect((await ask(manager, 'new')).score).toBeCloseTo(logistic(weights, 8, [0, 0, 0]), 5)
    await manager.load('a')
    expect(await versionOf(manager, 'a')).toBe('1')
    const outside = { files: new Map([['../../x', new Uint8Array(1)]]) }
    expect(await refusal(() => manager.load('a', outside))).toMatchObject({ code: 'INVALID_ARGUMENT' })
  })
})

describe('a promotion', () => {
  test('makes a version the default one, forward and back, loading it first and freeing the other', async () => {
    await bed.write('a', 1)
    const manager = await bed.started({ mode: 'poll' })
    await bed.write('a', 2)
    await eventually(() => versionOf(manager, 'a')).toBe('2')
    await manager.promote('a', '1')
    expect(await versionOf(manager, 'a')).toBe('1')
    await eventually(() => states(manager, 'a')).toEqual(['2:END', '1:AVAILABLE'])
    // What comes after a rollback waits for its promotion.
    await bed.write('a', 3)
    await bed.write('b', 1)
    await eventually(() => manager.isReady('b')).toBe(true)
    expect(await versionOf(manager, 'a')).toBe('1')
    await manager.promote('a', '3')
    expect(await versionOf(manager, 'a')).toBe('3')
    await manager.promote('a', '1')
    await manager.promote('a', 'latest')
    expect(await versionOf(manager, 'a')).toBe('3')
  })

  test('that is refused changes nothing', async () => {
    await bed.write('a', 1)
    await bed.write('a', 2)
    await writeModel(bed.repository, 'a', 3, Buffer.from('garbage'))
    const listed = [{ name: 'a', basePath: join(bed.repository, 'a'), policy: { kind: 'specific' as const, versions: ['2'] } }]
    const manager = await bed.started({ listed })
    expect(await refusal(() => manager.promote('a', '3'))).toMatchObject({ code: 'FAILED_PRECONDITION' })
    expect(await refusal(() => manager.promote('a', '9'))).toMatchObject({ code: 'NOT_FOUND' })
    expect(await refusal(() => manager.promote('x', '1'))).toMatchObject({ code: 'NOT_FOUND' })
    expect(await versionOf(manager, 'a')).toBe('2')
    expect(manager.statuses('a').find(({ version }) => version === '3')).toMatchObject({
      state: 'END',
      error: { code: 'FAILED_PRECONDITION' },
    })
  })

  test('drops no call of many at once, and whoever has a version keeps it to the end', async () => {
    for (const version of [1, 2]) await writeModel(bed.repository, 'mlp', version, mlpModel([3, 64, 64, 1], version))
    const manager = await bed.started({ workers: 2 })
    const scores = new Map<string, number>()
    for (const version of ['1', '2']) {
      await manager.promote('mlp', version)
      scores.set(version, (await ask(manager, 'mlp')).score)
    }
    const stop = new AbortController()
    const answered = new Map([
      ['1', 0],
      ['2', 0],
    ])
    const failures: unknown[] = []
    const caller = async (): Promise<void> => {
      while (!stop.signal.aborted) {
        try {
          const { version, score } = await ask(manager, 'mlp')
          if (Math.abs(score - scores.get(version)!) > 1e-5) failures.push(`version ${version} answered ${score}`)
          answered.set(version, answered.get(version)! + 1)
        } catch (error) {
          failures.push(error)
        }
      }
    }
    const callers = Array.from({ length: 32 }, caller)
    const kept = await manager.acquire('mlp')
    for (const version of ['1', '2', '1', '2', '1']) {
      await manager.promote('mlp', version)
      expect(await versionOf(manager, 'mlp')).toBe(version)
    }
    stop.abort()
    await Promise.all(callers)
    expect(failures).toEqual([])
    expect(Math.min(...answered.values())).toBeGreaterThan(0)
    // Held through it all: its version was promoted away, and it still answers.
    const outputs = await kept.infer(features(), 1, { deadlineMs: Infinity, signal })
    expect((outputs.get('score')!.data as Float32Array)[0]).toBeCloseTo(scores.get(kept.version)!, 5)
    kept.release()
    await eventually(() => states(manager, 'mlp')).toEqual(['2:END', '1:AVAILABLE'])
  })
})
