import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { type Tensor, tensor } from '@spillway/core'
import { GrpcChannel } from '@spillway/rpc'
import { OipModelClient } from '@spillway/serving'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { logisticModel, writeModel } from '../../libs/serving/test/onnx-builder.ts'
import { freePorts } from '../../test/brokers/ports.ts'
import { makeProgram } from '../src/program.ts'
import { Command, spillway } from './command.ts'
import { testTelemetry } from './mesh-run.ts'

const folder = mkdtempSync(join(tmpdir(), 'spillway-serve-model-'))
const repository = join(folder, 'models')
const ports: readonly string[] = ['--http-port', '0', '--grpc-port', '0']
const telemetry = testTelemetry()
const running: Command[] = []

/** A process of its own and its models take their time where others use the machine too. */
const startMs = 100_000
const patience = { timeout: 60_000 }
vi.setConfig({ testTimeout: 180_000 })

beforeAll(async () => {
  for (const version of [1, 2, 3]) await writeModel(repository, 'score', version, logisticModel([1, 2], version))
  await writeModel(repository, 'second', 7, logisticModel([1], 0))
})
afterEach(async () => {
  for (const command of running.splice(0)) await command.stop('SIGKILL')
})
afterAll(async () => {
  await telemetry.shutdown()
  rmSync(folder, { recursive: true, force: true })
})

interface Server {
  readonly command: Command
  readonly http: string
  readonly grpc: string
}

async function serve(...flags: readonly string[]): Promise<Server> {
  const command = new Command(['serve', 'model', ...ports, ...flags], folder)
  running.push(command)
  const [, http = '', grpc = ''] = await command.printed(/is running: (http:\/\/[\d.]+:\d+) .*gRPC on ([\d.]+:\d+)\./, startMs)
  await command.printed(/Try, in another terminal/)
  return { command, http, grpc }
}

/** A command in this process: what it prints. */
async function run(args: readonly string[]): Promise<string> {
  const printed: string[] = []
  const log = vi.spyOn(console, 'log').mockImplementation((text: string) => void printed.push(`${text}\n`))
  try {
    const program = await makeProgram(args)
    for (const command of [program, ...program.commands]) command.configureOutput({ writeErr: () => undefined })
    await program.parseAsync([...args], { from: 'user' })
    return printed.join('')
  } finally {
    log.mockRestore()
  }
}

const models = (server: Server, ...args: readonly string[]): Promise<string> => run(['models', ...args, '--server', server.http])

