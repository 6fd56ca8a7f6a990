import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Tensor, text } from '@spillway/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Models, Tensors } from '../../src/mod.ts'
import { TestBed } from '../lifecycle/served-models.ts'
import { logisticModel, writeModel } from '../onnx-builder.ts'
import { infer } from './ensemble-files.ts'
import { classifier, score, writeTextModels } from './text-models.ts'

let bed: TestBed
beforeEach(async () => {
  bed = await TestBed.make()
})
afterEach(() => bed.close())

const texts = (...values: string[]): Tensors => new Map<string, Tensor>([['text', text(values)]])

async function scores(models: Models, ...values: string[]): Promise<number[]> {
  return [...((await infer(models, 'sentiment', texts(...values))).get('score')!.data as Float32Array)]
}

describe('texts, places of words, meanings, a score', () => {
  beforeEach(() => writeTextModels(bed.repository))

  test('each model can be called alone, and the ensemble answers what they answer one after the other', async () => {
    const models = await bed.started()
    const { ids } = Object.fromEntries(await infer(models, 'vocabulary', texts('A good film', 'dull')))
    expect(ids!.data).toEqual(BigInt64Array.of(1n, 2n, 8n, 0n, 0n, 0n, 0n, 0n, 7n, 0n, 0n, 0n, 0n, 0n, 0n, 0n))
    const { vector } = Object.fromEntries(await infer(models, 'embedding', new Map([['ids', ids!]])))
    expect(vector!.data).toEqual(Float32Array.of(1, 0, 0, 0.5))
    const { score: alone } = Object.fromEntries(await infer(models, 'classifier', new Map([['features', vector!]])))
    expect(await scores(models, 'A good film', 'dull')).toEqual([...(alone!.data as Float32Array)])
    expect((alone!.data as Float32Array)[0]).toBeCloseTo(score(1), 6)
  })

  test('its signature is its config, as its models narrow it, and it counts its own runs as they count theirs', async () => {
    const models = await bed.started()
    const handle = await models.acquire('sentiment')
    expect([...handle.signature.inputs, ...handle.signature.outputs]).toEqual([
      ['text', { datatype: 'BYTES', rowShape: [] }],
      ['score', { datatype: 'FP32', rowShape: [1] }],
    ])
    expect([handle.config.platform, handle.config.maxBatchSize]).toEqual(['ensemble', 256])
    handle.release()
    await scores(models, 'good', 'bad', 'fine')
    for (const model of ['sentiment', 'vocabulary', 'embedding', 'classifier'])
      expect(models.statistics(model)[0]).toMatchObject({ inferenceCount: 3n, executionCount: 1n, success: { count: 1n } })
  })

  test('callers at once share the runs of its steps, and each has its own answer', async () => {
    const models = await bed.started()
    const answers = await Promise.all(Array.from({ length: 64 }, (_, i) => scores(models, i % 2 === 0 ? 'great' : 'awful film')))
    for (const [i, [answer]] of answers.entries()) expect(answer).toBeCloseTo(score(i % 2 === 0 ? 2 : -2), 5)
    const [{ executionCount, inferenceCount }] = models.statistics('classifier') as [ReturnType<Models['statistics']>[number]]
    expect(inferenceCount).toBe(64n)
    expect(executionCount).toBeLessThan(64n)
  })

  test('a step is promoted and rolled back under load without a failed request', async () => {
    await writeModel(bed.repository, 'classifier', 2, classifier(1))
    await writeFile(join(bed.repository, 'classifier/config.pbtxt'), 'version_policy { all {} }')
    const models = await bed.started()
    const load = { over: false }
    const seen = new Set<string>()
    const failures: unknown[] = []
    const caller = async (): Promise<void> => {
      while (!load.over) {
        try {
          for (const answer of await scores(models, 'good')) seen.add(answer.toFixed(4))
        } catch (error) {
          failures.push(error)
        }
      }
    }
    const callers = Array.from({ length: 8 }, caller)
    for (const version of ['1', '2', '1', '2', '1']) {
      await models.promote('classifier', version)
      await scores(models, 'good')
    }
    load.over = true
    await Promise.all(callers)
    expect(failures).toEqual([])
    expect(seen).toEqual(new Set([score(1).toFixed(4), score(1, 1).toFixed(4)]))
    expect((await scores(models, 'good'))[0]).toBeCloseTo(score(1), 5)
  })

  test('a version of a step with which it would not work is refused, and the one that runs stays', async () => {
    const models = await bed.started()
    await writeModel(bed.repository, 'classifier', 2, logisticModel([1, 2, 3], 0))
    await expect(models.promote('classifier', '2')).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringMatching(
        /model "classifier": with version 2 the ensemble made of it would not work: ensemble "sentiment": step\[2\] \(model "classifier"\): its model's input "features" is given tensor "meaning", which step\[1\] \(model "embedding"\) makes as FP32 \[rows, 2\]: expected FP32 \[rows, 3\]/,
      ) as string,
    })
    expect((await scores(models, 'good'))[0]).toBeCloseTo(score(1), 5)
  })

  test('what was not called for long is loaded again when a call comes to it', async () => {
    const models = await bed.started({ idleUnloadMs: 2_000 })
    await expect.poll(() => models.statistics().length, { interval: 10 }).toBe(0)
    expect(models.isReady('sentiment')).toBe(true)
    expect((await scores(models, 'good'))[0]).toBeCloseTo(score(1), 5)
  })

  test('what was taken is answered when the process ends', async () => {
    const models = await bed.started()
    const answers = Array.from({ length: 32 }, () => scores(models, 'good'))
    await new Promise(setImmediate)
    await models.drain()
    for (const [answer] of await Promise.all(answers)) expect(answer).toBeCloseTo(score(1), 5)
  })
})

