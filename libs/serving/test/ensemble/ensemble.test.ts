import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Component, MeshError, type Tensor, text, textValues } from '@spillway/core'
import { createTelemetry, type OwnedTelemetry } from '@spillway/telemetry'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ModelManager, type ModelManagerOptions, type Models, type Tensors } from '../../src/mod.ts'
import { logisticModel, writeModel } from '../onnx-builder.ts'
import { classifier, score, writeTextModels } from './text-models.ts'

const never = new AbortController().signal
let repository: string
let telemetry: OwnedTelemetry
const open: Component[] = []

beforeEach(async () => {
  repository = await mkdtemp(join(tmpdir(), 'spillway-ensemble-'))
  telemetry = createTelemetry({ service: 'ensemble-test', logLevel: 'silent', otlp: false })
})
afterEach(async () => {
  for (const component of open.splice(0).toReversed()) await component.drain()
  await telemetry.shutdown()
  await rm(repository, { recursive: true })
})

async function started(options: Partial<ModelManagerOptions> = {}): Promise<ModelManager> {
  const manager = new ModelManager({ repository, telemetry, workers: 1, settleMs: 0, pollMs: 20, ...options })
  open.push(manager)
  await manager.start(never)
  return manager
}

/** A model of a TypeScript module, and what its config says. */
async function writeModule(
  model: string,
  source: string,
  config = 'backend: "module" parameters { key: "thread" value { string_value: "main" } }',
): Promise<void> {
  await mkdir(join(repository, model, '1'), { recursive: true })
  await writeFile(join(repository, model, 'config.pbtxt'), config)
  await writeFile(join(repository, model, '1/model.ts'), source)
}

async function writeEnsemble(model: string, config: string): Promise<void> {
  await mkdir(join(repository, model, '1'), { recursive: true })
  await writeFile(join(repository, model, 'config.pbtxt'), `platform: "ensemble" ${config}`)
}

const oneStep = (model: string): string =>
  `ensemble_scheduling { step { model_name: "${model}" input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } } }`

async function infer(
  models: Models,
  model: string,
  inputs: Tensors,
  options: { signal?: AbortSignal; deadlineMs?: number } = {},
): Promise<Tensors> {
  const handle = await models.acquire(model)
  try {
    const rowCount = inputs.values().next().value!.shape[0]!
    return await handle.infer(inputs, rowCount, { deadlineMs: Infinity, signal: never, ...options })
  } finally {
    handle.release()
  }
}

const texts = (...values: string[]): Tensors => new Map<string, Tensor>([['text', text(values)]])
const words = (...values: string[]): Tensors => new Map<string, Tensor>([['x', text(values)]])

async function scores(models: Models, ...values: string[]): Promise<number[]> {
  return [...((await infer(models, 'sentiment', texts(...values))).get('score')!.data as Float32Array)]
}

const echo = `
  export const inputs = { x: { datatype: 'BYTES' } }
  export const outputs = { y: { datatype: 'BYTES' } }
`

