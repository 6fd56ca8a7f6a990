// A process of the serving benchmarks: the model service, as `spillway serve model` puts it together.
import { ModelServer } from '@spillway/model'
import { type BatcherOptions, ModelManager } from '@spillway/serving'
import { createTelemetry } from '@spillway/telemetry'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { answerMessages } from './serving-child.ts'
import { Heartbeat, type HeartbeatReport } from './serving-heartbeat-timer.ts'

export interface ServingTask {
  readonly repository: string
  readonly batching?: BatcherOptions
}

export interface ServingPorts {
  readonly http: number
  readonly grpc: number
}

export interface Usage {
  /** Of all threads, since the start. */
  readonly cpuUs: number
  readonly rssMiB: number
  /** Rows run since the models were loaded. */
  readonly rows: number
}

const telemetry = createTelemetry({ service: 'model', logLevel: 'warn', otlp: false, logDestination: 2 })
let manager: ModelManager | undefined
let server: ModelServer | undefined
let heartbeat: Heartbeat | undefined
const turns = monitorEventLoopDelay({ resolution: 10 })

async function start({ repository, batching }: ServingTask): Promise<ServingPorts> {
  manager = new ModelManager({ repository, telemetry, ...(batching && { batching }) })
  server = new ModelServer({ models: manager, host: '127.0.0.1', httpPort: 0, grpcPort: 0, telemetry })
  const signal = AbortSignal.timeout(300_000)
  await server.start(signal)
  await manager.start(signal)
  server.setServing(true)
  return { http: server.httpPort, grpc: server.grpcPort }
}

function usage(): Usage {
  const { user, system } = process.cpuUsage()
  const rows = manager!.statistics().reduce((sum, { inferenceCount }) => sum + Number(inferenceCount), 0)
  return { cpuUs: user + system, rssMiB: process.memoryUsage.rss() / 2 ** 20, rows }
}

async function promote({ model, version }: { model: string; version: string }): Promise<number> {
  const startedMs = performance.now()
  await manager!.promote(model, version)
  return performance.now() - startedMs
}

function startHeartbeat(): void {
  turns.reset()
  turns.enable()
  heartbeat = new Heartbeat()
}

function stopHeartbeat(): HeartbeatReport {
  turns.disable()
  return heartbeat!.stop(turns)
}

async function close(): Promise<void> {
  await server?.drain()
  await manager?.drain()
}

answerMessages({ start, usage, promote, startHeartbeat, stopHeartbeat }, close)