describe('explicit control', () => {
  beforeEach(() => writeTextModels(bed.repository))

  test('an ensemble that is loaded, at the start or by a request, has its models loaded before it', async () => {
    const models = await bed.started({ mode: 'explicit', loadModels: ['sentiment'] })
    expect((await scores(models, 'good'))[0]).toBeCloseTo(score(1), 5)
    const others = await bed.started({ mode: 'explicit' })
    await others.load('sentiment')
    expect(['vocabulary', 'embedding', 'classifier'].map((model) => others.isReady(model))).toEqual([true, true, true])
  })

  test('its models stay when it is unloaded, and go with it when its dependents are to', async () => {
    const models = await bed.started({ mode: 'explicit' })
    await models.load('sentiment')
    await models.unload('sentiment')
    expect(models.isReady('classifier')).toBe(true)
    await models.load('sentiment')
    await models.load('embedding')
    await models.unload('sentiment', { dependents: true })
    expect(['sentiment', 'vocabulary', 'embedding', 'classifier'].map((model) => models.isReady(model))).toEqual([
      false,
      false,
      true,
      false,
    ])
  })

  test('a model that is unloaded takes the ensembles made of it with it, after their calls are answered', async () => {
    const models = await bed.started({ mode: 'explicit', loadModels: ['sentiment'] })
    const answers = Array.from({ length: 16 }, () => scores(models, 'good'))
    await new Promise(setImmediate)
    await models.unload('embedding')
    for (const [answer] of await Promise.all(answers)) expect(answer).toBeCloseTo(score(1), 5)
    expect([models.isReady('sentiment'), models.ready]).toEqual([false, true])
    await expect(scores(models, 'good')).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await models.load('sentiment')
    expect((await scores(models, 'good'))[0]).toBeCloseTo(score(1), 5)
  })
})

describe('polling', () => {
  test('an ensemble that comes with its models is loaded when they are, and is not ready without them', async () => {
    const models = await bed.started({ mode: 'poll' })
    await writeTextModels(bed.repository)
    await expect.poll(() => models.isReady('sentiment'), { interval: 10 }).toBe(true)
    expect((await scores(models, 'good'))[0]).toBeCloseTo(score(1), 5)
    await rm(join(bed.repository, 'embedding'), { recursive: true })
    await expect.poll(() => models.isReady('sentiment'), { interval: 10 }).toBe(false)
    await expect(scores(models, 'good')).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/ensemble "sentiment", step\[1\] \(model "embedding"\): /) as string,
    })
  })
})