describe('serve model without a pipeline', () => {
  it('says where it listens and what it serves, answers both protocols, and drains at Ctrl-C', async () => {
    const server = await serve('--model-repository', repository, '--server-name', 'triton', '--max-calls-in-flight', '7')
    expect(server.command.stdout).toMatch(/MODEL +VERSION +STATE +TRAFFIC.*\nscore +3 +AVAILABLE +default\nsecond +7 +AVAILABLE +default\n/)
    expect(await (await fetch(`${server.http}/v2`)).json()).toMatchObject({ name: 'triton' })
    expect(await (await fetch(`${server.http}/metrics`)).text()).toMatch(/^spillway_model_calls_limit 7$/m)
    const status = await fetch(`${server.http}/v1/models/second`)
    expect(await status.json()).toMatchObject({ model_version_status: [{ version: '7', state: 'AVAILABLE' }] })
    expect(await server.command.stop()).toBe(0)
    expect(server.command.stdout).toMatch(/Draining/)
  })

  it('takes several repositories, a list of models and its flags in TensorFlow Serving’s spelling', async () => {
    const list = join(folder, 'models.config')
    writeFileSync(
      list,
      `model_config_list { config { name: "listed" base_path: "${repository}/score" model_version_policy { all {} } version_labels { key: "stable" value: 2 } } }`,
    )
    const server = await serve(`--model_config_file=${list}`, '--model_config_file_poll_wait_seconds', '1', '--exit-on-error=true')
    expect(server.command.stdout).toMatch(/listed +3 +AVAILABLE +default\nlisted +2 +AVAILABLE +stable\nlisted +1 +AVAILABLE\n/)
    writeFileSync(list, `model_config_list { config { name: "renamed" base_path: "${repository}/second" } }`)
    await expect.poll(() => models(server, 'list'), patience).toMatch(/renamed +7 +AVAILABLE +default\n$/)
  })

  it('loads and unloads in explicit mode', async () => {
    const server = await serve('--model-repository', repository, '--model-control-mode', 'explicit', '--load-model', 'second')
    expect(await models(server, 'list')).toMatch(/^MODEL.*\nscore +- +not loaded\nsecond +7 +AVAILABLE +default\n$/)
    expect(await models(server, 'load', 'score')).toMatch(/score +3 +AVAILABLE +default\ntraffic: all to the default version\n$/)
    expect(await models(server, 'unload', 'second')).toMatch(/second +7 +END/)
    await expect(models(server, 'load', 'third')).rejects.toThrow(/third/)
  })

  it.each([
    [['--model-repository', '/nowhere'], /cannot be read at \/nowhere \(ENOENT\): expected <repository>\/<model>/],
    [[], /no models are given: expected --model-repository FOLDER, .*--pipeline FILE$/],
    [['--model-repository', repository, '--load-model', 'score'], /--load-model needs --model-control-mode explicit/],
    [['--model-repository', repository, '--repository-poll-secs', 'often'], /--repository-poll-secs often: expected seconds/],
    [['--model-repository', repository, '--exit-on-error', 'perhaps'], /--exit-on-error perhaps: expected true or false/],
    [['--model-repository', repository, '--memory-budget', 'much'], /"much" is no size: expected bytes/],
    [['--model-repository', repository, '--idle-unload', 'soon'], /"soon" is no duration/],
    [['--model-repository', repository, '--max-calls-in-flight', '0'], /"0" is no count: expected a whole number of at least 1/],
    [['--model-config-file', '/nowhere/list'], /\/nowhere\/list: cannot read the list of models/],
    [['--model-name', 'a'], /no models are given/],
    [['--model-base-path', repository, '--model-config-file', 'list'], /both list models: expected one of them/],
    [
      ['--model-repository', repository, '--model-config-file', 'list', '--model-control-mode', 'none', '--repository-poll-secs', '1'],
      /needs --model-control-mode poll/,
    ],
  ])('%j is refused', async (flags, message) => {
    await expect(run(['serve', 'model', ...ports, '--log-level', 'silent', ...flags])).rejects.toThrow(message)
  })

  it('is refused in one line, with exit code 2', async () => {
    const { code, stdout, stderr } = await spillway(['serve', 'model', ...ports, '--model-repository', '/nowhere'], folder)
    expect(stderr).toMatch(/cannot be read at \/nowhere \(ENOENT\): expected <repository>\/<model>\/<version>\/model\.onnx.*\n$/)
    expect([code, stdout]).toEqual([2, ''])
  })

  it('refuses its flags for other services, and a pipeline’s absence there', async () => {
    await expect(run(['serve', 'gateway', '--model-repository', repository])).rejects.toThrow(
      /option '--model-repository' is for "serve model" without/,
    )
    await expect(run(['serve', 'gateway'])).rejects.toThrow(/required option '--pipeline <file>' not specified/)
  })
})

/** Calls at a steady rate until it is told to stop, whatever the answers take. */
class SteadyLoad {
  readonly versions: string[] = []
  readonly failures: unknown[] = []
  readonly #call: () => Promise<string>
  readonly #done: Promise<void>
  #stopped = false

  constructor(call: () => Promise<string>, everyMs: number) {
    this.#call = call
    this.#done = this.#run(everyMs)
  }

  async #run(everyMs: number): Promise<void> {
    const open = new Set<Promise<void>>()
    while (!this.#stopped) {
      const answered = this.#call().then(
        (version) => void this.versions.push(version),
        (error: unknown) => void this.failures.push(error),
      )
      open.add(answered)
      void answered.then(() => open.delete(answered))
      await wait(everyMs)
    }
    await Promise.all(open)
  }

  stop(): Promise<void> {
    this.#stopped = true
    return this.#done
  }
}

