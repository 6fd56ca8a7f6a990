import { type Tensor, tensor } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import { Registry } from 'prom-client'
import { describe, expect, test, vi } from 'vitest'
import { type BatcherOptions, type ModelSignature, type Tensors } from '../src/mod.ts'
import type { Backend } from '../src/backend.ts'
import { DynamicBatcher } from '../src/batching/dynamic-batcher.ts'
import { ModelMetrics } from '../src/batching/model-metrics.ts'
import { ServableStatistics } from '../src/batching/statistics.ts'
import { refusal } from './refusal.ts'

const never = new AbortController().signal
const anyTime = { deadlineMs: Infinity, signal: never }

/** Gives back what it is given, only when let, and tells of each run. */
class EchoBackend implements Backend {
  readonly signature: ModelSignature
  readonly maxBatchRows: number = Infinity
  readonly concurrency: number = 1
  readonly stoppable: boolean = true
  enoughRows: number = Infinity
  readonly runs: number[][] = []
  readonly signals: AbortSignal[] = []
  readonly deadlines: number[] = []
  #gate: PromiseWithResolvers<void> | undefined

  constructor(wholeShapes?: ModelSignature['wholeShapes']) {
    const columns = new Map([['x', { datatype: 'FP32' as const, rowShape: [-1] }]])
    this.signature = { inputs: columns, outputs: columns, ...(wholeShapes === undefined ? {} : { wholeShapes }) }
  }

  close(): void {
    this.#gate = Promise.withResolvers()
  }

  open(): void {
    this.#gate?.resolve()
    this.#gate = undefined
  }

  async run(inputs: Tensors, signal: AbortSignal, deadlineMs: number): Promise<Tensors> {
    const x = inputs.get('x')!
    this.runs.push([...x.shape])
    this.signals.push(signal)
    this.deadlines.push(deadlineMs)
    await this.#gate?.promise
    if ((x.data as Float32Array).includes(-1)) throw new Error('a row at fault')
    return inputs
  }

  start(): Promise<void> {
    return Promise.resolve()
  }

  drain(): Promise<void> {
    return Promise.resolve()
  }
}

const rows = (count: number, width = 1, value = 0): Tensors =>
  new Map<string, Tensor>([['x', tensor('FP32', [count, width], new Float32Array(count * width).fill(value))]])

function make(
  options: BatcherOptions = {},
  backend: EchoBackend = new EchoBackend(),
): { backend: EchoBackend; batcher: DynamicBatcher; statistics: ServableStatistics } {
  const statistics = new ServableStatistics('m', '1')
  return { backend, batcher: new DynamicBatcher(backend, statistics, options), statistics }
}

/** Resolves when the (gated) backend has begun a run. */
function begun(backend: EchoBackend, runs = 1): Promise<void> {
  return vi.waitFor(() => expect(backend.runs).toHaveLength(runs), { interval: 1 })
}

const counts = (backend: EchoBackend): number[] => backend.runs.map(([count]) => count!)

test('requests are put together up to the rows that are enough, and one that is larger is run whole', async () => {
  const backend = new EchoBackend()
  backend.enoughRows = 6
  const { batcher } = make({ maxBatchRows: 32 }, backend)
  backend.close()
  const first = batcher.infer(rows(1), 1, anyTime)
  await begun(backend)
  const others = [4, 2, 1, 20, 5, 1].map((count) => batcher.infer(rows(count), count, anyTime))
  backend.open()
  await Promise.all([first, ...others])
  expect(counts(backend)).toEqual([1, 6, 1, 20, 6])
})

describe('preferred batch sizes', () => {
  test('cut a batch at the largest that is reached; what reaches none is run as it is', async () => {
    const { backend, batcher } = make({ preferredBatchSizes: [8, 4], maxBatchRows: 32 })
    backend.close()
    const first = batcher.infer(rows(1), 1, anyTime)
    await begun(backend)
    const others = Array.from({ length: 15 }, () => batcher.infer(rows(1), 1, anyTime))
    backend.open()
    await Promise.all([first, ...others])
    expect(counts(backend)).toEqual([1, 8, 4, 3])
  })

  test('end the wait for more', async () => {
    const { backend, batcher } = make({ preferredBatchSizes: [4], maxBatchRows: 32, maxQueueDelayMs: 60_000 })
    await Promise.all(Array.from({ length: 4 }, () => batcher.infer(rows(1), 1, anyTime)))
    expect(counts(backend)).toEqual([4])
  })
})

