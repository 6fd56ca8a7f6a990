import { join } from 'node:path'
import { type Tensor, tensor } from '@spillway/core'
import { GrpcChannel, GrpcServer } from '@spillway/rpc'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { inferenceService, LocalModelClient, type ModelManager, OipModelClient, type Tensors } from '../../src/mod.ts'
import { EvenFractions, shadowStep } from '../../src/traffic/split.ts'
import { logistic, logisticModel, mlpModel, onnxModel, writeModel } from '../onnx-builder.ts'
import { refusal } from '../refusal.ts'
import { eventually, signal, states, TestBed, versionOf, weights } from './served-models.ts'

let bed: TestBed
let manager: ModelManager
beforeEach(async () => {
  bed = await TestBed.make()
  for (const version of [1, 2, 3]) await bed.write('a', version)
  const listed = [{ name: 'a', basePath: join(bed.repository, 'a'), policy: { kind: 'latest' as const, count: 2 } }]
  manager = await bed.started({ listed })
})
afterEach(() => bed.close())

/** How often each version answered. */
async function answers(count: number, key?: (call: number) => string): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (let call = 0; call < count; call++) {
    const version = await versionOf(manager, 'a', key === undefined ? {} : { key: key(call) })
    counts[version] = (counts[version] ?? 0) + 1
  }
  return counts
}

describe('labels', () => {
  test('stand for loaded versions, and are moved and taken away', async () => {
    manager.setLabel('a', 'stable', '2')
    manager.setLabel('a', 'canary', '3')
    expect(await versionOf(manager, 'a', { label: 'stable' })).toBe('2')
    expect([...manager.labels('a')]).toEqual([
      ['stable', '2'],
      ['canary', '3'],
    ])
    manager.setLabel('a', 'stable', '3')
    expect(await versionOf(manager, 'a', { label: 'stable' })).toBe('3')
    manager.setLabel('a', 'canary', undefined)
    expect(await refusal(() => manager.acquire('a', { label: 'canary' }))).toMatchObject({ code: 'FAILED_PRECONDITION' })
    expect(manager.isReady('a', { label: 'canary' })).toBe(false)
  })

  test('are refused where the version is not loaded', async () => {
    expect(await refusal(() => manager.setLabel('a', 'old', '1'))).toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: 'model "a": 1 is not loaded: its loaded versions are 3, 2',
    })
  })

  test('keep their versions loaded, until they are taken away', async () => {
    manager.setLabel('a', 'stable', '2')
    await manager.promote('a', '1')
    await eventually(() => states(manager, 'a')).toEqual(['3:AVAILABLE', '2:AVAILABLE', '1:AVAILABLE'])
    manager.setLabel('a', 'stable', undefined)
    await eventually(() => states(manager, 'a')).toEqual(['3:AVAILABLE', '2:END', '1:AVAILABLE'])
  })
})

