// A process of the serving benchmarks: the model service, as `spillway serve model` puts it together.
import { type ModelService, startModelService } from '@spillway/model'
import type { BatcherOptions } from '@spillway/serving'
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
let service: ModelService | undefined
let heartbeat: Heartbeat | undefined
const turns = monitorEventLoopDelay({ resolution: 10 })

async function start({ repository, batching }: ServingTask): Promise<ServingPorts> {
  service = await startModelService({
    repository,
    host: '127.0.0.1',
    httpPort: 0,
    grpcPort: 0,
    telemetry,
    ...(batching && { batching }),
    signal: AbortSignal.timeout(300_000),
  })
  return { http: service.httpPort, grpc: service.grpcPort }
}

function usage(): Usage {
  const { user, system } = process.cpuUsage()
  const rows = service!.models.statistics().reduce((sum, { inferenceCount }) => sum + Number(inferenceCount), 0)
  return { cpuUs: user + system, rssMiB: process.memoryUsage.rss() / 2 ** 20, rows }
}

async function promote({ model, version }: { model: string; version: string }): Promise<number> {
  const startedMs = performance.now()
  await service!.models.promote(model, version)
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
  await service?.drain()
}

answerMessages({ start, usage, promote, startHeartbeat, stopHeartbeat }, close)