test('a delay of less than a millisecond is kept', async () => {
  const { backend, batcher } = make({ maxQueueDelayMs: 0.3 })
  const waitsMs: number[] = []
  for (let i = 0; i < 20; i++) {
    const askedMs = performance.now()
    await batcher.infer(rows(1), 1, anyTime)
    waitsMs.push(performance.now() - askedMs)
  }
  expect(Math.min(...waitsMs)).toBeGreaterThanOrEqual(0.3)
  expect(Math.min(...waitsMs)).toBeLessThan(1)
  expect(backend.runs).toHaveLength(20)
})

describe('the time that a request may wait', () => {
  test('refuses it when it is over, though the backend is stuck', async () => {
    const { backend, batcher, statistics } = make({ defaultTimeoutMs: 30 })
    backend.close()
    const first = batcher.infer(rows(1), 1, anyTime)
    await begun(backend)
    const late = await refusal(batcher.infer(rows(1), 1, anyTime))
    expect(late).toMatchObject({ code: 'DEADLINE_EXCEEDED', message: expect.stringContaining('the 30 ms that it may') as string })
    backend.open()
    await first
    expect(backend.runs).toHaveLength(1)
    expect(statistics.failuresByReason.get('REJECTED')).toBe(1)
    expect(statistics).toMatchObject({ pendingRequests: 0, queuedRows: 0 })
  })

  test('does not end a run that has begun', async () => {
    const { backend, batcher } = make({ defaultTimeoutMs: 20 })
    backend.close()
    const asked = batcher.infer(rows(1), 1, anyTime)
    await begun(backend)
    await new Promise((resolve) => setTimeout(resolve, 50))
    backend.open()
    await asked
  })

  test('is the request’s own where that is shorter and the model allows it', async () => {
    const own = { ...anyTime, queueTimeoutMs: 20 }
    const { backend, batcher } = make({ defaultTimeoutMs: 60_000, allowTimeoutOverride: true })
    backend.close()
    const first = batcher.infer(rows(1), 1, own)
    await begun(backend)
    const longer = batcher.infer(rows(1), 1, { ...anyTime, queueTimeoutMs: 3_600_000 })
    expect(await refusal(batcher.infer(rows(1), 1, own))).toMatchObject({ message: expect.stringContaining('20 ms') as string })
    backend.open()
    await Promise.all([first, longer])

    const strict = make({ defaultTimeoutMs: 60_000 })
    strict.backend.close()
    const begins = strict.batcher.infer(rows(1), 1, own)
    await begun(strict.backend)
    const waits = strict.batcher.infer(rows(1), 1, own)
    await new Promise((resolve) => setTimeout(resolve, 50))
    strict.backend.open()
    await Promise.all([begins, waits])
  })

  test('puts it behind those that are in time where the model says so', async () => {
    const { backend, batcher } = make({ allowTimeoutOverride: true, timeoutAction: 'delay', maxBatchRows: 2 })
    backend.close()
    const answered: string[] = []
    const ask = (name: string, queueTimeoutMs: number): Promise<unknown> =>
      batcher.infer(rows(2), 2, { ...anyTime, queueTimeoutMs }).then(() => answered.push(name))
    const all = [ask('first', 0)]
    await begun(backend)
    all.push(ask('late 1', 5), ask('in time 1', 60_000), ask('late 2', 5), ask('in time 2', 0))
    await new Promise((resolve) => setTimeout(resolve, 20))
    backend.open()
    await Promise.all(all)
    expect(answered).toEqual(['first', 'in time 1', 'in time 2', 'late 1', 'late 2'])
  })
})

