import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { logisticModel, writeModel } from '../../libs/serving/test/onnx-builder.ts'
import { Command, examplePipeline, freePorts, type Outcome, spillway } from './command.ts'

const folder = mkdtempSync(join(tmpdir(), 'spillway-cli-'))
const models = join(dirname(examplePipeline), 'models')

afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** The example's pipeline file, changed. */
function pipelineFile(name: string, change: (source: string) => string): string {
  const path = join(folder, name)
  writeFileSync(path, change(readFileSync(examplePipeline, 'utf8').replace(/^models: .*$/m, `models: ${models}`)))
  return path
}

function modelsAt(path: string): (source: string) => string {
  return (source) => source.replace(/^models: .*$/m, `models: ${path}`)
}

function up(pipeline: string, ...more: readonly string[]): Promise<Outcome> {
  return spillway(['up', '--pipeline', pipeline, '--data', join(folder, 'data'), ...freePorts, ...more], folder)
}

/** Exit code 2, nothing on standard output, and one line that says what is wrong. */
function expectRefusal({ code, stdout, stderr }: Outcome, message: RegExp): void {
  expect(stderr).toMatch(message)
  expect(stderr.trimEnd().split('\n')).toHaveLength(1)
  expect([code, stdout]).toEqual([2, ''])
}

describe('a pipeline file is refused', () => {
  it('where a setting is unknown, with its line', async () => {
    const path = pipelineFile('unknown.yaml', (source) => source.replace('partitions: 8', 'partition: 8'))
    expectRefusal(
      await up(path),
      /^spillway: .*unknown\.yaml:5: partition: there is no such setting: expected one of pipeline, .*partitions, .*$/m,
    )
    expectRefusal(await spillway(['validate', path], folder), /unknown\.yaml:5: partition: there is no such setting/)
  })

  it('where it is no YAML, or not there', async () => {
    const path = pipelineFile('syntax.yaml', () => 'pipeline: [fraud\n')
    expectRefusal(await spillway(['validate', path], folder), /syntax\.yaml: not valid YAML: .*line 2/)
    expectRefusal(await up(join(folder, 'missing.yaml')), /missing\.yaml: cannot read the pipeline file/)
  })

  it('where a link is of a kind that it cannot be', async () => {
    const path = pipelineFile('link.yaml', (source) => source.replace('escalations: topic', 'escalations: grpc'))
    expectRefusal(await spillway(['validate', path], folder), /link\.yaml:\d+: placement\.escalations: choose "topic".*or "local"/)
  })

  it('where a table that it looks values up in is wrong, with the line of the table', async () => {
    const path = pipelineFile('lookup.yaml', (source) =>
      source
        .replace(
          /^features:$/m,
          'features:\n  lookups:\n    terminals: { file: ./terminals.csv, key: terminal_id, values: { risk: number } }',
        )
        .replace(/^  columns:$/m, '  columns:\n    terminal_risk: { lookup: terminals, of: risk, default: 0 }'),
    )
    writeFileSync(join(folder, 'terminals.csv'), 'terminal_id,risk\n1,0.5\n2,0.1\n1,0.7\n')
    const wrong = /terminals\.csv:4: terminal_id 1 is in line 2 already: give one row a key$/m
    expectRefusal(await spillway(['validate', path], folder), wrong)
    expectRefusal(await up(path), wrong)
    writeFileSync(join(folder, 'terminals.csv'), 'terminal_id,risk\n1,0.5\n')
    expect(await spillway(['validate', path], folder)).toMatchObject({ code: 0, stderr: '' })
  })

  it('and accepted where it is right, with what it makes', async () => {
    const { code, stdout } = await spillway(['validate', examplePipeline], folder)
    expect(code).toBe(0)
    expect(stdout).toMatch(
      /pipeline "fraud" is valid\n.*amount, weekend[^]*fraud-cheap → fraud-heavy[^]*preprocessing reads transactions, labels/,
    )
  })
})

describe('a model is refused', () => {
  it('where its folder is missing', async () => {
    const path = pipelineFile('no-models.yaml', modelsAt('./nowhere'))
    expectRefusal(
      await up(path),
      /model "fraud-cheap" cannot be read at .*nowhere\/fraud-cheap .*expected <repository>\/<model>\/<version>\/model\.onnx/,
    )
  })

  it('where its file is no model', async () => {
    for (const model of ['fraud-cheap', 'fraud-heavy']) await writeModel(join(folder, 'corrupt'), model, 1, Buffer.from('this is no model'))
    const path = pipelineFile('corrupt.yaml', modelsAt('./corrupt'))
    expectRefusal(await up(path), /corrupt\/fraud-cheap\/1\/model\.onnx cannot be loaded as an ONNX model/)
  })

  it('where it takes another count of features than the pipeline gives', async () => {
    for (const model of ['fraud-cheap', 'fraud-heavy']) await writeModel(join(folder, 'narrow'), model, 1, logisticModel([1, 1, 1], 0))
    const path = pipelineFile('narrow.yaml', modelsAt('./narrow'))
    const message = /model "fraud-(cheap|heavy)": its input "features" is FP32 \[rows, 3\], and the pipeline gives FP32 \[rows, 15\]/
    expectRefusal(await up(path), message)
    expectRefusal(await spillway(['validate', path], folder), message)
  })
})

