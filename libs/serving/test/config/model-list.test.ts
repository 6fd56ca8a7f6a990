import { join } from 'node:path'
import { rm, writeFile } from 'node:fs/promises'
import { createTelemetry } from '@spillway/telemetry'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parseModelList } from '../../src/config/parse-model-list.ts'
import { CombinedSource, DirectorySource, ModelListSource } from '../../src/mod.ts'
import { refusal } from '../refusal.ts'
import { eventually, states, TestBed, versionOf } from '../lifecycle/served-models.ts'

describe("TensorFlow Serving's list of models", () => {
  it('is read', () => {
    const { models, warnings } = parseModelList(
      `model_config_list: {
        config: { name: "digits" base_path: "/models/digits" model_platform: "tensorflow" }
        config {
          name: "fraud"  base_path: "fraud"  model_platform: "onnx"
          model_version_policy { specific { versions: 42 versions: 43 } }
          version_labels { key: "stable" value: 42 }
          version_labels: { key: 'canary', value: 43 }
          logging_config { sampling_config { sampling_rate: 0.1 } }
        }
        config { name: "all" base_path: "../all" model_version_policy { all {} } }
        config { name: "two" base_path: "/two/" model_version_policy { latest { num_versions: 2 } } model_type: TENSORFLOW }
      }`,
      '/etc/serving',
    )
    expect(models).toEqual([
      { name: 'digits', basePath: '/models/digits' },
      {
        name: 'fraud',
        basePath: '/etc/serving/fraud',
        policy: { kind: 'specific', versions: ['42', '43'] },
        labels: new Map([
          ['stable', '42'],
          ['canary', '43'],
        ]),
      },
      { name: 'all', basePath: '/etc/all', policy: { kind: 'all' } },
      { name: 'two', basePath: '/two', policy: { kind: 'latest', count: 2 } },
    ])
    expect(warnings).toEqual([expect.stringMatching(/^line 8, column 11: .*config\[1\]\.logging_config = \{ … \} has no effect/)])
  })

  it.each([
    ['', 'model_config_list', /model_config_list is missing/],
    ['model_config_list { config { name: "a" } }', 'model_config_list.config[0].base_path', /line 1, column 28: .*is missing/],
    ['model_config_list { config { base_path: "/a" } }', 'model_config_list.config[0].name', /"" is no name/],
    ['model_config_list { config { name: "a/b" base_path: "/a" } }', 'model_config_list.config[0].name', /"a\/b" is no name/],
    [
      'model_config_list { config { name: "a" base_path: "/a" } config { name: "a" base_path: "/b" } }',
      'model_config_list.config[1].name',
      /there is a model "a" already/,
    ],
    [
      'model_config_list { config { name: "a" base_path: "s3://b/a" } }',
      'model_config_list.config[0].base_path',
      /no folder on this machine/,
    ],
    [
      'model_config_list { config { name: "a" base_path: "/a" model_platform: "pytorch" } }',
      'model_config_list.config[0].model_platform',
      /no platform "pytorch"/,
    ],
    ['model_config_list { config { name: "a" base_path: "/a" version_labels { key: "x" value: 0 } } }', undefined, /from 1 to/],
    ['model_config_list { configs { } }', 'model_config_list.configs', /no such field: expected one of config$/],
    ['custom_model_config { type_url: "x" }', 'custom_model_config', /not supported/],
  ])('%s is refused', async (text, field, message) => {
    const error = await refusal(() => parseModelList(text, '/'))
    expect(error.message).toMatch(message)
    if (field !== undefined) expect(error.field).toBe(field)
  })
})

