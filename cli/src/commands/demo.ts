import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Component } from '@spillway/core'
import { fullSize, SimulationPlayer } from '@spillway/example-fraud'
import { loadPipeline } from '@spillway/mesh'
import { createTelemetry } from '@spillway/telemetry'
import type { Command } from 'commander'
import { Host } from '../host.ts'
import { parseBus } from '../bus-address.ts'
import { defaultPorts, parseCount, parsePort, serviceNames } from '../options.ts'
import { ProcessLog } from '../process-log.ts'
import { runUntilStopped } from '../run-until-stopped.ts'
import { showStatus } from '../status-view.ts'

const pipelinePath = fileURLToPath(new URL('../../../examples/fraud/pipeline.yaml', import.meta.url))

/** Records waiting in topics beyond which the play is held back. */
const maxWaiting = 20_000

interface DemoFlags {
  readonly data: string
  readonly bus?: string
  readonly rate: number
  readonly httpPort: number
  readonly grpcPort: number
  readonly modelHttpPort: number
  readonly modelGrpcPort: number
}

/** `npm start`: the fraud example, all services in this process, with simulated card transactions played into it. */
export function defineDemo(command: Command): void {
  command
    .option('--data <folder>', 'where the bus, the features and the log are kept', './data')
    .option('--bus <address>', 'kafka://host:port, nats://host:port or embedded:FILE (default: embedded:<data>/fraud.db)')
    .option('--rate <number>', 'transactions a second', parseCount, 1000)
    .option('--http-port <port>', 'gateway HTTP', parsePort, defaultPorts.gateway.http)
    .option('--grpc-port <port>', 'gateway gRPC', parsePort, defaultPorts.gateway.grpc)
    .option('--model-http-port <port>', 'model service HTTP', parsePort, defaultPorts.model.http)
    .option('--model-grpc-port <port>', 'model service gRPC', parsePort, defaultPorts.model.grpc)
    .action(runDemo)
}

async function runDemo(flags: DemoFlags): Promise<void> {
  const log = new ProcessLog(join(flags.data, 'fraud.log'))
  const telemetry = createTelemetry({
    service: 'spillway',
    logLevel: 'info',
    logDestination: log,
    otlp: process.env['OTEL_EXPORTER_OTLP_ENDPOINT'] !== undefined,
  })
  const host = new Host({
    pipeline: await loadPipeline(pipelinePath),
    services: new Set(serviceNames),
    bus: flags.bus === undefined ? { kind: 'embedded', path: join(flags.data, 'fraud.db') } : parseBus(flags.bus),
    dataPath: flags.data,
    host: '127.0.0.1',
    ports: new Map([
      ['gateway', { http: flags.httpPort, grpc: flags.grpcPort }],
      ['model', { http: flags.modelHttpPort, grpc: flags.modelGrpcPort }],
    ]),
    peers: new Map(),
    telemetry,
  })
  const demo = new Demo(host, flags.rate)
  try {
    await runUntilStopped(demo, (stopping) => showStatus(host, host.sampleEvent(demo.streamTimeMs), log, stopping))
    console.log('Stopped. The next start goes on from here.')
  } finally {
    await telemetry.shutdown()
  }
}

/** The mesh, and the player that feeds it. */
class Demo implements Component {
  private readonly host: Host
  private readonly rate: number
  private player: SimulationPlayer | undefined

  constructor(host: Host, rate: number) {
    this.host = host
    this.rate = rate
  }

  /** Simulated time that the play has reached: years behind the clock. */
  get streamTimeMs(): number {
    return this.player?.progress().eventTimeMs ?? 0
  }

  async start(signal: AbortSignal): Promise<void> {
    await this.host.start(signal)
    const { host } = this
    this.player = new SimulationPlayer({
      bus: host.bus,
      settings: fullSize,
      transactionsPerS: this.rate,
      paused: () => host.metrics.status().lagRecords > maxWaiting,
    })
    await this.player.start(signal)
  }

  async drain(): Promise<void> {
    await this.player?.drain()
    await this.host.drain()
  }
}