describe('an option is refused', () => {
  it.each([
    [
      ['up', '--pipeline', examplePipeline, '--bus', 'kafka:localhost'],
      /--bus kafka:localhost: expected kafka:\/\/host:port, nats:\/\/host:port or embedded:FILE/,
    ],
    [['up', '--pipeline', examplePipeline, '--bus', 'kafka://'], /names no broker/],
    [['up', '--pipeline', examplePipeline, '--bus', 'nats://'], /names no server/],
    [['up', '--pipeline', examplePipeline, '--bus', 'nats://127.0.0.1?durable=yes'], /has durable=yes, which is no setting/],
    ...['redis:localhost', 'redis://', 'rocksdb', 'embedded:'].map((store): [string[], RegExp] => [
      ['up', '--pipeline', examplePipeline, '--store', store],
      new RegExp(`--store ${store}: expected redis://host:port, embedded or embedded:FILE`),
    ]),
    [
      ['up', '--pipeline', examplePipeline, '--data', folder, ...freePorts, '--bus', 'kafka://nowhere.invalid:9092'],
      /the host "nowhere\.invalid" does not exist/,
    ],
    [['up', '--pipeline', examplePipeline, '--http-port', '99999'], /"99999" is no port/],
    [['serve', 'everything', '--pipeline', examplePipeline], /no service "everything": choose among gateway, preprocessing/],
    [['serve', 'gateway', '--pipeline', examplePipeline, '--peer', 'model'], /--peer model: expected service=host:port/],
    [['predict', '{}', '--pipeline', 'fraud', '--timeout', 'soon'], /soon/],
  ])('%j', async (args, message) => {
    expectRefusal(await spillway(args, folder), message)
  })

  it('where the command line has it wrong, with a word about help', async () => {
    for (const args of [['up'], ['nothing'], ['up', '--nothing']]) {
      const { code, stderr } = await spillway(args, folder)
      expect([code, stderr]).toEqual([2, expect.stringMatching(/^error: .*\n\(add --help for what there is\)\n$/)])
    }
  })

  it('and --help tells of every command', async () => {
    const { code, stdout } = await spillway(['--help'], folder)
    expect(code).toBe(0)
    for (const command of ['demo', 'up', 'serve', 'validate', 'predict', 'publish', 'subscribe'])
      expect(stdout).toContain(`\n  ${command} `)
  })
})

describe('while a process runs', () => {
  let running: Command
  let pipeline: string

  beforeAll(async () => {
    pipeline = pipelineFile('fraud.yaml', (source) => source)
    running = new Command(['up', '--pipeline', pipeline, '--data', join(folder, 'taken'), ...freePorts], folder)
    await running.printed(/is running/)
  })
  afterAll(async () => {
    expect(await running.stop()).toBe(0)
  })

  it('another one on its data is refused, and says which process has them', async () => {
    const second = await spillway(['up', '--pipeline', pipeline, '--data', join(folder, 'taken'), ...freePorts], folder)
    expectRefusal(second, /taken\/fraud\.db is in use by process \d+/)
  })

  it('another one on one of its ports is refused', async () => {
    const [, port] = await running.printed(/http:\/\/127\.0\.0\.1:(\d+)/)
    for (const flag of ['--http-port', '--grpc-port', '--model-http-port', '--model-grpc-port'])
      expectRefusal(await up(pipeline, flag, port!), new RegExp(`127\\.0\\.0\\.1:${port!}.* in use by another process`))
  })
})

it('waits for a broker that is away and says so; Ctrl-C ends the wait with 0', async () => {
  const closed = createServer().listen(0, '127.0.0.1')
  await once(closed, 'listening')
  const { port } = closed.address() as AddressInfo
  closed.close()
  const bus = ['--bus', `kafka://127.0.0.1:${port}`]
  const waiting = new Command(['up', '--pipeline', examplePipeline, '--data', join(folder, 'away'), ...freePorts, ...bus], folder)
  await waiting.printed(/WARN the Kafka broker is away: trying again/)
  expect(await waiting.stop()).toBe(0)
  const alone = new Command(
    ['serve', 'postprocessing', '--pipeline', examplePipeline, '--links', 'topic', '--http-port', '0', '--grpc-port', '0', ...bus],
    folder,
  )
  await alone.printed(/"level":"warn".*the Kafka broker is away: trying again/)
  expect(await alone.stop('SIGTERM')).toBe(0)
  expect(alone.stderr).toBe('')
})

it('tells a client that no gateway answers, and where it looked', async () => {
  const { code, stderr } = await spillway(['predict', '{}', '--pipeline', 'fraud', '--gateway', 'http://127.0.0.1:9'], folder)
  expect([code, stderr]).toEqual([
    1,
    expect.stringMatching(/^spillway: no gateway answers at http:\/\/127\.0\.0\.1:9: start one with "spillway up"/),
  ])
})
