import { EmbeddedBus, type Slice } from '@spillway/bus'
import { type Batch, bytesAt, MeshError } from '@spillway/core'
import { createMeshMetrics, createTelemetry } from '@spillway/telemetry'
import { decodeFrame } from '@spillway/wire'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { CallLog } from '../src/call-log.ts'
import { never, rows } from './fixture.ts'

const frame = { schema: 's', release: 'r', target: 'feature-log' }
const vectors = (count: number): Batch => rows(Array.from({ length: count }, (_, row) => `e${row}`))

let bus: EmbeddedBus
beforeEach(async () => {
  bus = new EmbeddedBus({ path: ':memory:' })
  await bus.start(never)
  await bus.topics.ensure([{ name: 'log', partitions: 1 }])
})
afterEach(() => bus.drain())

function logTo(target: EmbeddedBus): { log: CallLog; dropped: () => Promise<number>; warnings: string[] } {
  const { registry, logger } = createTelemetry({ service: 'test', logLevel: 'silent', otlp: false })
  const warnings: string[] = []
  vi.spyOn(logger, 'warn').mockImplementation((_fields: unknown, message?: string) => void warnings.push(message!))
  const log = new CallLog({ bus: target, topic: 'log', frame, logger, metrics: createMeshMetrics(registry) })
  const dropped = async (): Promise<number> => {
    const metric = await registry.getSingleMetric('spillway_feature_log_dropped_rows_total')!.get()
    return metric.values[0]!.value
  }
  return { log, dropped, warnings }
}

async function loggedRows(): Promise<number> {
  const [{ end } = { end: 0n }] = await bus.topics.offsets('log')
  if (end === 0n) return 0
  let count = 0
  const add = (slice: Slice): void => {
    for (let record = 0; record < slice.records.count; record++) count += decodeFrame(bytesAt(slice.records.values, record)).batch.rowCount
  }
  for await (const slice of bus.subscribe({ topic: 'log', from: 'earliest', maxSliceRecords: 1000, signal: AbortSignal.timeout(5000) })) {
    add(slice)
    if (slice.offsets.at(-1)! + 1n >= end) break
  }
  return count
}

test('publishes what calls were served, many in one record, and the last of it when it is drained', async () => {
  const { log, dropped } = logTo(bus)
  await log.start()
  for (let call = 0; call < 50; call++) log.offer(vectors(2))
  await expect.poll(loggedRows).toBe(100)
  expect((await bus.topics.offsets('log'))[0]!.end).toBeLessThan(10n)
  log.offer(vectors(3))
  await log.drain()
  await log.drain()
  expect([await loggedRows(), await dropped()]).toEqual([103, 0])
})

test('drops and counts what there is no room for while the bus is away, and keeps what waits', async () => {
  let away = true
  class Away extends EmbeddedBus {
    override publish(...args: Parameters<EmbeddedBus['publish']>): ReturnType<EmbeddedBus['publish']> {
      return away ? Promise.reject(new MeshError('UNAVAILABLE', 'the broker is away')) : bus.publish(...args)
    }
  }
  const { log, dropped, warnings } = logTo(new Away({ path: ':memory:' }))
  await log.start()
  for (let call = 0; call < 12; call++) log.offer(vectors(1000))
  expect(await dropped()).toBe(2000)
  // The reason is told while it can still be mended, once.
  await expect.poll(() => warnings, { timeout: 5000 }).toContain('the feature log cannot be written: trying again')
  away = false
  await expect.poll(loggedRows, { timeout: 5000 }).toBe(10_000)
  await log.drain()
  log.offer(vectors(1))
  expect(await dropped()).toBe(2001)
  expect(warnings).toHaveLength(2)
})