test('a row that could not make its deadline is refused before it runs, and one that is alone is tried', async () => {
  const { backend, batcher } = make({ maxBatchRows: 1 })
  backend.close()
  const slow = batcher.infer(rows(1), 1, anyTime)
  await begun(backend)
  await new Promise((resolve) => setTimeout(resolve, 150))
  const soon = batcher.infer(rows(1), 1, { deadlineMs: Date.now() + 60_000, signal: never })
  const tight = refusal(batcher.infer(rows(1), 1, { deadlineMs: Date.now() + 60, signal: never }))
  const last = batcher.infer(rows(1), 1, anyTime)
  backend.open()
  await Promise.all([slow, soon, last])
  expect(await tight).toMatchObject({ code: 'DEADLINE_EXCEEDED' })
  expect(backend.runs).toHaveLength(3)
  await batcher.infer(rows(1), 1, { deadlineMs: Date.now() + 1_000, signal: never })
  expect(backend.runs).toHaveLength(4)
})

test('rows of one shape are gathered from a ragged queue, and nothing is lost', async () => {
  const { backend, batcher } = make({ maxBatchRows: 8 })
  backend.close()
  const first = batcher.infer(rows(1), 1, anyTime)
  await begun(backend)
  const widths = Array.from({ length: 30 }, (_, i) => 1 + (i % 3))
  const answers = widths.map((width, i) => batcher.infer(rows(1, width, i), 1, anyTime))
  backend.open()
  await first
  for (const [i, outputs] of (await Promise.all(answers)).entries())
    expect(outputs.get('x')).toMatchObject({ shape: [1, widths[i]!], data: new Float32Array(widths[i]!).fill(i) })
  expect(backend.runs.slice(1).map(([count]) => count)).toEqual([8, 8, 8, 2, 2, 2])
})

describe('a model that is not batched', () => {
  const whole = (): EchoBackend => new EchoBackend(new Map([['x', [2, -1]]]))

  test('runs each request alone, whatever its first dimension', async () => {
    const { backend, batcher, statistics } = make({}, whole())
    const answers = await Promise.all([rows(2, 3), rows(2, 5), rows(2, 3)].map((inputs) => batcher.infer(inputs, 1, anyTime)))
    expect(answers.map((outputs) => outputs.get('x')!.shape)).toEqual([
      [2, 3],
      [2, 5],
      [2, 3],
    ])
    expect(backend.runs).toHaveLength(3)
    expect(statistics.snapshot()).toMatchObject({ inferenceCount: 3n, executionCount: 3n, batches: [{ batchSize: 1 }] })
  })

  test('checks whole shapes', async () => {
    const { batcher } = make({}, whole())
    expect(await refusal(batcher.infer(rows(3, 3), 1, anyTime))).toMatchObject({
      code: 'INVALID_ARGUMENT',
      field: 'x',
      message: 'model "m": input "x" is FP32 of shape [3, 3]: expected FP32 of shape [2, 1 or more]',
    })
  })
})

test('a run is given the latest deadline of its rows, and stopped when nobody waits for it', async () => {
  const { backend, batcher } = make()
  backend.close()
  const controllers = [new AbortController(), new AbortController()]
  const gone = controllers.map(({ signal }, i) => refusal(batcher.infer(rows(1), 1, { deadlineMs: Date.now() + 60_000 * (i + 1), signal })))
  await begun(backend)
  expect(backend.deadlines[0]! - Date.now()).toBeGreaterThan(100_000)
  controllers[0]!.abort()
  await gone[0]
  expect(backend.signals[0]!.aborted).toBe(false)
  controllers[1]!.abort()
  await gone[1]
  expect(backend.signals[0]!.aborted).toBe(true)
  backend.open()
  await batcher.drain()
})

