import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '@spillway/core'
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { ModelManager } from '../../src/mod.ts'
import { logisticModel, mlpModel, writeModel } from '../onnx-builder.ts'
import { refusal } from '../refusal.ts'
import { ask, eventually, states, TestBed, versionOf, weights } from './served-models.ts'

let bed: TestBed
/** 34 MB of weights: what a load adds to the process is mostly this. */
let large: Uint8Array
beforeAll(() => {
  large = mlpModel([3, 2896, 2896, 1])
})
beforeEach(async () => {
  bed = await TestBed.make()
})
afterEach(() => bed.close())

const loads = (model: string): Promise<number> => bed.metric('spillway_model_loads_total', { model, outcome: 'loaded' })
const unloads = (model: string, reason: string): Promise<number> => bed.metric('spillway_model_unloads_total', { model, reason })

describe('a model that nobody calls', () => {
  class HeldClock implements Clock {
    atMs = 1_000_000
    nowMs(): number {
      return this.atMs
    }
  }

  async function idle(): Promise<{ manager: ModelManager; clock: HeldClock }> {
    const clock = new HeldClock()
    return { clock, manager: await bed.started({ idleUnloadMs: 40, clock }) }
  }

  test('is unloaded, and loaded again when it is called', async () => {
    await bed.write('a', 1)
    await bed.write('b', 1)
    const { manager, clock } = await idle()
    clock.atMs += 39
    await versionOf(manager, 'b')
    clock.atMs += 1
    await eventually(() => states(manager, 'a')).toEqual(['1:END'])
    expect(states(manager, 'b')).toEqual(['1:AVAILABLE'])
    // It can be called: so it is ready, and so is the server.
    expect([manager.isReady('a'), manager.isReady('a', { version: '1' }), manager.isReady('a', { version: '2' }), manager.ready]).toEqual([
      true,
      true,
      false,
      true,
    ])
    expect(await unloads('a', 'idle')).toBe(1)
    expect(await versionOf(manager, 'a')).toBe('1')
    expect(states(manager, 'a')).toEqual(['1:AVAILABLE'])
  })

  test('is loaded once for all who call it at that moment, with its labels and its promoted version', async () => {
    await bed.write('a', 1)
    await bed.write('a', 2)
    const { manager, clock } = await idle()
    await manager.promote('a', '1')
    manager.setLabel('a', 'stable', '1')
    clock.atMs += 40
    await eventually(() => manager.statuses('a').every(({ state }) => state === 'END')).toBe(true)
    const before = await loads('a')
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => versionOf(manager, 'a', [{}, { version: '1' }, { label: 'stable' }, { key: 'k' }][i % 4])),
    )
    expect(new Set(answers)).toEqual(new Set(['1']))
    expect((await loads('a')) - before).toBe(1)
    expect(await refusal(() => manager.acquire('a', { version: '2' }))).toMatchObject({ code: 'NOT_FOUND' })
  })

  test('is waited for by whoever calls it while it is being loaded, and ready meanwhile', async () => {
    await bed.write('a', 1)
    const { manager, clock } = await idle()
    clock.atMs += 40
    await eventually(() => states(manager, 'a')).toEqual(['1:END'])
    const first = versionOf(manager, 'a')
    await eventually(() => states(manager, 'a')).toEqual(['1:LOADING'])
    expect([manager.isReady('a'), manager.ready]).toEqual([true, true])
    expect(await versionOf(manager, 'a')).toBe('1')
    expect(await first).toBe('1')
    expect(await loads('a')).toBe(2)
  })

  test('is not unloaded while somebody has it', async () => {
    await bed.write('a', 1)
    const { manager, clock } = await idle()
    const handle = await manager.acquire('a')
    clock.atMs += 1_000
    const sweeps = performance.now() + 100
    await eventually(() => performance.now() > sweeps).toBe(true)
    expect(states(manager, 'a')).toEqual(['1:AVAILABLE'])
    handle.release()
    await eventually(() => states(manager, 'a')).toEqual(['1:END'])
  })

  test('and that can no longer be loaded says why, and is not loaded anew for each call', async () => {
    const path = await bed.write('a', 1)
    const { manager, clock } = await idle()
    clock.atMs += 40
    await eventually(() => states(manager, 'a')).toEqual(['1:END'])
    await writeFile(path, 'garbage')
    const error = await refusal(() => manager.acquire('a'))
    expect(error).toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/'a' has no available versions: .*model\.onnx/) as string,
    })
    for (let call = 0; call < 5; call++) await refusal(() => manager.acquire('a'))
    expect(await bed.metric('spillway_model_loads_total', { model: 'a', outcome: 'refused' })).toBe(1)
    expect([manager.isReady('a'), manager.ready]).toEqual([false, false])
    await writeFile(path, logisticModel(weights, 1))
    clock.atMs += 1_000
    expect(await versionOf(manager, 'a')).toBe('1')
    expect(manager.ready).toBe(true)
  })

  test('is waited for only so long', async () => {
    await bed.write('a', 1)
    const clock = new HeldClock()
    const manager = await bed.started({ idleUnloadMs: 40, clock, loadWaitMs: 1 })
    clock.atMs += 40
    await eventually(() => states(manager, 'a')).toEqual(['1:END'])
    expect(await refusal(() => manager.acquire('a'))).toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/still being loaded after 1 ms/) as string,
    })
    await eventually(() => states(manager, 'a')).toEqual(['1:AVAILABLE'])
  })
})

