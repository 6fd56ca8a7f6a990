import { readFileSync } from 'node:fs'
import type { BatcherOptions } from '@spillway/serving'
import type { Call, CallersReport, CallersTask, Load } from './serving-calls.ts'
import { Child } from './serving-child.ts'
import type { HeartbeatReport } from './serving-heartbeat-timer.ts'
import { mlserverPython, startMlserver, type Mlserver, type MlserverSettings } from './serving-mlserver.ts'
import { type BenchModel, makeRepository, type Repository } from './serving-model.ts'
import type { ServingPorts, Usage } from './serving-process.ts'

/** As the command starts it: the flag stands in cli/bin/spillway.mjs. */
const nodeArgs = ['--max-semi-space-size=16']

/** A server under load, in a process of its own. */
export interface Contender {
  readonly name: string
  readonly ports: ServingPorts
  readonly pid: number
  stop(): Promise<void>
}

/** Spillway's model service. */
export interface Serving extends Contender {
  usage(): Promise<Usage>
  /** Resolves when calls get the version. @returns how long that took, ms */
  promote(version: string): Promise<number>
  startHeartbeat(): Promise<void>
  stopHeartbeat(): Promise<HeartbeatReport>
}

export async function startServing(name: string, model: BenchModel, repository: Repository, batching?: BatcherOptions): Promise<Serving> {
  const child = new Child('serving-process.ts', nodeArgs)
  const ports = await child.ask<ServingPorts>('start', { repository: repository.folder, batching })
  return {
    name,
    ports,
    pid: child.pid,
    usage: () => child.ask<Usage>('usage'),
    promote: (version) => child.ask<number>('promote', { model: model.name, version }),
    startHeartbeat: () => child.ask('startHeartbeat'),
    stopHeartbeat: () => child.ask<HeartbeatReport>('stopHeartbeat'),
    stop: () => child.stop(),
  }
}

/** A server that gives each call this answer and does nothing else. */
export async function startEcho(protocol: 'grpc' | 'http', answer: Buffer): Promise<Contender> {
  const child = new Child('serving-echo.ts', nodeArgs)
  const port = await child.ask<number>(protocol === 'grpc' ? 'startGrpc' : 'startHttp', answer)
  const name = protocol === 'grpc' ? 'grpc-js echo' : 'node:http echo'
  return { name, ports: { grpc: port, http: port }, pid: child.pid, stop: () => child.stop() }
}

/** As it comes; without a second process to hand each request to; and with requests of several callers put together besides. */
const peerSettings: Readonly<Record<string, MlserverSettings>> = {
  MLServer: { parallelWorkers: 1, maxBatchSize: 0, maxBatchTimeMs: 0 },
  'MLServer, parallel_workers 0': { parallelWorkers: 0, maxBatchSize: 0, maxBatchTimeMs: 0 },
  'MLServer, parallel_workers 0, max_batch_size 1024': { parallelWorkers: 0, maxBatchSize: 1024, maxBatchTimeMs: 1 },
}

export interface Peers {
  readonly contenders: readonly Contender[]
  /** Why there are none. */
  readonly missing?: string
}

/** MLServer with each of its settings; none where this machine has no Python, or no way to the packages. */
export async function startPeers(model: BenchModel, repository: Repository): Promise<Peers> {
  const python = await mlserverPython()
  if ('missing' in python) return { contenders: [], missing: python.missing }
  const started: (Mlserver & { name: string })[] = []
  try {
    for (const [name, settings] of Object.entries(peerSettings))
      started.push({ name, ...(await startMlserver(python.bin, model, repository.file, settings)) })
    return { contenders: started }
  } catch (error) {
    await stopAll(started)
    return { contenders: [], missing: (error as Error).message }
  }
}

export interface ServingBenchOptions {
  readonly rounds: number
  /** Of one round of one contender. */
  readonly seconds: number
}

/** Model services of one repository, by name and with batching of their own, and callers, while `play` goes on. */
export async function withServings<T>(
  { model, versions = 1, batching }: { model: BenchModel; versions?: number; batching: Readonly<Record<string, BatcherOptions>> },
  play: (servings: readonly Serving[], callers: Callers, repository: Repository) => Promise<T>,
): Promise<T> {
  const repository = await makeRepository(model, versions)
  const callers = new Callers()
  const servings: Serving[] = []
  try {
    for (const [name, options] of Object.entries(batching)) servings.push(await startServing(name, model, repository, options))
    return await play(servings, callers, repository)
  } finally {
    await callers.stop()
    await stopAll(servings)
    await repository.remove()
  }
}

export async function stopAll(contenders: readonly { stop(): Promise<void> }[]): Promise<void> {
  for (const contender of contenders) await contender.stop()
}

/** The one process of callers, which every server is called by. */
export class Callers {
  readonly #child = new Child('serving-callers.ts', nodeArgs)

  run(contender: Contender, call: Call, load: Load, deadlineMs?: number): Promise<CallersReport> {
    const task: CallersTask = { call, port: contender.ports[call.protocol], load, ...(deadlineMs === undefined ? {} : { deadlineMs }) }
    return this.#child.ask<CallersReport>('run', task)
  }

  /** @throws Error where a call was not answered: figures of a server that fails say nothing. */
  async allAnswered(contender: Contender, call: Call, load: Load): Promise<CallersReport> {
    const report = await this.run(contender, call, load)
    const { 0: grpc = 0, 200: http = 0, ...failed } = report.outcomes
    if (grpc + http === 0 || Object.keys(failed).length > 0)
      throw new Error(`${contender.name}: calls ended with ${JSON.stringify(report.outcomes)}`)
    return report
  }

  stop(): Promise<void> {
    return this.#child.stop()
  }
}

/** Linux counts a process's CPU in hundredths of a second. */
const usPerTick = 10_000

/** CPU of a process and all that it started, µs; undefined where the system does not say. */
export function cpuUsOf(pid: number): number | undefined {
  try {
    // The command's name, in brackets, may hold blanks.
    const [user, system] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ').slice(11, 13).map(Number)
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
    const below = children === '' ? [] : children.split(' ').map((child) => cpuUsOf(Number(child)) ?? 0)
    return (user! + system!) * usPerTick + below.reduce((sum, us) => sum + us, 0)
  } catch {
    return undefined
  }
}
