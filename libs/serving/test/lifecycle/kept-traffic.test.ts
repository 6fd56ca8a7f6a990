import { existsSync } from 'node:fs'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type ModelManager, type ModelManagerOptions, TrafficFile } from '../../src/mod.ts'
import { refusal } from '../refusal.ts'
import { states, TestBed, versionOf } from './served-models.ts'

describe('what was chosen for a model, where it is kept', () => {
  let bed: TestBed
  let path: string

  beforeEach(async () => {
    bed = await TestBed.make()
    path = join(bed.repository, '.state.json')
    for (const version of [1, 2, 3]) await bed.write('m', version)
  })
  afterEach(() => bed.close())

  const all = 'version_policy { all {} }'
  /** A process after the other, on one file. */
  const start = (options: Partial<ModelManagerOptions> = {}): Promise<ModelManager> =>
    bed.started({ keptTraffic: TrafficFile.open(path), ...options })

  it('is a promotion, until the newest is followed again', async () => {
    const first = await start()
    expect(await versionOf(first, 'm')).toBe('3')
    await first.promote('m', '2')
    await first.drain()
    await bed.write('m', 4)
    const second = await start()
    expect([await versionOf(second, 'm'), states(second, 'm')]).toEqual(['2', ['2:AVAILABLE']])
    await second.promote('m', 'latest')
    await second.drain()
    const third = await start()
    expect(await versionOf(third, 'm')).toBe('4')
    expect(JSON.parse(await readFile(path, 'utf8'))).toEqual({ models: {} })
  })

  it('is labels and traffic, with the versions that they name', async () => {
    await writeFile(join(bed.repository, 'm', 'config.pbtxt'), all)
    const first = await start()
    first.setLabel('m', 'canary', '3')
    first.setLabel('m', 'stable', '1')
    const traffic = { split: [{ to: 'label:canary', weight: 1 }], shadow: { to: '2', fraction: 0.5 } }
    first.setTraffic('m', traffic)
    await first.drain()
    // The policy alone would have the newest only.
    await rm(join(bed.repository, 'm', 'config.pbtxt'))
    await bed.write('m', 4)
    const second = await start()
    expect(states(second, 'm')).toEqual(['4:AVAILABLE', '3:AVAILABLE', '2:AVAILABLE', '1:AVAILABLE'])
    expect(second.labels('m')).toEqual(
      new Map([
        ['canary', '3'],
        ['stable', '1'],
      ]),
    )
    expect(second.traffic('m')).toEqual(traffic)
    expect([await versionOf(second, 'm'), await versionOf(second, 'm', { label: 'stable' })]).toEqual(['3', '1'])
    second.setLabel('m', 'stable', undefined)
    second.setTraffic('m', { split: [] })
    await second.drain()
    const third = await start()
    expect([third.labels('m'), third.traffic('m')]).toEqual([new Map([['canary', '3']]), { split: [] }])
  })

  it('goes before what a list of models says, until that says another', async () => {
    const listed = (version: string): Partial<ModelManagerOptions> => ({
      listed: [{ name: 'l', basePath: join(bed.repository, 'm'), policy: { kind: 'all' }, labels: new Map([['stable', version]]) }],
    })
    const stable = async (version: string): Promise<[ModelManager, string]> => {
      const manager = await start(listed(version))
      return [manager, await versionOf(manager, 'l', { label: 'stable' })]
    }
    const [first, at1] = await stable('1')
    first.setLabel('l', 'stable', '2')
    await first.drain()
    const [second, at2] = await stable('1')
    await second.drain()
    const [, at3] = await stable('3')
    expect([at1, at2, at3]).toEqual(['1', '2', '3'])
  })

  it('is left aside where its version is no longer there', async () => {
    const first = await start()
    await first.promote('m', '2')
    first.setLabel('m', 'good', '2')
    await first.drain()
    await rm(join(bed.repository, 'm', '2'), { recursive: true })
    const second = await start()
    expect([await versionOf(second, 'm'), second.labels('m')]).toEqual(['3', new Map()])
    expect((await refusal(() => second.acquire('m', { label: 'good' }))).code).toBe('FAILED_PRECONDITION')
  })

  it.each([
    ['{', /\.state\.json: this is not as the service wrote it: .*JSON/],
    ['{"models": {"m": {"labels": {}, "heeded": {}, "traffic": {"split": []}, "promoted": 3}}}', /models\.m\.promoted/],
    [
      '{"models": {"m": {"labels": {"a": "x"}, "heeded": {}, "traffic": {"split": []}}}}',
      /expected a version as text, as "3".*models\.m\.labels\.a/,
    ],
    ['{"models": {"m": {"labels": {}, "heeded": {}, "traffic": {"split": [{"to": "1", "weight": -1}]}}}}', /split\[0\]\.weight/],
  ])('%s is refused', async (text, message) => {
    await writeFile(path, text)
    expect(() => TrafficFile.open(path)).toThrow(message)
  })

  it('is said not to be safe where it cannot be written, at the start and later', async () => {
    expect(() => TrafficFile.open(join(bed.repository, 'none', 'state.json'))).toThrow(/none\/state\.json: .* cannot be kept: ENOENT/)
    const manager = await start({ keptTraffic: TrafficFile.open(join(bed.repository, 'm', '1', 'state.json')) })
    await rm(join(bed.repository, 'm', '1'), { recursive: true })
    expect(await refusal(() => manager.promote('m', '2'))).toMatchObject({ code: 'UNAVAILABLE' })
    expect(await versionOf(manager, 'm')).toBe('2')
  })

  it('needs no place before there is a choice to keep, where its file may begin later', async () => {
    const later = join(bed.repository, '.data', 'of', 'state.json')
    const first = await start({ keptTraffic: TrafficFile.openLater(later) })
    expect(existsSync(join(bed.repository, '.data'))).toBe(false)
    await first.promote('m', '2')
    await first.drain()
    const second = await start({ keptTraffic: TrafficFile.openLater(later) })
    expect(await versionOf(second, 'm')).toBe('2')
    await writeFile(later, '{}')
    expect(() => TrafficFile.openLater(later)).toThrow(/this is not as the service wrote it/)
  })
})
