import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Component, type Tensor, tensor, text, textValues } from '@spillway/core'
import { GrpcServer } from '@spillway/rpc'
import { createTelemetry, type OwnedTelemetry } from '@spillway/telemetry'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { inferenceService, type ModelConfig, ModelManager, type Tensors } from '../src/mod.ts'
import type { Backend } from '../src/backend.ts'
import { backendFor } from '../src/backends/backend-for.ts'
import { logistic, logisticModel, onnxModel, writeModel } from './onnx-builder.ts'

const signal = new AbortController().signal
const weights = [0.5, -1, 2]
let root: string
let telemetry: OwnedTelemetry
const open: Component[] = []

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'spillway-backends-'))
  telemetry = createTelemetry({ service: 'serving-test', logLevel: 'silent', otlp: false })
})
afterEach(async () => {
  for (const component of open.splice(0).toReversed()) await component.drain()
})
afterAll(async () => {
  await telemetry.shutdown()
  await rm(root, { recursive: true })
})

async function start(config: Partial<ModelConfig>, folder = root): Promise<Backend> {
  const backend = backendFor({
    model: 'm',
    version: '1',
    folder,
    modelFolder: root,
    config: {
      name: 'm',
      backend: 'onnxruntime',
      platform: 'p',
      versionPolicy: { kind: 'latest', count: 1 },
      warmup: [],
      parameters: new Map(),
      ...config,
    },
    models: () => expect.unreachable('no other models are needed'),
    logger: telemetry.logger,
    telemetry,
  })
  await backend.start(signal)
  open.push(backend)
  return backend
}

const features = (...values: number[]): Tensors =>
  new Map([['features', tensor('FP32', [values.length / 3, 3], Float32Array.from(values))]])
const parameters = (values: Record<string, string>): ReadonlyMap<string, string> => new Map(Object.entries(values))

describe('a model of another server', () => {
  async function serve(): Promise<string> {
    const repository = await mkdtemp(join(root, 'remote-'))
    await writeModel(repository, 'cheap', 1, logisticModel([9, 9, 9], 0))
    await writeModel(repository, 'cheap', 2, logisticModel(weights, 0.1))
    const scalar = { datatype: 'FP32', shape: [2] } as const
    const negative = onnxModel({
      inputs: [{ name: 'x', ...scalar }],
      outputs: [{ name: 'y', ...scalar }],
      nodes: [{ op: 'Neg', inputs: ['x'], outputs: ['y'] }],
    })
    await writeModel(repository, 'whole', 1, negative)
    const manager = new ModelManager({ repository, telemetry })
    open.push(manager)
    await manager.start(signal)
    const server = new GrpcServer({ port: 0, telemetry, services: [inferenceService(manager)] })
    open.push(server)
    await server.start()
    return `127.0.0.1:${server.port}`
  }

  test('has its signature, and answers', async () => {
    const address = await serve()
    const backend = await start({ backend: 'remote', parameters: parameters({ address, model: 'cheap', concurrency: '3' }) })
    expect([...backend.signature.inputs]).toEqual([['features', { datatype: 'FP32', rowShape: [3] }]])
    expect(backend.maxBatchRows).toBeGreaterThan(100)
    expect(backend.concurrency).toBe(3)
    const { data } = (await backend.run(features(1, 2, 3, 4, 5, 6), signal, Date.now() + 5_000)).get('score')!
    expect((data as Float32Array)[1]).toBeCloseTo(logistic(weights, 0.1, [4, 5, 6]), 6)
  })

  test('that takes whole tensors says so', async () => {
    const address = await serve()
    const backend = await start({ backend: 'remote', parameters: parameters({ address, model: 'whole' }) })
    expect(backend.signature.wholeShapes).toEqual(
      new Map([
        ['x', [2]],
        ['y', [2]],
      ]),
    )
    const outputs = await backend.run(new Map([['x', tensor('FP32', [2], Float32Array.of(1, 2))]]), signal)
    expect(outputs.get('y')!.data).toEqual(Float32Array.of(-1, -2))
  })

  test('is given the deadline, and stopped when nobody waits', async () => {
    const address = await serve()
    const backend = await start({ backend: 'remote', parameters: parameters({ address, model: 'cheap', version: '2' }) })
    await expect(backend.run(features(1, 2, 3), signal, Date.now() - 1)).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' })
    const controller = new AbortController()
    const run = backend.run(features(1, 2, 3), controller.signal)
    controller.abort()
    await expect(run).rejects.toMatchObject({ code: 'CANCELLED' })
  })

  test('that is away, or has no such model, is UNAVAILABLE and named', async () => {
    const away = { backend: 'remote', parameters: parameters({ address: '127.0.0.1:1', model: 'far', connect_timeout_ms: '200' }) } as const
    await expect(start(away)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/model "m" \(model "far" at 127\.0\.0\.1:1\): no answer within 200 ms/) as string,
    })
    const address = await serve()
    await expect(start({ backend: 'remote', parameters: parameters({ address }) })).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringContaining(`model "m" (model "m" at ${address})`) as string,
    })
  })

  test('needs an address', async () => {
    await expect(start({ backend: 'remote' })).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', field: 'parameters.address' })
    const wrong = parameters({ address: '127.0.0.1:1', concurrency: 'many' })
    await expect(start({ backend: 'remote', parameters: wrong })).rejects.toMatchObject({ field: 'parameters.concurrency' })
  })
})

