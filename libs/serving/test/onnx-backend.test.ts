import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { getPriority, tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  type BytesColumn,
  bytesColumn,
  bytesCount,
  type Datatype,
  fp32,
  MeshError,
  type Tensor,
  tensor,
  text,
  textValues,
} from '@spillway/core'
import { createTelemetry, type OwnedTelemetry } from '@spillway/telemetry'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { OnnxBackend, type OnnxBackendOptions } from '../src/backends/onnx-backend.ts'
import { ortStrings } from '../src/backends/ort-strings.ts'
import { hasEnoughRows, runsInline } from '../src/backends/placement.ts'
import { logistic, logisticModel, mlpModel, onnxModel } from './onnx-builder.ts'
import { refusal } from './refusal.ts'

const signal = new AbortController().signal
const heavy = mlpModel([8, 512, 512, 1])

let folder: string
let telemetry: OwnedTelemetry
const open: OnnxBackend[] = []

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'spillway-onnx-'))
  telemetry = createTelemetry({ service: 'serving-test', logLevel: 'silent', otlp: false })
})
afterEach(async () => {
  for (const backend of open.splice(0)) await backend.drain()
})
afterAll(async () => {
  await telemetry.shutdown()
  await rm(folder, { recursive: true })
})

async function start(name: string, model: Uint8Array, options: Partial<OnnxBackendOptions> = {}): Promise<OnnxBackend> {
  const path = join(folder, `${name}.onnx`)
  await writeFile(path, model)
  const backend = new OnnxBackend({ path, workers: 1, maxBatchRows: 1024, logger: telemetry.logger, ...options })
  await backend.start(signal)
  open.push(backend)
  return backend
}

function features(rows: number, width: number): Tensor {
  return tensor(
    'FP32',
    [rows, width],
    Float32Array.from({ length: rows * width }, (_, i) => Math.sin(i)),
  )
}