describe('texts, places of words, meanings, a score', () => {
  beforeEach(() => writeTextModels(repository))

  test('each model can be called alone, and the ensemble answers what they answer one after the other', async () => {
    const models = await started()
    const { ids } = Object.fromEntries(await infer(models, 'vocabulary', texts('A good film', 'dull')))
    expect(ids!.data).toEqual(BigInt64Array.of(1n, 2n, 8n, 0n, 0n, 0n, 0n, 0n, 7n, 0n, 0n, 0n, 0n, 0n, 0n, 0n))
    const { vector } = Object.fromEntries(await infer(models, 'embedding', new Map([['ids', ids!]])))
    expect(vector!.data).toEqual(Float32Array.of(1, 0, 0, 0.5))
    const { score: alone } = Object.fromEntries(await infer(models, 'classifier', new Map([['features', vector!]])))
    expect(await scores(models, 'A good film', 'dull')).toEqual([...(alone!.data as Float32Array)])
    expect((alone!.data as Float32Array)[0]).toBeCloseTo(score(1), 6)
  })

  test('its signature is its config, as its models narrow it, and it counts its own runs as they count theirs', async () => {
    const models = await started()
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
    const models = await started()
    const answers = await Promise.all(Array.from({ length: 64 }, (_, i) => scores(models, i % 2 === 0 ? 'great' : 'awful film')))
    for (const [i, [answer]] of answers.entries()) expect(answer).toBeCloseTo(score(i % 2 === 0 ? 2 : -2), 5)
    const [{ executionCount, inferenceCount }] = models.statistics('classifier') as [ReturnType<Models['statistics']>[number]]
    expect(inferenceCount).toBe(64n)
    expect(executionCount).toBeLessThan(64n)
  })

  test('a step is promoted and rolled back under load without a failed request', async () => {
    await writeModel(repository, 'classifier', 2, classifier(1))
    await writeFile(join(repository, 'classifier/config.pbtxt'), 'version_policy { all {} }')
    const models = await started()
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
    const models = await started()
    await writeModel(repository, 'classifier', 2, logisticModel([1, 2, 3], 0))
    await expect(models.promote('classifier', '2')).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringMatching(
        /model "classifier": with version 2 the ensemble made of it would not work: ensemble "sentiment": step\[2\] \(model "classifier"\): its model's input "features" is given tensor "meaning", which step\[1\] \(model "embedding"\) makes as FP32 \[rows, 2\]: expected FP32 \[rows, 3\]/,
      ) as string,
    })
    expect((await scores(models, 'good'))[0]).toBeCloseTo(score(1), 5)
  })

  test('what was not called for long is loaded again when a call comes to it', async () => {
    const models = await started({ idleUnloadMs: 200 })
    await expect.poll(() => models.statistics().length, { interval: 10 }).toBe(0)
    expect(models.isReady('sentiment')).toBe(true)
    expect((await scores(models, 'good'))[0]).toBeCloseTo(score(1), 5)
  })

  test('what was taken is answered when the process ends', async () => {
    const models = await started()
    const answers = Array.from({ length: 32 }, () => scores(models, 'good'))
    await new Promise(setImmediate)
    await models.drain()
    for (const [answer] of await Promise.all(answers)) expect(answer).toBeCloseTo(score(1), 5)
  })
})

describe('explicit control', () => {
  beforeEach(() => writeTextModels(repository))

  test('an ensemble that is loaded, at the start or by a request, has its models loaded before it', async () => {
    const models = await started({ mode: 'explicit', loadModels: ['sentiment'] })
    expect((await scores(models, 'good'))[0]).toBeCloseTo(score(1), 5)
    const others = await started({ mode: 'explicit' })
    await others.load('sentiment')
    expect(['vocabulary', 'embedding', 'classifier'].map((model) => others.isReady(model))).toEqual([true, true, true])
  })

  test('its models stay when it is unloaded, and go with it when its dependents are to', async () => {
    const models = await started({ mode: 'explicit' })
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
    const models = await started({ mode: 'explicit', loadModels: ['sentiment'] })
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
    const models = await started({ mode: 'poll' })
    await writeTextModels(repository)
    await expect.poll(() => models.isReady('sentiment'), { interval: 10 }).toBe(true)
    expect((await scores(models, 'good'))[0]).toBeCloseTo(score(1), 5)
    await rm(join(repository, 'embedding'), { recursive: true })
    await expect.poll(() => models.isReady('sentiment'), { interval: 10 }).toBe(false)
    await expect(scores(models, 'good')).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/ensemble "sentiment", step\[1\] \(model "embedding"\): /) as string,
    })
  })
})