it('an update and a rollback under load by HTTP and gRPC fail no call, and the answers say which version they are of', async () => {
  const server = await serve('--model-repository', repository, '--model-control-mode', 'explicit', '--load-model', '*')
  await models(server, 'promote', 'score', '1')
  const channel = new GrpcChannel({ address: server.grpc, telemetry })
  const client = new OipModelClient(channel)
  const { signal } = new AbortController()
  await client.start(signal)
  const inputs = new Map<string, Tensor>([['features', tensor('FP32', [1, 2], Float32Array.of(0, 0))]])
  const byGrpc = new SteadyLoad(
    async () => (await client.infer({ model: 'score', inputs, rowCount: 1, deadlineMs: Infinity, signal })).version,
    5,
  )
  const body = JSON.stringify({ inputs: [{ name: 'features', datatype: 'FP32', shape: [1, 2], data: [0, 0] }] })
  const byHttp = new SteadyLoad(async () => {
    const response = await fetch(`${server.http}/v2/models/score/infer`, { method: 'POST', body })
    const answer = (await response.json()) as { model_version: string; error?: string }
    if (!response.ok) throw new Error(answer.error)
    return answer.model_version
  }, 5)
  const loads = [byGrpc, byHttp]
  /** Resolves when both loads have been answered by the version, many times over. */
  const answeredBy = (version: string): Promise<unknown> =>
    expect
      .poll(() => loads.every(({ versions }) => versions.length > 20 && versions.slice(-20).every((of) => of === version)), patience)
      .toBe(true)
  await answeredBy('1')
  expect(await models(server, 'promote', 'score', '2')).toMatch(/score +2 +AVAILABLE +default/)
  await answeredBy('2')
  expect(await models(server, 'rollback', 'score')).toMatch(/score +1 +AVAILABLE +default/)
  await answeredBy('1')
  for (const load of loads) await load.stop()
  await client.drain()
  for (const { versions, failures } of loads) {
    expect(failures).toEqual([])
    // One change each, and none goes back and forth but for calls that were under way.
    expect(new Set(versions)).toEqual(new Set(['1', '2']))
  }
  const shown = JSON.parse(await models(server, 'show', 'score', '--json')) as unknown
  expect(shown).toMatchObject({ name: 'score', default_version: '1', traffic: { split: [] } })
  expect(await server.command.stop()).toBe(0)
})

it('a rollback stands over a restart where the state is kept', async () => {
  const state = join(folder, 'state.json')
  const flags = ['--model-repository', repository, '--model-state', state]
  const server = await serve(...flags)
  await models(server, 'promote', 'score', '2')
  expect(await server.command.stop('SIGKILL')).toBe(null)
  const again = await serve(...flags)
  expect(again.command.stdout).toMatch(/score +2 +AVAILABLE +default\nsecond/)
  expect(await again.command.stop()).toBe(0)
  writeFileSync(state, '{}')
  await expect(run(['serve', 'model', ...ports, '--log-level', 'silent', ...flags])).rejects.toThrow(
    /state\.json: this is not as the service wrote it/,
  )
})

it.each([
  ['up', '--model-http-port', '--model-grpc-port'],
  ['serve model', '--http-port', '--grpc-port'],
])('a promotion stands over a restart of %j with a pipeline, in the data folder', async (command, httpFlag, grpcFlag) => {
  const pipeline = join(folder, 'pipeline.yaml')
  writeFileSync(
    pipeline,
    'pipeline: scores\ninputs: { visits: { fields: { x: number, y: number } } }\ncascade: { tiers: [{ model: score }] }\n',
  )
  const [port] = await freePorts(1)
  const others = command === 'up' ? [...ports, grpcFlag, '0'] : [grpcFlag, '0']
  const flags = ['--pipeline', pipeline, '--data', join(folder, command), ...others, httpFlag, String(port)]
  const start = async (): Promise<Command> => {
    const started = new Command([...command.split(' '), ...flags], folder)
    running.push(started)
    await started.printed(/is running: |"msg":"ready"/, startMs)
    return started
  }
  const server = ['--server', `http://127.0.0.1:${port}`]
  const first = await start()
  expect(await run(['models', 'promote', 'score', '2', ...server])).toMatch(/score +2 +AVAILABLE +default/)
  expect(await first.stop('SIGKILL')).toBe(null)
  const again = await start()
  expect(await run(['models', 'list', ...server])).toMatch(/score +2 +AVAILABLE +default/)
  expect(await again.stop()).toBe(0)
})