describe('a model', () => {
  const weights = [0.5, -1, 2]

  test('so small that the hop costs more than the run is run inline', async () => {
    const backend = await start('logistic', logisticModel(weights, 0.1), { maxBatchRows: 64 })
    expect(backend.placement).toMatchObject({ inlineRows: Infinity })
    expect(runsInline(backend.placement!.runUs, backend.placement!.hopUs)).toBe(true)
    const x = features(5, 3)
    const outputs = await backend.run(new Map([['features', x]]), signal)
    const score = outputs.get('score')!
    expect(score).toMatchObject({ datatype: 'FP32', shape: [5, 1] })
    for (let row = 0; row < 5; row++) {
      const values = (x.data as Float32Array).subarray(row * 3, row * 3 + 3)
      expect((score.data as Float32Array)[row]).toBeCloseTo(logistic(weights, 0.1, values), 6)
    }
  })

  test('whose larger runs take longer than the hop runs these in its workers, and does not hold up this thread', async () => {
    const backend = await start('heavy', heavy, { workers: 2 })
    expect(backend.placement!.inlineRows).toBeLessThan(200)
    expect(backend.enoughRows).toBeLessThanOrEqual(1024)
    expect(backend.concurrency).toBe(2)
    let ticks = 0
    const ticking = setInterval(() => ticks++, 1)
    const x = features(8192, 8)
    const outputs = await backend.run(new Map([['features', x]]), signal)
    clearInterval(ticking)
    expect(ticks).toBeGreaterThan(3)
    expect(outputs.get('score')!.shape).toEqual([8192, 1])
    expect((x.data as Float32Array).length).toBe(8192 * 8)
  })

  test.runIf(process.platform === 'linux')('lets what serves everything else go before its runs', async () => {
    await start('heavy', heavy)
    const threads = await readdir('/proc/self/task')
    const nice = await Promise.all(
      threads.map(async (thread) => Number((await readFile(`/proc/self/task/${thread}/stat`, 'utf8')).split(') ')[1]!.split(' ')[16])),
    )
    expect(nice).toContain(Math.min(getPriority() + 5, 19))
    expect(nice[threads.indexOf(String(process.pid))]).toBe(getPriority())
  })

  test('is described by its signature', async () => {
    const backend = await start('logistic', logisticModel(weights, 0))
    expect([...backend.signature.inputs]).toEqual([['features', { datatype: 'FP32', rowShape: [3] }]])
    expect([...backend.signature.outputs]).toEqual([['score', { datatype: 'FP32', rowShape: [1] }]])
    expect(backend.maxBatchRows).toBe(Infinity)
  })

  test('whose first dimension is fixed to 1 takes one row at a time', async () => {
    const backend = await start('one', logisticModel(weights, 0, 1))
    expect(backend.maxBatchRows).toBe(1)
  })

  const samples: readonly [Datatype, Tensor][] = [
    ['FP32', fp32([1.5, -2])],
    ['FP64', tensor('FP64', [2], Float64Array.of(1.5, -2))],
    ['FP16', tensor('FP16', [2], Uint16Array.of(0x3c00, 0xc000))],
    ['INT64', tensor('INT64', [2], BigInt64Array.of(2n ** 62n, -1n))],
    ['INT32', tensor('INT32', [2], Int32Array.of(7, -8))],
    ['INT16', tensor('INT16', [2], Int16Array.of(7, -8))],
    ['INT8', tensor('INT8', [2], Int8Array.of(7, -8))],
    ['UINT64', tensor('UINT64', [2], BigUint64Array.of(2n ** 63n, 1n))],
    ['UINT32', tensor('UINT32', [2], Uint32Array.of(2 ** 32 - 1, 8))],
    ['UINT16', tensor('UINT16', [2], Uint16Array.of(7, 8))],
    ['UINT8', tensor('UINT8', [2], Uint8Array.of(7, 255))],
    ['BOOL', tensor('BOOL', [2], Uint8Array.of(1, 0))],
    ['BYTES', text(['grün', ''])],
  ]

  test.each(samples)('takes and gives %s', async (datatype, sample) => {
    const value = { datatype, shape: ['rows'] }
    const model = onnxModel({
      inputs: [{ name: 'x', ...value }],
      outputs: [{ name: 'y', ...value }],
      nodes: [{ op: 'Identity', inputs: ['x'], outputs: ['y'] }],
    })
    const backend = await start(`identity-${datatype}`, model)
    const y = (await backend.run(new Map([['x', sample]]), signal)).get('y')!
    expect(y.datatype).toBe(datatype)
    expect(y.shape).toEqual([2])
    if (y.datatype === 'BYTES') expect(textValues(y.data)).toEqual(['grün', ''])
    else expect(y.data).toEqual(sample.data)
  })

  const bytes = (...elements: readonly (string | readonly number[])[]): BytesColumn =>
    bytesColumn(elements.map((element) => (typeof element === 'string' ? Buffer.from(element) : Uint8Array.from(element))))
  const noText: readonly [string, readonly number[], BytesColumn, RegExp][] = [
    ['a zero byte', [2], bytes('a', 'b\0c'), /input "x": row 1 holds a zero byte/],
    ['no UTF-8', [3], bytes('ä', [0xff, 0xfe], 'b'), /input "x": row 1 is no UTF-8/],
    ['one character over two elements', [2], bytes([0xc3], [0xa4]), /input "x": row 0 is no UTF-8/],
    ['several elements a row', [2, 3], bytes('a', 'b', 'c', 'd', 'e\0', 'f'), /input "x": element 1 of row 1 holds a zero byte/],
  ]

  test.each(noText)('refuses BYTES that the runtime would change: %s', async (what, shape, data, message) => {
    const value = { datatype: 'BYTES', shape: ['rows', ...shape.slice(1)] } as const
    const model = onnxModel({
      inputs: [{ name: 'x', ...value }],
      outputs: [{ name: 'y', ...value }],
      nodes: [{ op: 'Identity', inputs: ['x'], outputs: ['y'] }],
    })
    const backend = await start(`text-${what}`, model)
    const x: Tensor = { datatype: 'BYTES', shape, data }
    expect(await refusal(backend.run(new Map([['x', x]]), signal))).toMatchObject({
      code: 'INVALID_ARGUMENT',
      field: 'x',
      message: expect.stringMatching(message) as string,
    })
    const good = text(['grün', '', 'x', 'y', 'z', 'ß'].slice(0, bytesCount(data))).data as BytesColumn
    const y = (await backend.run(new Map<string, Tensor>([['x', { datatype: 'BYTES', shape, data: good }]]), signal)).get('y')!
    expect(textValues(y.data as BytesColumn)).toEqual(textValues(good))
    // A worker's tensors are in shared memory.
    const shared = ({ bytes: own, offsets }: BytesColumn): BytesColumn => {
      const memory = new Uint8Array(new SharedArrayBuffer(own.length + 3), 3)
      memory.set(own)
      return { bytes: memory, offsets }
    }
    expect(ortStrings('x', shape, shared(good))).toEqual(textValues(good))
    expect(() => ortStrings('x', shape, shared(data))).toThrow(message)
  })
})