describe('a served list', () => {
  let bed: TestBed

  beforeEach(async () => {
    bed = await TestBed.make()
  })
  afterEach(() => bed.close())

  const open = async (text: string): Promise<ModelListSource> => {
    await writeFile(join(bed.repository, 'models.config'), text)
    const { logger } = bed.telemetry
    return ModelListSource.open({ path: join(bed.repository, 'models.config'), rereadMs: 20, settleMs: 0, logger })
  }

  it('is followed as it changes; a malformed one changes nothing', async () => {
    for (const version of [1, 2, 3]) await bed.write('a', version)
    await bed.write('b', 7)
    const a =
      'config { name: "a" base_path: "a" model_version_policy { specific { versions: [1, 2] } } version_labels { key: "stable" value: 1 } }'
    const source = await open(`model_config_list { ${a} }`)
    const manager = await bed.started({ source, mode: 'poll' })
    expect(states(manager, 'a')).toEqual(['2:AVAILABLE', '1:AVAILABLE'])
    expect(await versionOf(manager, 'a', { label: 'stable' })).toBe('1')
    const path = join(bed.repository, 'models.config')
    await writeFile(path, 'model_config_list {')
    await writeFile(path, `model_config_list { config { name: "a" base_path: "a" } config { name: "b" base_path: "b" } }`)
    await eventually(() => manager.isReady('b')).toBe(true)
    await eventually(() => versionOf(manager, 'a')).toBe('3')
    await writeFile(path, `model_config_list { config { name: "b" base_path: "b" } }`)
    await eventually(() => manager.names()).toEqual(['b'])
  })

  it('takes its labels back, but not those that were moved since', async () => {
    for (const version of [1, 2]) await bed.write('a', version)
    const list = (labels: string): string =>
      `model_config_list { config { name: "a" base_path: "a" model_version_policy { latest { num_versions: 1 } } ${labels} } }`
    const both = 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 1 }'
    const source = await open(list(both).replace('num_versions: 1', 'num_versions: 2'))
    const manager = await bed.started({ source, mode: 'poll' })
    manager.setLabel('a', 'canary', '2')
    const path = join(bed.repository, 'models.config')
    await writeFile(path, list(both))
    // A label holds its version.
    await expect.poll(() => manager.statuses('a').map(({ version, labels }) => [version, labels])).toContainEqual(['1', ['stable']])
    await writeFile(path, list(''))
    await eventually(() => states(manager, 'a')).toEqual(['2:AVAILABLE', '1:END'])
    expect([...manager.labels('a')]).toEqual([['canary', '2']])
    await writeFile(path, list('version_labels { key: "stable" value: 2 }'))
    await eventually(() => [manager.labels('a').get('canary'), manager.labels('a').get('stable')]).toEqual(['2', '2'])
  })

  it('is refused with its path and line where it is malformed at the start, or not there', async () => {
    expect((await refusal(() => open('model_config_list {\n config { nam: "a" } }'))).message).toMatch(
      /models\.config: line 2, column 11: model_config_list\.config\[0\]\.nam: there is no such field: expected one of base_path/,
    )
    await rm(join(bed.repository, 'models.config'))
    const { logger } = createTelemetry({ service: 'list-test', logLevel: 'silent', otlp: false })
    expect(await refusal(() => ModelListSource.open({ path: '/nowhere/models.config', logger }))).toMatchObject({ code: 'NOT_FOUND' })
  })

  it('stands beside repositories; a model that two of them have is refused, and the others are served', async () => {
    await bed.write('a', 1)
    const other = await TestBed.make()
    try {
      await other.write('b', 2)
      await other.write('both', 1)
      await bed.write('both', 2)
      const source = new CombinedSource([
        new DirectorySource({ repository: bed.repository, settleMs: 0 }),
        new DirectorySource({ repository: other.repository, settleMs: 0 }),
      ])
      const manager = await bed.started({ source, exitOnError: false })
      expect([await versionOf(manager, 'a'), await versionOf(manager, 'b')]).toEqual(['1', '2'])
      expect(manager.isReady('both')).toBe(false)
      expect(manager.ready).toBe(false)
      expect((await refusal(() => bed.started({ source }))).message).toMatch(/model "both" is in .* and in .*: expected it in one of them/)
    } finally {
      await other.close()
    }
  })

  it('a config.pbtxt is read without being asked for, and a rollback goes to the version that was served before', async () => {
    for (const version of [1, 2]) await bed.write('a', version)
    await writeFile(join(bed.repository, 'a', 'config.pbtxt'), 'max_batch_size: 4\nversion_policy { all {} }')
    const manager = await bed.started()
    expect(states(manager, 'a')).toEqual(['2:AVAILABLE', '1:AVAILABLE'])
    expect((await refusal(() => manager.rollback('a'))).message).toMatch(/no earlier version to go back to: version 2 is the first/)
    await manager.promote('a', '1')
    expect([manager.defaultVersion('a'), await versionOf(manager, 'a')]).toEqual(['1', '1'])
    expect(await manager.rollback('a')).toBe('2')
    expect(await versionOf(manager, 'a')).toBe('2')
    expect((await refusal(() => manager.rollback('a'))).code).toBe('FAILED_PRECONDITION')
    await writeFile(join(bed.repository, 'a', 'config.pbtxt'), 'max_batch_size: 4\nversion_polcy { all {} }')
    const error = await refusal(() => bed.started())
    expect(error.message).toMatch(/a\/config\.pbtxt: line 2, column 1: version_polcy: there is no such field: expected one of/)
  })
})