describe('a split', () => {
  test('gives each version its part of the calls without a key, and the metrics say which', async () => {
    manager.setTraffic('a', {
      split: [
        { to: '2', weight: 3 },
        { to: '3', weight: 1 },
      ],
    })
    const counts = await answers(100)
    expect(Math.abs(counts['2']! - 75)).toBeLessThan(3)
    const answered = (version: string): bigint => manager.statistics('a', version)[0]!.inferenceCount
    expect([answered('2'), answered('3')]).toEqual([BigInt(counts['2']!), BigInt(counts['3']!)])
    expect(await bed.metric('spillway_model_traffic_share', { model: 'a', version: '2' })).toBe(0.75)
    expect(await bed.metric('nv_inference_count', { model: 'a', version: '3' })).toBe(counts['3'])
  })

  test('gives a key to one version, also after a restart', async () => {
    const traffic = {
      split: [
        { to: '2', weight: 50 },
        { to: '3', weight: 50 },
      ],
    }
    manager.setTraffic('a', traffic)
    const placed = async (models: ModelManager): Promise<string[]> =>
      Promise.all(Array.from({ length: 40 }, (_, i) => versionOf(models, 'a', { key: `card-${i}` })))
    const first = await placed(manager)
    expect(new Set(first)).toEqual(new Set(['2', '3']))
    expect(await placed(manager)).toEqual(first)
    const again = await bed.started({ listed: [{ name: 'a', basePath: join(bed.repository, 'a'), policy: { kind: 'latest', count: 2 } }] })
    again.setTraffic('a', traffic)
    expect(await placed(again)).toEqual(first)
  })

  test('places each row of a batch by its own key, in this process and behind gRPC, and says which version answered it', async () => {
    const server = new GrpcServer({ host: '127.0.0.1', port: 0, services: [inferenceService(manager)], telemetry: bed.telemetry })
    await server.start(signal)
    const remote = new OipModelClient(new GrpcChannel({ address: `127.0.0.1:${server.port}`, telemetry: bed.telemetry }))
    onTestFinished(async () => {
      await remote.drain()
      await server.drain()
    })
    const keys = Array.from({ length: 60 }, (_, row) => `card-${row % 30}`)
    const rows = Float32Array.from({ length: keys.length * 3 }, (_, i) => Math.sin(Math.floor(i / 3)))
    const inputs: Tensors = new Map<string, Tensor>([['features', tensor('FP32', [keys.length, 3], rows)]])
    const call = { model: 'a', inputs, rowCount: keys.length, keys, deadlineMs: Infinity, signal }
    for (const client of [new LocalModelClient(manager), remote]) {
      expect(await client.infer(call)).toMatchObject({ version: '3' })
      manager.setTraffic('a', {
        split: [
          { to: '2', weight: 50 },
          { to: '3', weight: 50 },
        ],
      })
      const expected = await Promise.all(keys.map((key) => versionOf(manager, 'a', { key })))
      expect(new Set(expected)).toEqual(new Set(['2', '3']))
      const { rowVersions, version, outputs } = await client.infer(call)
      expect(rowVersions).toEqual(expected)
      expect([version, [...outputs.keys()]]).toEqual([expected[0], ['score']])
      const scores = [...(outputs.get('score')!.data as Float32Array)]
      // Each row's answer is that of its version: its bias.
      for (const [row, score] of scores.entries())
        expect(score).toBeCloseTo(logistic(weights, Number(expected[row]), [...rows.subarray(row * 3, row * 3 + 3)]), 5)
      manager.setTraffic('a', { split: [] })
      expect((await client.infer(call)).version).toBe('3')
      expect((await client.infer(call)).rowVersions).toBeUndefined()
    }
  })

  test('follows a label, leaves named versions alone, and ends with a promotion', async () => {
    manager.setLabel('a', 'canary', '2')
    manager.setTraffic('a', { split: [{ to: 'label:canary', weight: 1 }] })
    expect(await answers(5)).toEqual({ 2: 5 })
    expect(await versionOf(manager, 'a', { version: '3' })).toBe('3')
    manager.setLabel('a', 'canary', '3')
    expect(await answers(5)).toEqual({ 3: 5 })
    await manager.promote('a', '2')
    expect(await answers(5)).toEqual({ 2: 5 })
    expect(manager.traffic('a').split).toEqual([])
  })

  test('that cannot be is refused, and what was goes on', async () => {
    manager.setTraffic('a', { split: [{ to: '2', weight: 1 }] })
    expect(await refusal(() => manager.setTraffic('a', { split: [{ to: '1', weight: 1 }] }))).toMatchObject({
      code: 'FAILED_PRECONDITION',
      field: 'split[0].to',
    })
    expect(await refusal(() => manager.setTraffic('a', { split: [{ to: '2', weight: -1 }] }))).toMatchObject({ code: 'INVALID_ARGUMENT' })
    expect(await refusal(() => manager.setTraffic('a', { split: [], shadow: { to: 'label:x', fraction: 1 } }))).toMatchObject({
      code: 'FAILED_PRECONDITION',
    })
    expect(await answers(3)).toEqual({ 2: 3 })
  })
})