describe.each(['worker', 'main'])('a module in the %s thread', (thread) => {
  let version = 0

  async function module(code: string, config: Partial<ModelConfig> = {}, more: Record<string, string> = {}): Promise<Backend> {
    const folder = join(root, `${thread}-${++version}`)
    await mkdir(folder)
    await writeFile(join(folder, 'model.ts'), code)
    return start({ backend: 'module', ...config, parameters: parameters({ thread, ...more }) }, folder)
  }

  const vocabulary = `
    import { readFile } from 'node:fs/promises'
    export const inputs = { word: { datatype: 'BYTES' } }
    export const outputs = { index: { datatype: 'INT64' }, known: { datatype: 'BYTES' } }
    let words: string[] = []
    export async function start({ folder, parameters }: { folder: string, parameters: Map<string, string> }): Promise<void> {
      words = parameters.get('words')!.split(' ')
      await readFile(folder + '/model.ts')
    }
    export async function run(given: Map<string, any>, { texts, textTensor }: any) {
      const wanted: string[] = texts(given.get('word'))
      if (wanted.includes('!')) throw new Error('no such word: !')
      await new Promise(setImmediate)
      return new Map<string, any>([
        ['index', { datatype: 'INT64', shape: [wanted.length], data: BigInt64Array.from(wanted, (word) => BigInt(words.indexOf(word))) }],
        ['known', textTensor(wanted.map((word) => (words.includes(word) ? 'ja' : 'nein')))],
      ])
    }`

  test('is started, and run with rows of any count', async () => {
    const backend = await module(vocabulary, {}, { words: 'eins zwei drei' })
    expect([...backend.signature.outputs.keys()]).toEqual(['index', 'known'])
    expect(backend.maxBatchRows).toBe(Infinity)
    const outputs = await backend.run(new Map([['word', text(['drei', 'grün', 'eins'])]]), signal)
    expect(outputs.get('index')!.data).toEqual(BigInt64Array.of(2n, -1n, 0n))
    expect(textValues(outputs.get('known')!.data as never)).toEqual(['ja', 'nein', 'ja'])
    const many = await backend.run(new Map([['word', text(new Array<string>(50_000).fill('zwei'))]]), signal)
    expect((many.get('index')!.data as BigInt64Array)[49_999]).toBe(1n)
  })

  test('fails a request with its own error, named by model, and goes on', async () => {
    const backend = await module(vocabulary, {}, { words: 'eins' })
    await expect(backend.run(new Map([['word', text(['!'])]]), signal)).rejects.toMatchObject({
      code: 'INTERNAL',
      message: expect.stringMatching(/model "m" \(.*model\.ts\): no such word: !/) as string,
    })
    expect((await backend.run(new Map([['word', text(['eins'])]]), signal)).get('index')!.data).toEqual(BigInt64Array.of(0n))
  })

  const one = (body: string): string => `
    export const inputs = { x: { datatype: 'FP32', dims: [1] } }
    export const outputs = { y: { datatype: 'FP32', dims: [1] } }
    export async function run(given: Map<string, any>, context: any) { ${body} }`
  const x: Tensors = new Map<string, Tensor>([['x', tensor('FP32', [2, 1], Float32Array.of(1, 2))]])

  test('keeps the code and field of what it throws', async () => {
    const backend = await module(one(`throw Object.assign(new Error('too large'), { code: 'INVALID_ARGUMENT', field: 'x' })`))
    await expect(backend.run(x, signal)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', field: 'x' })
  })

  test.each(['undefined', 'null', '"a text"'])('may throw anything: %s', async (thrown) => {
    const backend = await module(one(`throw ${thrown}`))
    await expect(backend.run(x, signal)).rejects.toMatchObject({
      code: 'INTERNAL',
      message: expect.stringMatching(new RegExp(`^model "[^"]+" .*model\\.ts\\): ${thrown.replaceAll('"', '')}$`)) as string,
    })
  })

  test('is told when it answers what it did not promise', async () => {
    const backend = await module(one(`return new Map([['y', given.get('x').shape[0] === 2 ? { ...given.get('x'), shape: [1, 1] } : 0]])`))
    await expect(backend.run(x, signal)).rejects.toMatchObject({
      code: 'INTERNAL',
      message: expect.stringMatching(/output "y" is FP32 of shape \[1, 1\] with 2 elements: expected FP32 of shape \[2, 1\]/) as string,
    })
    const none = await module(one('return {}'))
    await expect(none.run(x, signal)).rejects.toMatchObject({ message: expect.stringContaining('no Map of tensors') as string })
  })

  test('that takes too long fails', async () => {
    const slow = await module(
      one(`await new Promise((resolve) => setTimeout(resolve, given.get('x').data[0] * 60)); return new Map([['y', given.get('x')]])`),
      {},
      { timeout_ms: '400' },
    )
    const asked = (value: number): Promise<Tensors> => slow.run(new Map([['x', tensor('FP32', [1, 1], Float32Array.of(value))]]), signal)
    await expect(asked(20)).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED', message: expect.stringContaining('400 ms') as string })
    await expect.poll(() => asked(0).then((outputs) => outputs.size), { timeout: 10_000, interval: 50 }).toBe(1)
  })

  test('is given deadlines', async () => {
    const backend = await module(one(`return new Map([['y', { ...given.get('x'), data: Float32Array.of(context.deadlineMs, 1) }]])`))
    expect(((await backend.run(x, signal, 4096)).get('y')!.data as Float32Array)[0]).toBe(4096)
    expect(((await backend.run(x, signal)).get('y')!.data as Float32Array)[0]).toBe(Infinity)
  })

  test('with max_batch_size 0 takes whole tensors', async () => {
    const backend = await module(one(`return new Map([['y', { datatype: 'FP32', shape: [1], data: Float32Array.of(7) }]])`), {
      maxBatchSize: 0,
    })
    expect(backend.signature.wholeShapes!.get('y')).toEqual([1])
    const outputs = await backend.run(new Map([['x', tensor('FP32', [1], Float32Array.of(1))]]), signal)
    expect(outputs.get('y')!.data).toEqual(Float32Array.of(7))
  })

  const broken: readonly [string, string, RegExp][] = [
    ['syntax', 'export const =', /cannot be imported/],
    ['a missing import', "import './nowhere.ts'", /cannot be imported: .*nowhere/],
    ['no run', 'export const inputs = {}, outputs = {}', /exports no function run/],
    ['no inputs', 'export function run() {}', /exports no inputs or no outputs/],
    ['a datatype', "export const inputs = { x: { datatype: 'FLOAT' } }, outputs = {}; export function run() {}", /input "x" is FLOAT \[\]/],
    ['a start that fails', `${one('')}; export function start() { throw new Error('no vocabulary') }`, /cannot be started: no vocabulary/],
  ]
  test.each(broken)('with %s is refused and named', async (_, code, message) => {
    await expect(module(code)).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringMatching(new RegExp(`model "m" \\(.*model\\.ts\\).*${message.source}`)) as string,
    })
  })
})

test('a module asks for a thread that is there', async () => {
  await expect(start({ backend: 'module', parameters: parameters({ thread: 'gpu' }) })).rejects.toMatchObject({
    field: 'parameters.thread',
  })
})
