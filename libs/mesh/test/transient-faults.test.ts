import { type Batch, type Code, MeshError, type Runner, type RunResult, type StageContext } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { TransientFaults } from '../src/transient-faults.ts'
import { rows, telemetry } from './fixture.ts'

const context: StageContext = { signal: new AbortController().signal, mode: 'stream' }
const ids = (count: number): string[] => Array.from({ length: count }, (_, i) => `row-${i}`)

/** Answers batches unless the function gives the code with which they fail. */
function faulty(code: (batch: Batch) => Code | undefined): { readonly runner: Runner; readonly calls: () => number } {
  let calls = 0
  const run = async (batch: Batch): Promise<RunResult> => {
    calls++
    const failed = code(batch)
    if (failed !== undefined) throw new MeshError(failed, 'the model is away')
    return { outputs: new Map([['out', batch]]), failures: [] }
  }
  return { runner: { run }, calls: () => calls }
}

/** As the bus does it: the same rows again until they are answered. */
async function offered(runner: Runner, batch: Batch, limit: number, faults = new TransientFaults(telemetry.logger)): Promise<RunResult> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await faults.run({ batch, stage: 'stage', runner, context })
    } catch (thrown) {
      if (attempt === limit) throw thrown
    }
  }
}

describe('a transient failure', () => {
  test('of all rows is an outage: the slice is offered again, none of it is given up', async () => {
    let away = true
    const { runner } = faulty(() => (away ? 'UNAVAILABLE' : undefined))
    const faults = new TransientFaults(telemetry.logger)
    await expect(offered(runner, rows(ids(100)), 50, faults)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    away = false
    const { outputs, failures } = await offered(runner, rows(ids(100)), 1, faults)
    expect([outputs.get('out')!.rowCount, failures]).toEqual([100, []])
  })

  test('that its error calls an outage is nobody’s, though a row that needs nothing of what is away is answered meanwhile', async () => {
    let away = false
    const run = async (batch: Batch): Promise<RunResult> => {
      if (away && !batch.meta.ids.includes('cached')) throw new MeshError('UNAVAILABLE', 'the store is away', { isOutage: true })
      return { outputs: new Map([['out', batch]]), failures: [] }
    }
    const faults = new TransientFaults(telemetry.logger)
    await offered({ run }, rows(['cached']), 1, faults)
    away = true
    await expect(offered({ run }, rows(ids(20)), 50, faults)).rejects.toMatchObject({ isOutage: true })
    await expect(offered({ run }, rows(['alone']), 50, faults)).rejects.toMatchObject({ isOutage: true })
    away = false
    expect((await offered({ run }, rows(ids(20)), 1, faults)).failures).toEqual([])
  })

  test('of an outage with rows answered before costs one row an attempt', async () => {
    const faults = new TransientFaults(telemetry.logger)
    let away = false
    const { runner, calls } = faulty(() => (away ? 'UNAVAILABLE' : undefined))
    await offered(runner, rows(ids(10)), 1, faults)
    away = true
    await expect(offered(runner, rows(ids(100)), 5, faults)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    expect(calls()).toBeLessThanOrEqual(1 + 4 + 20)
  })

  test('of one row is found in the slice: it is a dead letter with its code, the others are answered in order', async () => {
    const { runner } = faulty((batch) => (batch.meta.ids.includes('row-77') ? 'DEADLINE_EXCEEDED' : undefined))
    const { outputs, failures } = await offered(runner, rows(ids(1000)), 5)
    expect(outputs.get('out')!.meta.ids).toEqual(ids(1000).filter((id) => id !== 'row-77'))
    expect(failures.map(({ stage, batch }) => [stage, batch.meta.ids])).toEqual([['stage', ['row-77']]])
    expect(failures[0]!.errors[0]).toMatchObject({ code: 'DEADLINE_EXCEEDED', message: expect.stringContaining('3 times alone') as string })
  })

  test('of a row that takes the model down with it: the good row is waited for each time', async () => {
    let downUntilMs = 0
    const { runner } = faulty((batch) => {
      if (performance.now() < downUntilMs) return 'UNAVAILABLE'
      if (!batch.meta.ids.includes('row-3')) return undefined
      downUntilMs = performance.now() + 120
      return 'UNAVAILABLE'
    })
    const faults = new TransientFaults(telemetry.logger)
    await offered(runner, rows(['before']), 1, faults)
    const { outputs, failures } = await offered(runner, rows(ids(20)), 1000, faults)
    expect(outputs.get('out')!.rowCount).toBe(19)
    expect(failures.flatMap(({ batch }) => batch.meta.ids)).toEqual(['row-3'])
  })

  test('of the only row of a slice is its own only where another row is answered meanwhile', async () => {
    const { runner } = faulty((batch) => (batch.meta.ids.includes('bad') ? 'UNAVAILABLE' : undefined))
    await expect(offered(runner, rows(['bad']), 20)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    const faults = new TransientFaults(telemetry.logger)
    await offered(runner, rows(['good']), 1, faults)
    expect((await offered(runner, rows(['bad']), 5, faults)).failures).toHaveLength(1)
  })

  test('that is permanent is thrown as it is', async () => {
    const { runner } = faulty(() => 'INTERNAL')
    await expect(offered(runner, rows(ids(10)), 20)).rejects.toMatchObject({ code: 'INTERNAL' })
  })
})
