import { Worker } from 'node:worker_threads'
import { type Tensor, tensor, text, textValues } from '@spillway/core'
import { createTelemetry, type OwnedTelemetry } from '@spillway/telemetry'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import type { Tensors } from '../src/mod.ts'
import { copyRegion, readRegion, regionBytes, writeRegion } from '../src/backends/shared-tensors.ts'
import { WorkerPool } from '../src/backends/worker-pool.ts'

let telemetry: OwnedTelemetry
const open: WorkerPool[] = []

beforeAll(() => {
  telemetry = createTelemetry({ service: 'serving-test', logLevel: 'silent', otlp: false })
})
afterEach(async () => {
  for (const pool of open.splice(0)) await pool.close()
})
afterAll(() => telemetry.shutdown())

const entry = new URL('dying-worker.ts', import.meta.url)

async function start(size: number): Promise<WorkerPool> {
  const pool = new WorkerPool('the echo', size, (control) => new Worker(entry, { workerData: { control } }), telemetry.logger)
  open.push(pool)
  await pool.start()
  return pool
}

const rows = (...values: number[]): Tensors => new Map([['x', tensor('FP32', [values.length, 1], Float32Array.from(values))]])
const valuesOf = (outputs: Tensors): number[] => [...(outputs.get('x')!.data as Float32Array)]

test('parts are run as one, and answered in memory that is the caller’s', async () => {
  const pool = await start(1)
  const { outputs } = await pool.call([rows(1, 2), rows(3)])
  expect(outputs.get('x')!.shape).toEqual([3, 1])
  const later = await pool.call([rows(9, 9, 9)])
  expect(valuesOf(outputs)).toEqual([1, 2, 3])
  expect(valuesOf(later.outputs)).toEqual([9, 9, 9])
  expect((outputs.get('x')!.data as Float32Array).buffer).toBeInstanceOf(ArrayBuffer)
})

test('calls of any size go through, in either direction, one after the other', async () => {
  const pool = await start(2)
  for (const count of [1, 100_000, 7, 400_000, 3]) {
    const values = Array.from({ length: count }, (_, i) => i % 1000)
    expect(valuesOf((await pool.call([rows(...values.slice(0, 5)), rows(1)])).outputs)).toHaveLength(Math.min(count, 5) + 1)
    const x = tensor('FP32', [count, 1], Float32Array.from(values))
    const { outputs } = await pool.call([new Map([['x', x]])])
    expect(outputs.get('x')!.data).toEqual(x.data)
  }
})

test('more calls than workers wait for one', async () => {
  const pool = await start(2)
  const replies = await Promise.all(Array.from({ length: 50 }, (_, i) => pool.call([rows(i)])))
  expect(replies.map(({ outputs }) => valuesOf(outputs)[0])).toEqual(Array.from({ length: 50 }, (_, i) => i))
})

test('replies that come as messages (errors, larger regions) disturb no later call, again and again', async () => {
  const pool = await start(1)
  for (let i = 0; i < 300; i++) {
    await expect(pool.call([rows(Number.NaN)])).rejects.toMatchObject({ code: 'INTERNAL', message: 'not a number' })
    expect(valuesOf((await pool.call([rows(i)])).outputs)).toEqual([i])
    expect(valuesOf((await pool.call([rows(i + 0.5)])).outputs)).toEqual([i + 0.5])
  }
})

test('a worker that dies fails the call in flight with UNAVAILABLE, and is restarted', async () => {
  const pool = await start(1)
  await expect(pool.call([rows(-1)])).rejects.toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('code 3') as string })
  await expect(pool.call([rows(1)])).rejects.toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('the echo') as string })
  const { outputs } = await vi.waitFor(() => pool.call([rows(1)]), { timeout: 10_000, interval: 50 })
  expect(valuesOf(outputs)).toEqual([1])
})

test('tensors of every kind come out of shared memory as they went in', () => {
  const columns = new Map([
    ['a', { datatype: 'BYTES' as const, rowShape: [] }],
    ['b', { datatype: 'INT64' as const, rowShape: [2] }],
    ['c', { datatype: 'UINT8' as const, rowShape: [] }],
    ['d', { datatype: 'FP64' as const, rowShape: [0] }],
  ])
  const part = (seed: number, count: number): Tensors =>
    new Map<string, Tensor>([
      ['a', text(Array.from({ length: count }, (_, i) => 'grün'.repeat((seed + i) % 4)))],
      [
        'b',
        tensor(
          'INT64',
          [count, 2],
          BigInt64Array.from({ length: count * 2 }, (_, i) => BigInt(seed * i) - 2n ** 60n),
        ),
      ],
      [
        'c',
        tensor(
          'UINT8',
          [count],
          Uint8Array.from({ length: count }, (_, i) => seed + i),
        ),
      ],
      ['d', tensor('FP64', [count, 0], new Float64Array(0))],
    ])
  const parts = [part(3, 5), part(7, 0), part(11, 3)]
  const bytes = regionBytes(columns, parts)
  const region = new SharedArrayBuffer(bytes)
  writeRegion(region, columns, parts)
  for (const read of [readRegion(region, columns), copyRegion(region, columns, bytes)]) {
    const [a, b, c, d] = [...read.values()] as [Tensor, Tensor, Tensor, Tensor]
    expect([a.shape, b.shape, c.shape, d.shape]).toEqual([[8], [8, 2], [8], [8, 0]])
    expect(a.datatype === 'BYTES' && textValues(a.data)).toEqual([3, 4, 5, 6, 7, 11, 12, 13].map((count) => 'grün'.repeat(count % 4)))
    expect((b.data as BigInt64Array)[11]).toBe(11n - 2n ** 60n)
    expect([...(c.data as Uint8Array)]).toEqual([3, 4, 5, 6, 7, 11, 12, 13])
  }
})
