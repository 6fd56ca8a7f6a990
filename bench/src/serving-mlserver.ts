import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { BenchModel } from './serving-model.ts'
import type { ServingPorts } from './serving-process.ts'

const execute = promisify(execFile)

// Newer ones of uvloop refuse what MLServer's workers do at their start.
const requirements = ['mlserver==1.7.1', 'onnxruntime==1.31.1', 'uvloop==0.21.0']
const folder: string = join(import.meta.dirname, '../../.cache/python', requirements[0]!.replace(/\W+/g, '-'))

/** How MLServer is set up: as it comes, or otherwise. */
export interface MlserverSettings {
  /** Processes that run models beside the server's own; 1 as it comes. 0 runs them in the server's. */
  readonly parallelWorkers: number
  /** Rows that its adaptive batching puts together, and how long it waits for them; 0, off, as it comes. */
  readonly maxBatchSize: number
  readonly maxBatchTimeMs: number
}

export interface Mlserver {
  readonly ports: ServingPorts
  readonly pid: number
  stop(): Promise<void>
}

/** A Python that has MLServer and ONNX Runtime, installed in `.cache` where it is not there yet; or why there is none. */
export async function mlserverPython(): Promise<{ readonly bin: string } | { readonly missing: string }> {
  const bin = join(folder, 'bin')
  const whole = join(folder, 'complete')
  const there = await access(whole).then(
    () => true,
    () => false,
  )
  if (there) return { bin }
  console.log(`  installing ${requirements.join(', ')}`)
  try {
    // What an installation that was cut short left behind.
    await rm(folder, { recursive: true, force: true })
    await mkdir(folder, { recursive: true })
    await execute('python3', ['-m', 'venv', folder], { timeout: 300_000 })
    const install = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...requirements]
    await execute(join(bin, 'python'), install, { timeout: 600_000, maxBuffer: 16_000_000 })
    await writeFile(whole, '')
    return { bin }
  } catch (error) {
    return { missing: `${requirements.join(', ')} cannot be installed: ${(error as Error).message.slice(0, 400)}` }
  }
}

/** MLServer with one model, without a log of requests. @throws Error where it is not ready within five minutes. */
export async function startMlserver(bin: string, model: BenchModel, file: string, settings: MlserverSettings): Promise<Mlserver> {
  const home = await mkdtemp(join(tmpdir(), 'mlserver-'))
  const [http, grpc, metrics] = (await freePorts(3)) as [number, number, number]
  await writeSettings(home, model, file, settings, { http, grpc, metrics })
  const child = spawn(join(bin, 'mlserver'), ['start', home], {
    cwd: home,
    env: {
      PATH: `${bin}${delimiter}${process.env['PATH'] ?? ''}`,
      HOME: home,
      PYTHONPATH: import.meta.dirname,
      PYTHONDONTWRITEBYTECODE: '1',
      OMP_NUM_THREADS: '1',
    },
    stdio: ['ignore', 'ignore', 'pipe'],
    // Its workers end with it.
    detached: true,
  })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said = `${said}${text}`.slice(-4000)))
  const ended = once(child, 'exit')
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGINT')
      const limit = setTimeout(() => process.kill(-child.pid!, 'SIGKILL'), 10_000)
      await ended
      clearTimeout(limit)
    }
    await rm(home, { recursive: true, force: true })
  }
  const endMs = performance.now() + 300_000
  while (!(await isReady(http, model.name))) {
    if (child.exitCode === null && performance.now() < endMs) {
      await wait(100)
      continue
    }
    await stop()
    throw new Error(`MLServer is not ready: ${said}`)
  }
  return { ports: { http, grpc }, pid: child.pid!, stop }
}

async function writeSettings(
  home: string,
  model: BenchModel,
  file: string,
  { parallelWorkers, maxBatchSize, maxBatchTimeMs }: MlserverSettings,
  ports: { http: number; grpc: number; metrics: number },
): Promise<void> {
  const server = {
    debug: false,
    host: '127.0.0.1',
    http_port: ports.http,
    grpc_port: ports.grpc,
    metrics_port: ports.metrics,
    parallel_workers: parallelWorkers,
    logging_settings: {
      version: 1,
      disable_existing_loggers: false,
      handlers: { stderr: { class: 'logging.StreamHandler', stream: 'ext://sys.stderr' } },
      root: { level: 'ERROR', handlers: ['stderr'] },
      loggers: Object.fromEntries(
        ['mlserver', 'uvicorn', 'uvicorn.access', 'uvicorn.error', 'mlserver.grpc'].map((name) => [name, { level: 'ERROR' }]),
      ),
    },
  }
  const served = {
    name: model.name,
    implementation: 'mlserver_runtime.OnnxRuntimeModel',
    max_batch_size: maxBatchSize,
    max_batch_time: maxBatchTimeMs / 1000,
    parameters: { uri: file, version: '1' },
  }
  await writeFile(join(home, 'settings.json'), JSON.stringify(server))
  await writeFile(join(home, 'model-settings.json'), JSON.stringify(served))
}

async function isReady(port: number, model: string): Promise<boolean> {
  return fetch(`http://127.0.0.1:${port}/v2/models/${model}/ready`).then(
    ({ ok }) => ok,
    () => false,
  )
}

async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  const ports = servers.map((server) => (server.address() as AddressInfo).port)
  await Promise.all(servers.map((server) => once(server.close(), 'close')))
  return ports
}