describe('a model whose first dimension is not the row', () => {
  const vote = (shape: readonly (number | string)[]): Uint8Array =>
    onnxModel({
      inputs: [{ name: 'x', datatype: 'FP32', shape }],
      outputs: [{ name: 'sum', datatype: 'FP32', shape: [1] }],
      nodes: [
        { op: 'ReduceSum', inputs: ['x'], outputs: ['total'], attributes: { keepdims: { int: 0 } } },
        { op: 'Reshape', inputs: ['total', 'one'], outputs: ['sum'] },
      ],
      initializers: [{ name: 'one', shape: [1], data: BigInt64Array.of(1n) }],
    })

  test('as its file says, takes whole tensors', async () => {
    const backend = await start('eight', vote([8, 2]))
    expect(backend.signature.wholeShapes).toEqual(
      new Map([
        ['x', [8, 2]],
        ['sum', [1]],
      ]),
    )
    expect(backend.maxBatchRows).toBe(1)
    const x = tensor('FP32', [8, 2], new Float32Array(16).fill(0.5))
    expect((await backend.run(new Map([['x', x]]), signal)).get('sum')).toMatchObject({ shape: [1], data: Float32Array.of(8) })
  })

  test('as an output says whose size is fixed', async () => {
    const backend = await start('fixed-output', vote(['any', 2]))
    expect(backend.signature.wholeShapes!.get('x')).toEqual([-1, 2])
    const x = tensor('FP32', [3, 2], new Float32Array(6).fill(2))
    expect((await backend.run(new Map([['x', x]]), signal)).get('sum')!.data).toEqual(Float32Array.of(12))
  })

  test('as the config says', async () => {
    const backend = await start('config-says', logisticModel([1, 2], 0), { maxBatchSize: 0 })
    expect(backend.signature.wholeShapes!.get('features')).toEqual([-1, 2])
  })

  test('takes scalars', async () => {
    const scalar = { datatype: 'FP32', shape: [] } as const
    const model = onnxModel({
      inputs: [{ name: 'x', ...scalar }],
      outputs: [{ name: 'y', ...scalar }],
      nodes: [{ op: 'Neg', inputs: ['x'], outputs: ['y'] }],
    })
    const backend = await start('scalar', model)
    const y = (await backend.run(new Map([['x', tensor('FP32', [], Float32Array.of(4))]]), signal)).get('y')
    expect(y).toMatchObject({ shape: [], data: Float32Array.of(-4) })
  })
})

describe('a file that cannot be served names itself and what is wrong', () => {
  const reasons: readonly [string, Uint8Array, RegExp][] = [
    ['not-onnx', Buffer.from('this is no model'), /not-onnx\.onnx cannot be loaded as an ONNX model/],
    ['cut', logisticModel([1, 2], 0).subarray(0, 60), /cut\.onnx cannot be loaded as an ONNX model/],
    [
      'eight-rows',
      logisticModel([1, 2], 0, 8),
      /eight-rows\.onnx cannot be batched \(max_batch_size is 4\): input "features" takes exactly 8/,
    ],
    ['one-row', logisticModel([1, 2], 0, 1), /one-row\.onnx takes one row at a time \(max_batch_size is 4\)/],
    [
      'unknown-provider',
      logisticModel([1, 2], 0),
      /execution provider "dml", which this build of ONNX Runtime has not: it has cpu, webgpu/,
    ],
    [
      'missing-provider',
      logisticModel([1, 2], 0),
      /execution provider "cuda", whose library is not installed: expected .*providers_shared\.so/,
    ],
    [
      'zip-map',
      onnxModel({
        inputs: [{ name: 'x', datatype: 'FP32', shape: ['rows', 2] }],
        outputs: [{ name: 'p', datatype: 'FP32', shape: [], zipMap: true }],
        nodes: [
          { op: 'ZipMap', domain: 'ai.onnx.ml', inputs: ['x'], outputs: ['p'], attributes: { classlabels_int64s: { ints: [0, 1] } } },
        ],
      }),
      /zip-map\.onnx: output "p" is no tensor but a sequence or map/,
    ],
  ]
  const options: Readonly<Record<string, Partial<OnnxBackendOptions>>> = {
    'eight-rows': { maxBatchSize: 4 },
    'one-row': { maxBatchSize: 4 },
    'unknown-provider': { providers: ['dml'] },
    'missing-provider': { providers: ['cuda', 'cpu'] },
  }
  test.each(reasons)('%s', async (name, model, expected) => {
    const error = await refusal(start(name, model, options[name]))
    expect(error).toBeInstanceOf(MeshError)
    expect(error.code).toBe('FAILED_PRECONDITION')
    expect(error.message).toMatch(expected)
  })
})

test('a run is inline only where it costs less than the hop and what the hop takes of both threads, and never where it would hold the thread', () => {
  expect(runsInline(20, 100)).toBe(true)
  expect(runsInline(160, 40)).toBe(true)
  expect(runsInline(161, 40)).toBe(false)
  expect(runsInline(400, 5_000)).toBe(false)
  expect(runsInline(Infinity, Infinity)).toBe(false)
})

test('a run has rows enough where it is long, and more of them would cost as much each', () => {
  expect(hasEnoughRows(2_000, 1_900)).toBe(true)
  expect(hasEnoughRows(2_000, 1_700)).toBe(false)
  expect(hasEnoughRows(1_000, 1_000)).toBe(false)
})