describe('models', () => {
  it('says why a version was refused, and what is wrong with a model: in short in the list, whole for one', async () => {
    const path = join(folder, 'refused', 'a-model-of-a-long-name'.repeat(4))
    await writeModel(join(folder, 'refused'), 'm', 1, logisticModel([1], 0))
    mkdirSync(join(path, '1'), { recursive: true })
    writeFileSync(join(path, '1', 'model.onnx'), '')
    const server = await serve('--model-repository', join(folder, 'refused'), '--exit-on-error=false')
    const name = basename(path)
    expect(await models(server, 'list')).toMatch(new RegExp(`${name} +1 +END +${folder}.*…\\nm +1 +AVAILABLE`))
    expect(await models(server, 'show', name)).toContain(`\nversion 1: ${path}/1/model.onnx is empty: expected an ONNX model\n`)
    writeFileSync(join(folder, 'refused', 'm', 'config.pbtxt'), 'nonsense: 1')
    const polled = await serve(
      '--model-repository',
      join(folder, 'refused'),
      '--exit-on-error=false',
      '--load-model',
      'x',
      '--model-control-mode',
      'explicit',
    )
    expect(await models(polled, 'list')).toMatch(/\nm +- +not loaded/)
    await expect(models(polled, 'load', 'm')).rejects.toThrow(/config\.pbtxt: line 1.*nonsense/)
    const strict = await serve('--model-repository', join(folder, 'refused'), '--exit-on-error=false')
    expect(await models(strict, 'show', 'm')).toMatch(/m +- +not loaded .*\n.*\nproblem: .*config\.pbtxt: line 1, .*nonsense/)
  })

  it('sets labels and traffic, and says them', async () => {
    writeFileSync(join(repository, 'score', 'config.pbtxt'), 'version_policy { all {} }')
    const server = await serve('--model-repository', repository)
    rmSync(join(repository, 'score', 'config.pbtxt'))
    expect(await models(server, 'label', 'score', 'stable', '2')).toMatch(/score +2 +AVAILABLE +stable\n/)
    const split = await models(server, 'traffic', 'score', '--split', 'label:stable=90,3=10', '--shadow', '1=0.5')
    expect(split).toBe('score: label:stable=90, 3=10, shadow 1=0.5\n')
    expect(await models(server, 'list')).toMatch(
      /score +3 +AVAILABLE +10 %\nscore +2 +AVAILABLE +90 % +stable\nscore +1 +AVAILABLE +shadow of 50 %\n/,
    )
    expect(await models(server, 'traffic', 'score', '--split', 'none')).toBe('score: shadow 1=0.5\n')
    expect(await models(server, 'traffic', 'score', '--shadow', 'none')).toBe('score: all to the default version\n')
    expect(await models(server, 'label', 'score', 'stable', '--remove')).not.toMatch(/stable/)
    await expect(models(server, 'label', 'score', 'stable', '9')).rejects.toThrow(
      /^model "score": 9 is not loaded: its loaded versions are 3, 2, 1$/,
    )
    await expect(models(server, 'rollback', 'score')).rejects.toThrow(/no earlier version/)
    await expect(models(server, 'traffic', 'score', '--split', 'half')).rejects.toThrow(/--split half: expected version=weight/)
    await expect(models(server, 'promote', 'none', '1')).rejects.toThrow(/'none' is not found/)
  })

  it('says that no server answers, and where it looked', async () => {
    const list = ['models', 'list', '--server']
    await expect(run([...list, 'http://127.0.0.1:9'])).rejects.toThrow(
      /^no model service answers at http:\/\/127\.0\.0\.1:9: start one with/,
    )
    await expect(run([...list, 'here'])).rejects.toThrow(/--server here: expected http:\/\/host:port/)
  })
})
