import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createTelemetry, type OwnedTelemetry } from '@spillway/telemetry'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type ModelManager, repositoryIndex } from '../../src/mod.ts'
import { refusal } from '../refusal.ts'
import { ask, eventually, signal, states, TestBed } from './served-models.ts'

let bed: TestBed
let log: { readonly level: string; readonly msg: string; readonly version?: string; readonly err?: { readonly message: string } }[]
let telemetry: OwnedTelemetry
beforeEach(async () => {
  bed = await TestBed.make()
  log = []
  const logDestination = { write: (line: string) => void log.push(JSON.parse(line) as (typeof log)[number]) }
  telemetry = createTelemetry({ service: 'refused-test', logLevel: 'info', otlp: false, logDestination })
})
afterEach(async () => {
  await bed.close()
  await telemetry.shutdown()
})

/** What the log says of versions that were refused: the version, and why. */
const logged = (): readonly string[] =>
  log.filter(({ msg }) => msg === 'a model version is refused').map(({ version, err }) => `${version}: ${err?.message}`)

const reasons = (manager: ModelManager): readonly string[] =>
  repositoryIndex(manager, false).map(({ name, version, state, reason }) => `${name} ${version} ${state} ${reason}`)

const config = async (model: string, text: string): Promise<void> => {
  await mkdir(join(bed.repository, model), { recursive: true })
  await writeFile(join(bed.repository, model, 'config.pbtxt'), text)
}

/** A model of a module in this thread, whose run fails in its warm-up. */
async function failing(failure: string, more = ''): Promise<void> {
  const warmUp = 'model_warmup { name: "w" batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: 1 zero_data: true } } }'
  await config('m', `backend: "module" parameters { key: "thread" value { string_value: "main" } } ${warmUp}`)
  await mkdir(join(bed.repository, 'm', '1'))
  const tensor = `{ x: { datatype: 'FP32', dims: [1] } }`
  await writeFile(
    join(bed.repository, 'm', '1', 'model.ts'),
    `export const inputs = ${tensor}; export const outputs = ${tensor}; export const run = () => { throw ${failure} }; ${more}`,
  )
}

describe('why a version is not served', () => {
  test('is said also where what was begun of it cannot be ended', async () => {
    await failing(`new Error('no table')`, `export const stop = () => { throw new Error('nothing to stop') }`)
    const manager = await bed.started({ telemetry, exitOnError: false })
    expect(manager.statuses('m')[0]?.error?.message).toMatch(/no table/)
    expect(reasons(manager)).toEqual([expect.stringMatching(/^m 1 UNAVAILABLE .*no table/)])
    expect(log).toContainEqual(
      expect.objectContaining({
        level: 'error',
        err: expect.objectContaining({ message: expect.stringMatching(/no table/) as unknown }) as unknown,
      }),
    )
    expect(log).toContainEqual(
      expect.objectContaining({ level: 'warn', err: expect.objectContaining({ message: 'nothing to stop' }) as unknown }),
    )
  })

  test('is said of each version where the start ends by them', async () => {
    await config('m', 'version_policy { all {} }')
    for (const version of [1, 2]) {
      await mkdir(join(bed.repository, 'm', String(version)))
      await writeFile(join(bed.repository, 'm', String(version), 'model.onnx'), version === 1 ? '' : 'no model')
    }
    const error = await refusal(() => bed.manager({ telemetry }).start(signal))
    expect(error.message).toMatch(/m\/2\/model\.onnx/)
    // That of the newest ends the start, and is said by whoever started.
    expect(logged()).toEqual([expect.stringMatching(/^1: .*m\/1\/model\.onnx is empty/)])
  })

  test('is said of one that waits for a call since there is no room for it', async () => {
    for (const model of ['a', 'b']) await bed.write(model, 1)
    const manager = await bed.started({ telemetry, memoryBudgetBytes: 100, residentBytes: () => 0 })
    const why = /model "a" would need about \d+ bytes, and others hold 0 of the 100 that models may have/
    expect([manager.ready, reasons(manager)[0]]).toEqual([true, expect.stringMatching(/^a 1 UNAVAILABLE model "a" would need/)])
    expect(manager.statuses('a')[0]?.error?.message).toMatch(why)
    expect(log).toContainEqual(expect.objectContaining({ model: 'a', reason: expect.stringMatching(why) as unknown }))
  })
})

