import { type Clock, MeshError, sliceTensor, type Tensor, tensor } from '@spillway/core'
import { Registry } from 'prom-client'
import { describe, expect, test, vi } from 'vitest'
import { type Tensors } from '../src/mod.ts'
import type { Backend } from '../src/backend.ts'
import { DynamicBatcher } from '../src/batching/dynamic-batcher.ts'
import { ModelMetrics } from '../src/batching/model-metrics.ts'
import { refusal } from './refusal.ts'

const never = new AbortController().signal
const anyTime = { deadlineMs: Infinity, signal: never }

/** A backend that doubles each row's value, refuses negative rows, and runs only when let. */
class GatedBackend implements Backend {
  readonly signature: Backend['signature'] = {
    inputs: new Map([['x', { datatype: 'FP32', rowShape: [-1] }]]),
    outputs: new Map([['y', { datatype: 'FP32', rowShape: [1] }]]),
  }
  readonly maxBatchRows: number = Infinity
  readonly concurrency: number = 1
  readonly runs: number[] = []
  #gate: PromiseWithResolvers<void> | undefined

  close(): void {
    this.#gate = Promise.withResolvers()
  }

  open(): void {
    this.#gate?.resolve()
    this.#gate = undefined
  }

  async run(inputs: Tensors): Promise<Tensors> {
    const x = inputs.get('x')!
    this.runs.push(x.shape[0]!)
    await this.#gate?.promise
    const data = x.data as Float32Array
    if (data.some((value) => value < 0)) throw new MeshError('INTERNAL', 'a negative row')
    const width = x.shape[1]!
    const y = Float32Array.from({ length: x.shape[0]! }, (_, row) => 2 * data[row * width]!)
    return new Map([['y', tensor('FP32', [x.shape[0]!, 1], y)]])
  }

  start(): Promise<void> {
    return Promise.resolve()
  }

  drain(): Promise<void> {
    return Promise.resolve()
  }
}

/** Resolves when the (gated) backend has begun a run. */
function started(backend: GatedBackend): Promise<void> {
  return vi.waitFor(() => expect(backend.runs).toHaveLength(1), { interval: 1 })
}

const metrics = (registry = new Registry()): ReturnType<ModelMetrics['of']> => new ModelMetrics(registry).of('m', '1')

function rows(...values: number[]): Tensors {
  return new Map([['x', tensor('FP32', [values.length, 1], Float32Array.from(values))]])
}

const answer = (outputs: Tensors): number[] => [...(outputs.get('y')!.data as Float32Array)]

describe('requests that arrive together or during a run', () => {
  test('go into one run, each with its own answer', async () => {
    const backend = new GatedBackend()
    backend.close()
    const batcher = new DynamicBatcher(backend, metrics())
    const ask = (i: number): Promise<Tensors> => batcher.infer(rows(i, i + 0.5), 2, anyTime)
    const answers = [ask(0), ask(1), ask(2)]
    await started(backend)
    for (let i = 3; i < 10; i++) answers.push(ask(i))
    backend.open()
    expect((await Promise.all(answers)).map(answer)).toEqual(Array.from({ length: 10 }, (_, i) => [2 * i, 2 * i + 1]))
    expect(backend.runs).toEqual([6, 14])
  })

  test('are split over runs of at most maxBatchRows, in order, none divided that fits one', async () => {
    const backend = new GatedBackend()
    backend.close()
    const batcher = new DynamicBatcher(backend, metrics(), { maxBatchRows: 4 })
    const answers = [1, 3, 2, 3, 4].map((count) => batcher.infer(rows(...new Array<number>(count).fill(1)), count, anyTime))
    backend.open()
    await Promise.all(answers)
    expect(backend.runs).toEqual([4, 2, 3, 4])
  })

  test('are not put together where their rows differ in shape', async () => {
    const backend = new GatedBackend()
    backend.close()
    const batcher = new DynamicBatcher(backend, metrics())
    const wide = new Map([['x', tensor('FP32', [1, 2], Float32Array.of(5, 6))]])
    const answers = [rows(1), rows(2), wide, rows(3)].map((inputs) => batcher.infer(inputs, 1, anyTime))
    backend.open()
    expect((await Promise.all(answers)).map(answer)).toEqual([[2], [4], [10], [6]])
    // Those of the first one's shape overtake the other.
    expect(backend.runs).toEqual([3, 1])
  })

  test('wait for more where a delay is set', async () => {
    const backend = new GatedBackend()
    const batcher = new DynamicBatcher(backend, metrics(), { maxQueueDelayMs: 20, maxBatchRows: 3 })
    await Promise.all([1, 2].map((value) => batcher.infer(rows(value), 1, anyTime)))
    await Promise.all([1, 2, 3].map((value) => batcher.infer(rows(value), 1, anyTime)))
    expect(backend.runs).toEqual([2, 3])
  })
})