test('metrics and statistics are the same numbers, and end with the version', async () => {
  const registry = new Registry()
  const metrics = new ModelMetrics(registry)
  const statistics = metrics.of('m', '7')
  const backend = new EchoBackend()
  const batcher = new DynamicBatcher(backend, statistics)
  backend.close()
  const answers = [1, 2, 3].map((count) => batcher.infer(rows(count), count, anyTime))
  await begun(backend)
  const waiting = batcher.infer(rows(4), 4, anyTime)
  const faulty = refusal(batcher.infer(rows(1, 1, -1), 1, anyTime))
  const aborter = new AbortController()
  const aborted = refusal(batcher.infer(rows(1), 1, { deadlineMs: Infinity, signal: aborter.signal }))
  await refusal(batcher.infer(rows(1), 2, anyTime))
  const text = async (): Promise<string> => registry.metrics()
  const labels = '{model="m",version="7"}'
  expect(await text()).toContain(`nv_inference_pending_request_count${labels} 3`)
  aborter.abort()
  await aborted
  expect(await text()).toContain(`spillway_model_queue_rows${labels} 5`)
  backend.open()
  await Promise.all([...answers, waiting])
  await faulty
  const snapshot = statistics.snapshot()
  expect(snapshot).toMatchObject({ inferenceCount: 10n, executionCount: 2n, success: { count: 4n }, fail: { count: 3n } })
  expect(snapshot.batches.map(({ batchSize, computeInfer }) => [batchSize, computeInfer.count])).toEqual([
    [4, 1n],
    [6, 1n],
  ])
  expect(snapshot.queue.ns + snapshot.computeInput.ns + snapshot.computeInfer.ns + snapshot.computeOutput.ns).toBeLessThanOrEqual(
    snapshot.success.ns,
  )
  const scraped = await text()
  for (const line of [
    `nv_inference_request_success${labels} 4`,
    'nv_inference_request_failure{model="m",version="7",reason="REJECTED"} 0',
    'nv_inference_request_failure{model="m",version="7",reason="CANCELED"} 1',
    'nv_inference_request_failure{model="m",version="7",reason="BACKEND"} 1',
    'nv_inference_request_failure{model="m",version="7",reason="OTHER"} 1',
    `nv_inference_count${labels} 10`,
    `nv_inference_exec_count${labels} 2`,
    `nv_inference_request_duration_us${labels} ${Math.round(Number(snapshot.success.ns) / 1000)}`,
    `nv_inference_queue_duration_us${labels} ${Math.round(Number(snapshot.queue.ns) / 1000)}`,
    `nv_inference_compute_infer_duration_us${labels} ${Math.round(Number(snapshot.computeInfer.ns) / 1000)}`,
    `nv_inference_pending_request_count${labels} 0`,
    'spillway_model_requests_total{model="m",version="7",code="OK"} 4',
    'spillway_model_requests_total{model="m",version="7",code="INVALID_ARGUMENT"} 1',
    `spillway_model_batch_rows_bucket{model="m",version="7",le="4"} 1`,
    `spillway_model_batch_rows_sum${labels} 10`,
    `spillway_model_queue_seconds_count${labels} 4`,
  ])
    expect(scraped).toContain(line)
  metrics.forget(statistics)
  expect(await text()).not.toContain('version="7"')
})

test('where spans are recorded a request says how long it waited, with how many it ran and what the run took', async () => {
  const spans: { name: string; attributes: Record<string, unknown>; ended: boolean; status?: unknown }[] = []
  const startSpan = (name: string, { attributes }: { attributes: Record<string, unknown> }): object => {
    const span = { name, attributes: { ...attributes }, ended: false, status: undefined as unknown }
    spans.push(span)
    const api = {
      spanContext: () => ({ traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), traceFlags: 1 }),
      setAttributes: (more: object) => (Object.assign(span.attributes, more), api),
      setAttribute: (key: string, value: unknown) => ((span.attributes[key] = value), api),
      setStatus: (status: unknown) => ((span.status = status), api),
      addEvent: () => api,
      end: () => void (span.ended = true),
    }
    return api
  }
  const links: unknown[] = []
  const startActiveSpan = (_: string, options: { links: unknown[] }, __: unknown, fn: (span: object) => unknown): unknown => {
    links.push(...options.links)
    return fn(startSpan('model run', { attributes: {} }))
  }
  const telemetry = { recording: true, tracer: { startSpan, startActiveSpan } } as unknown as Telemetry
  const { batcher } = make({ telemetry })
  await Promise.all([batcher.infer(rows(1), 1, anyTime), batcher.infer(rows(2), 2, anyTime)])
  const requests = spans.filter(({ name }) => name === 'model infer')
  expect(requests.map(({ attributes }) => attributes['spillway.rows'])).toEqual([1, 2])
  for (const { attributes, ended } of requests) {
    expect(attributes).toMatchObject({ 'spillway.model': 'm', 'spillway.model.version': '1', 'spillway.batch.rows': 3 })
    expect(attributes['spillway.queue.ms']).toBeGreaterThanOrEqual(0)
    expect(attributes['spillway.compute.ms']).toBeGreaterThanOrEqual(0)
    expect(ended).toBe(true)
  }
})