describe('steps', () => {
  test('that do not wait for each other go on side by side', async () => {
    // Each answers when it has heard of the other.
    const meeting = `${echo}
      const channel = new BroadcastChannel('spillway-ensemble-meeting')
      const met = Promise.withResolvers()
      channel.onmessage = () => met.resolve()
      export async function run(given) {
        channel.postMessage('here')
        await met.promise
        return new Map([['y', given.get('x')]])
      }
      export const stop = () => channel.close()`
    await writeModule('left', meeting)
    await writeModule('right', meeting)
    await writeModule(
      'join',
      `export const inputs = { a: { datatype: 'BYTES' }, b: { datatype: 'BYTES' } }
      export const outputs = { both: { datatype: 'BYTES' } }
      export function run(given, { texts, textTensor }) {
        const b = texts(given.get('b'))
        return new Map([['both', textTensor(texts(given.get('a')).map((a, i) => a + '+' + b[i]))]])
      }`,
    )
    await writeEnsemble(
      'pair',
      `ensemble_scheduling { step [
        { model_name: "join" input_map { key: "a" value: "a" } input_map { key: "b" value: "b" } output_map { key: "both" value: "both" } },
        { model_name: "left" input_map { key: "x" value: "x" } output_map { key: "y" value: "a" } },
        { model_name: "right" input_map { key: "x" value: "x" } output_map { key: "y" value: "b" } } ] }`,
    )
    const models = await started()
    const { both } = Object.fromEntries(await infer(models, 'pair', words('p', 'q')))
    expect(textValues((both as Tensor & { datatype: 'BYTES' }).data)).toEqual(['p+p', 'q+q'])
  })

  test('hear of it when nobody waits any more, and of the deadline', async () => {
    await writeModule(
      'slow',
      `${echo}
      const channel = new BroadcastChannel('spillway-ensemble-slow')
      export async function run(given, { signal, deadlineMs }) {
        channel.postMessage(Number.isFinite(deadlineMs) ? 'deadline' : 'none')
        await new Promise((resolve) => signal.addEventListener('abort', resolve))
        channel.postMessage('stopped')
        throw signal.reason
      }
      export const stop = () => channel.close()`,
    )
    await writeEnsemble('outer', oneStep('slow'))
    const heard: string[] = []
    const channel = new BroadcastChannel('spillway-ensemble-slow')
    channel.addEventListener('message', (event) => void heard.push(String((event as MessageEvent).data)))
    try {
      const models = await started()
      const controller = new AbortController()
      const call = infer(models, 'outer', words('x'), { signal: controller.signal })
      await expect.poll(() => heard, { interval: 5 }).toEqual(['none'])
      controller.abort()
      await expect(call).rejects.toMatchObject({ code: 'CANCELLED' })
      await expect.poll(() => heard, { interval: 5 }).toEqual(['none', 'stopped'])
      await expect(infer(models, 'outer', words('x'), { deadlineMs: Date.now() + 300 })).rejects.toMatchObject({
        code: 'DEADLINE_EXCEEDED',
      })
      await expect.poll(() => heard, { interval: 5 }).toEqual(['none', 'stopped', 'deadline', 'stopped'])
    } finally {
      channel.close()
    }
  })

  test('that refuse a row fail its request and no other, naming ensemble, step and tensor', async () => {
    await writeModule(
      'picky',
      `${echo}
      export function run(given, { texts }) {
        if (texts(given.get('x')).includes('bad')) throw Object.assign(new Error('this word is not taken'), { code: 'INVALID_ARGUMENT', field: 'x' })
        return new Map([['y', given.get('x')]])
      }`,
    )
    await writeEnsemble('inner', oneStep('picky'))
    await writeEnsemble(
      'outer',
      'ensemble_scheduling { step { model_name: "inner" input_map { key: "x" value: "word" } output_map { key: "y" value: "y" } } }',
    )
    const models = await started()
    const results = await Promise.allSettled(
      Array.from({ length: 32 }, (_, i) => infer(models, 'outer', new Map([['word', text([i === 13 ? 'bad' : `word ${i}`])]]))),
    )
    expect(results.flatMap(({ status }, i) => (status === 'rejected' ? [i] : []))).toEqual([13])
    const { reason } = results[13] as PromiseRejectedResult
    expect(reason).toBeInstanceOf(MeshError)
    expect(reason).toMatchObject({
      code: 'INVALID_ARGUMENT',
      field: 'word',
      message: expect.stringMatching(
        /^ensemble "outer", step\[0\] \(model "inner"\): ensemble "inner", step\[0\] \(model "picky"\): .*this word is not taken/,
      ) as string,
    })
  })
})

describe('an ensemble that cannot be', () => {
  const refused = async (): Promise<MeshError> => {
    try {
      await started()
    } catch (error) {
      return error as MeshError
    }
    return expect.unreachable('it should have been refused')
  }

  test.each([
    ['made of itself', 'x', oneStep('x'), /ensemble "x": step\[0\] \(model "x"\) is the ensemble itself/],
    ['made of what is not there', 'x', oneStep('y'), /ensemble "x": step\[0\] \(model "y"\) is not loaded: .*'y'/],
  ])('because it is %s is refused, and says so', async (_, name, config, message) => {
    await writeEnsemble(name, config)
    expect((await refused()).message).toMatch(message)
  })

  test('because it is made of one that is made of it is refused, and says so', async () => {
    await writeEnsemble('a', oneStep('b'))
    await writeEnsemble('b', oneStep('a'))
    expect((await refused()).message).toMatch(/ensemble "[ab]": step\[0\] \(model "[ab]"\) is not loaded/)
  })
})