test('a request larger than a batch is run in pieces and answered whole', async () => {
  const backend = new GatedBackend()
  const batcher = new DynamicBatcher(backend, metrics(), { maxBatchRows: 4, maxQueueRows: 8 })
  const values = Array.from({ length: 11 }, (_, i) => i)
  expect(answer(await batcher.infer(rows(...values), 11, anyTime))).toEqual(values.map((value) => 2 * value))
  expect(backend.runs).toEqual([4, 4, 3])
})

test('a request that fails takes no neighbour with it', async () => {
  const backend = new GatedBackend()
  backend.close()
  const batcher = new DynamicBatcher(backend, metrics())
  const answers = [0, 1, 2, -3, 4, 5].map((value) => batcher.infer(rows(value), 1, anyTime))
  backend.open()
  const results = await Promise.allSettled(answers)
  expect(results.map((result) => result.status)).toEqual(['fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'fulfilled', 'fulfilled'])
  expect((results[3] as PromiseRejectedResult).reason).toMatchObject({ message: 'a negative row' })
})

test('a request whose deadline has passed is not run', async () => {
  const backend = new GatedBackend()
  backend.close()
  let nowMs = 1_000
  const clock: Clock = { nowMs: () => nowMs }
  const batcher = new DynamicBatcher(backend, metrics(), { clock })
  expect(await refusal(batcher.infer(rows(1), 1, { deadlineMs: 1_000, signal: never }))).toMatchObject({ code: 'DEADLINE_EXCEEDED' })
  const first = batcher.infer(rows(1), 1, anyTime)
  await started(backend)
  const late = refusal(batcher.infer(rows(2), 1, { deadlineMs: 60_000, signal: never }))
  const last = batcher.infer(rows(3), 1, { deadlineMs: 900_000, signal: never })
  nowMs = 60_000
  backend.open()
  expect(await late).toMatchObject({ code: 'DEADLINE_EXCEEDED' })
  expect(answer(await first)).toEqual([2])
  expect(answer(await last)).toEqual([6])
  expect(backend.runs).toEqual([1, 1])
})

test('a request that would wait past its deadline is refused at once, and taken where nothing stands before it', async () => {
  const backend = new GatedBackend()
  const batcher = new DynamicBatcher(backend, metrics(), { maxBatchRows: 1 })
  backend.close()
  const slow = batcher.infer(rows(0), 1, anyTime)
  await started(backend)
  await new Promise((resolve) => setTimeout(resolve, 200))
  backend.open()
  await slow
  // Runs are now known to take some 40 ms.
  backend.close()
  const before = [1, 2, 3, 4].map((i) => batcher.infer(rows(i), 1, anyTime))
  await vi.waitFor(() => expect(backend.runs).toHaveLength(2), { interval: 1 })
  const hopeless = await refusal(batcher.infer(rows(5), 1, { deadlineMs: Date.now() + 100, signal: never }))
  expect(hopeless).toMatchObject({ code: 'DEADLINE_EXCEEDED', message: expect.stringContaining('3 rows wait before it') as string })
  const patient = batcher.infer(rows(6), 1, { deadlineMs: Date.now() + 60_000, signal: never })
  backend.open()
  await Promise.all(before)
  expect(answer(await patient)).toEqual([12])
  expect(answer(await batcher.infer(rows(7), 1, { deadlineMs: Date.now() + 50, signal: never }))).toEqual([14])
})

test('a request is answered at its deadline though the backend is stuck', async () => {
  const backend = new GatedBackend()
  backend.close()
  const batcher = new DynamicBatcher(backend, metrics())
  const stuck = refusal(batcher.infer(rows(1), 1, { deadlineMs: Date.now() + 1_000, signal: never }))
  await started(backend)
  const queued = refusal(batcher.infer(rows(2), 1, { deadlineMs: Date.now() + 40, signal: never }))
  expect(await stuck).toMatchObject({ code: 'DEADLINE_EXCEEDED' })
  expect(await queued).toMatchObject({ code: 'DEADLINE_EXCEEDED' })
  backend.open()
  await batcher.drain()
  expect(backend.runs).toEqual([1])
})

test('a cancelled request leaves the queue, and makes room', async () => {
  const backend = new GatedBackend()
  backend.close()
  const batcher = new DynamicBatcher(backend, metrics(), { maxQueueRows: 4 })
  const first = batcher.infer(rows(1), 1, anyTime)
  await started(backend)
  const controller = new AbortController()
  const cancelled = [1, 2, 3].map(() => refusal(batcher.infer(rows(2), 1, { deadlineMs: Infinity, signal: controller.signal })))
  const kept = batcher.infer(rows(3), 1, anyTime)
  expect(await refusal(batcher.infer(rows(9), 1, anyTime))).toMatchObject({ code: 'RESOURCE_EXHAUSTED' })
  controller.abort()
  for (const error of await Promise.all(cancelled)) expect(error.code).toBe('CANCELLED')
  const more = batcher.infer(rows(4, 5, 6), 3, anyTime)
  backend.open()
  await Promise.all([first, kept, more])
  expect(backend.runs).toEqual([1, 4])
})

test('a drain answers what was taken and takes no more', async () => {
  const backend = new GatedBackend()
  backend.close()
  const registry = new Registry()
  const batcher = new DynamicBatcher(backend, metrics(registry))
  const ask = (value: number): Promise<Tensors> => batcher.infer(rows(value), 1, anyTime)
  const answers = [ask(1)]
  await started(backend)
  answers.push(ask(2), ask(3))
  const drained = batcher.drain()
  expect(await refusal(batcher.infer(rows(4), 1, anyTime))).toMatchObject({ code: 'UNAVAILABLE' })
  backend.open()
  await drained
  expect((await Promise.all(answers)).map(answer)).toEqual([[2], [4], [6]])
  const text = await registry.metrics()
  expect(text).toContain('spillway_model_requests_total{model="m",version="1",code="OK"} 3')
  expect(text).toContain('spillway_model_rows_total{model="m",version="1"} 3')
  expect(text).toContain('spillway_model_batch_rows_count{model="m",version="1"} 2')
  expect(text).toContain('spillway_model_queue_rows{model="m",version="1"} 0')
})

test('many callers with many requests each get their own rows back', async () => {
  const backend = new GatedBackend()
  const batcher = new DynamicBatcher(backend, metrics(), { maxBatchRows: 7 })
  const source = rows(...Array.from({ length: 64 }, (_, i) => i)).get('x')!
  const caller = async (seed: number): Promise<void> => {
    for (let i = 0; i < 50; i++) {
      const start = (seed * 7 + i * 3) % 50
      const count = 1 + ((seed + i) % 13)
      const part: Tensor = sliceTensor(source, start, start + count)
      const outputs = await batcher.infer(new Map([['x', part]]), count, anyTime)
      expect(answer(outputs)).toEqual(Array.from({ length: count }, (_, row) => 2 * (start + row)))
    }
  }
  await Promise.all(Array.from({ length: 16 }, (_, seed) => caller(seed)))
  await batcher.drain()
})