describe('why a model is not served', () => {
  const none = /model "m" has version 2, 1, and its version policy names 7$/

  test('is that its policy names none of its versions: at the start, and when it is loaded', async () => {
    for (const version of [1, 2]) await bed.write('m', version)
    await config('m', 'version_policy { specific { versions: [7] } }')
    expect(await refusal(() => bed.manager({ telemetry }).start(signal))).toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringMatching(none) as unknown,
    })
    const manager = await bed.started({ telemetry, mode: 'explicit' })
    expect(await refusal(() => manager.load('m'))).toMatchObject({ code: 'NOT_FOUND', message: expect.stringMatching(none) as unknown })
  })

  test('is that, or what else is wrong with it, while it is waited for', async () => {
    await bed.write('m', 1)
    await bed.write('n', 1)
    const manager = await bed.started({ telemetry, mode: 'poll' })
    await config('m', 'version_policy { specific { versions: [7] } }')
    await eventually(() => states(manager, 'm')).toEqual(['1:END'])
    expect(manager.problem('m')?.message).toMatch(/has version 1, and its version policy names 7$/)
    expect(log.filter(({ msg }) => msg === 'a model is not served any more')).toHaveLength(1)
    expect(await refusal(() => manager.acquire('m'))).toMatchObject({ message: expect.stringMatching(/policy names 7$/) as unknown })
    await config('n', 'nonsense: 1')
    await eventually(() => manager.problem('n')?.message).toMatch(/n\/config\.pbtxt: line 1.*nonsense/)
    expect(states(manager, 'n')).toEqual(['1:AVAILABLE'])
    await config('n', '')
    await eventually(() => manager.problem('n')).toBe(undefined)
  })

  test('is in the index, of a model of which nothing was ever loaded', async () => {
    await bed.write('n', 1)
    await config('n', 'nonsense: 1')
    const manager = await bed.started({ telemetry, exitOnError: false })
    expect(reasons(manager)).toEqual([expect.stringMatching(/^n {2}UNAVAILABLE .*n\/config\.pbtxt: line 1.*nonsense/)])
  })
})

describe('a load request that is refused', () => {
  test('leaves the model as it was', async () => {
    await config('m', 'version_policy { all {} }')
    for (const version of [1, 2, 3]) await bed.write('m', version)
    const manager = await bed.started({ telemetry, mode: 'explicit', loadModels: ['m'] })
    const content = await readFile(join(bed.repository, 'm', '1', 'model.onnx'))
    const refusals = [
      { files: new Map([['1/model.onnx', content.subarray(0, 50)]]), config: '{}' },
      { files: new Map([['4/model.onnx', content.subarray(0, 50)]]), config: '{}' },
      {
        files: new Map([
          ['2/model.onnx', content.subarray(0, 50)],
          ['5/model.onnx', content],
        ]),
        config: '{"version_policy": {"all": {}}}',
      },
      { config: '{"version_policy": {"specific": {"versions": [7]}}}' },
      { config: '{"input": [{"name": "features", "data_type": "TYPE_FP64", "dims": [3]}]}' },
    ]
    for (const overrides of refusals) {
      expect(await refusal(() => manager.load('m', overrides))).toBeDefined()
      expect(states(manager, 'm').filter((state) => state.endsWith(':AVAILABLE'))).toEqual(['3:AVAILABLE', '2:AVAILABLE', '1:AVAILABLE'])
      for (const version of [1, 2, 3])
        expect((await ask(manager, 'm', { version: String(version) })).score).toBeCloseTo(1 / (1 + Math.exp(-version)))
      expect((await ask(manager, 'm')).version).toBe('3')
    }
    await manager.promote('m', '2')
    expect((await ask(manager, 'm')).version).toBe('2')
    await manager.load('m', { files: new Map([['9/model.onnx', content]]), config: '{}' })
    expect((await ask(manager, 'm')).version).toBe('9')
  })
})