describe('a shadow', () => {
  const copies = (outcome: string, version = '2'): Promise<number> =>
    bed.metric('spillway_model_shadow_calls_total', { model: 'a', version, outcome })

  test('is given copies, and its differing answers are counted, not given', async () => {
    manager.setTraffic('a', { split: [], shadow: { to: '2', fraction: 0.5 } })
    expect(await answers(40)).toEqual({ 3: 40 })
    const fractions = new EvenFractions(shadowStep)
    const copied = Array.from({ length: 40 }, () => fractions.next()).filter((fraction) => fraction < 0.5).length
    expect(Math.abs(copied - 20)).toBeLessThanOrEqual(1)
    await eventually(() => copies('different')).toBe(copied)
    expect(manager.statistics('a', '2')[0]!.inferenceCount).toBe(BigInt(copied))
    expect(await bed.metric('spillway_model_shadow_different_rows_total', { model: 'a', version: '2' })).toBe(await copies('different'))
    manager.setTraffic('a', { split: [] })
    await answers(10)
    expect(await copies('different')).toBe(copied)
  })

  test('that says the same is counted so', async () => {
    await writeModel(bed.repository, 'a', 4, logisticModel([0.5, -1, 2], 3))
    await manager.promote('a', '4')
    await eventually(() => states(manager, 'a')[0]).toBe('4:AVAILABLE')
    manager.setTraffic('a', { split: [], shadow: { to: '3', fraction: 1 } })
    for (let call = 0; call < 5; call++) expect(await versionOf(manager, 'a')).toBe('4')
    await eventually(() => copies('same', '3')).toBe(5)
  })

  test('that fails fails nobody, and its copies are bounded', async () => {
    // Each look-up beyond its table of one entry fails; the served one has ten.
    const table = (size: number): Uint8Array =>
      onnxModel({
        inputs: [{ name: 'index', datatype: 'INT64', shape: ['rows'] }],
        outputs: [{ name: 'value', datatype: 'FP32', shape: ['rows'] }],
        initializers: [{ name: 'table', shape: [size], data: new Float32Array(size) }],
        nodes: [{ op: 'Gather', inputs: ['table', 'index'], outputs: ['value'] }],
      })
    await writeModel(bed.repository, 'look-up', 1, table(1))
    await writeModel(bed.repository, 'look-up', 2, table(10))
    const models = await bed.started({
      listed: [{ name: 'look-up', basePath: join(bed.repository, 'look-up'), policy: { kind: 'all' } }],
      models: ['look-up'],
    })
    models.setTraffic('look-up', { split: [], shadow: { to: '1', fraction: 1 } })
    const call = async (): Promise<void> => {
      const handle = await models.acquire('look-up')
      try {
        await handle.infer(new Map([['index', tensor('INT64', [1], BigInt64Array.of(7n))]]), 1, { deadlineMs: Infinity, signal })
      } finally {
        handle.release()
      }
    }
    await Promise.all(Array.from({ length: 1_000 }, call))
    const count = (outcome: string): Promise<number> =>
      bed.metric('spillway_model_shadow_calls_total', { model: 'look-up', version: '1', outcome })
    await eventually(async () => (await count('failed')) + (await count('dropped'))).toBe(1_000)
    expect(await count('dropped')).toBeGreaterThan(0)
  })

  test('is asked when the caller has its answer', async () => {
    await writeModel(bed.repository, 'm', 1, mlpModel([3, 1024, 1024, 1]))
    await writeModel(bed.repository, 'm', 2, mlpModel([3, 4, 1]))
    const models = await bed.started({
      listed: [{ name: 'm', basePath: join(bed.repository, 'm'), policy: { kind: 'all' } }],
      models: ['m'],
    })
    models.setTraffic('m', { split: [], shadow: { to: '1', fraction: 1 } })
    const shadowed = (): bigint => models.statistics('m', '1')[0]!.inferenceCount
    expect(await versionOf(models, 'm')).toBe('2')
    expect(shadowed()).toBe(0n)
    await eventually(shadowed).toBe(1n)
  })
})