describe('a memory budget', () => {
  const megabytes = 1024 * 1024
  const held = async (): Promise<number> => {
    const series = (await bed.telemetry.registry.getSingleMetric('spillway_model_memory_bytes')!.get()).values
    return series.reduce((sum, { value }) => sum + value, 0)
  }

  test('is filled at the start, and then the longest unused model gives way to the one that is called', async () => {
    for (const model of ['a', 'b', 'c']) await writeModel(bed.repository, model, 1, large)
    // Two of them by their files alone: what the process grows by while they are loaded is as chance has it.
    const budget = 150 * megabytes
    // Each look at the clock is later than the one before, as calls seldom are in a test.
    let nowMs = 1_000_000
    const manager = await bed.started({ memoryBudgetBytes: budget, clock: { nowMs: () => nowMs++ }, residentBytes: () => 0 })
    expect([states(manager, 'a'), states(manager, 'b'), states(manager, 'c')]).toEqual([['1:AVAILABLE'], ['1:AVAILABLE'], ['1:END']])
    expect(manager.ready).toBe(true)
    expect(await held()).toBeLessThanOrEqual(budget)
    await ask(manager, 'b')
    await ask(manager, 'a')
    await ask(manager, 'c')
    expect(await unloads('b', 'memory')).toBe(1)
    expect(states(manager, 'b')).toEqual(['1:END'])
    for (const model of ['b', 'c', 'a', 'b']) {
      await ask(manager, model)
      expect(await held()).toBeLessThanOrEqual(budget)
    }
  })

  test('takes nothing from a model that is in use: the call for another is refused until it is not', async () => {
    for (const model of ['a', 'b']) await writeModel(bed.repository, model, 1, large)
    const manager = await bed.started({ memoryBudgetBytes: 125 * megabytes, mode: 'explicit', loadModels: ['a'] })
    const handle = await manager.acquire('a')
    const error = await refusal(() => manager.load('b'))
    expect(error).toMatchObject({
      code: 'RESOURCE_EXHAUSTED',
      message: expect.stringMatching(/model "b" would need about \d+ bytes, and others hold \d+ of the 131072000/) as string,
    })
    expect(states(manager, 'a')).toEqual(['1:AVAILABLE'])
    handle.release()
    await manager.load('b')
    expect([states(manager, 'a'), states(manager, 'b')]).toEqual([['1:END'], ['1:AVAILABLE']])
    // And back, by calling it.
    expect(await versionOf(manager, 'a')).toBe('1')
  })
})

test('what is promoted away frees its memory: 20 promotions leave the process as large as two', async () => {
  for (const version of [1, 2]) await writeModel(bed.repository, 'm', version, large)
  const manager = await bed.started({ listed: [{ name: 'm', basePath: join(bed.repository, 'm'), policy: { kind: 'latest', count: 1 } }] })
  const cycle = async (version: string): Promise<number> => {
    await manager.promote('m', version)
    expect(await versionOf(manager, 'm')).toBe(version)
    await eventually(() => manager.statuses('m').filter(({ state }) => state !== 'END').length).toBe(1)
    return process.memoryUsage.rss()
  }
  const sizes: number[] = []
  for (let promotion = 0; promotion < 20; promotion++) sizes.push(await cycle(promotion % 2 === 0 ? '1' : '2'))
  // Each load takes about 90 MB: kept, they would be 1,700.
  expect(Math.max(...sizes.slice(4)) - Math.max(...sizes.slice(0, 4))).toBeLessThan(200 * 1024 * 1024)
})
