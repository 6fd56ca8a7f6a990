import { join, resolve } from 'node:path'
import { checkOrdering, loadPipeline, type Pipeline } from '@spillway/mesh'
import { createTelemetry, type LogLevel } from '@spillway/telemetry'
import { type BusAddress, parseBus } from '../bus-address.ts'
import { Host, type HostOptions } from '../host.ts'
import { defaultPorts, parsePeers, parseStore, type ServiceName, serviceNames } from '../options.ts'
import { ProcessLog } from '../process-log.ts'
import { runUntilStopped } from '../run-until-stopped.ts'
import { showStatus } from '../status-view.ts'

/** What a process of the mesh takes. */
export interface MeshFlags {
  readonly pipeline: string
  readonly bus?: string
  readonly store?: string
  readonly data: string
  readonly host: string
  readonly logLevel: LogLevel
  readonly peer: readonly string[]
  readonly models?: string
  readonly links?: 'local' | 'grpc' | 'topic'
  readonly httpPort?: number
  readonly grpcPort?: number
  readonly modelHttpPort?: number
  readonly modelGrpcPort?: number
}

/** Every service of a pipeline in this process. */
export async function runAll(flags: MeshFlags): Promise<void> {
  const pipeline = await pipelineOf(flags)
  const log = new ProcessLog(join(flags.data, `${pipeline.name}.log`))
  const options = hostOptions(flags, pipeline, new Set(serviceNames), 'gateway', log)
  const host = new Host(options)
  await runAndShutDown(options, host, () => runUntilStopped(host, (stopping) => showStatus(host, host.sampleEvent(), log, stopping)))
}

/** One service of a pipeline in this process. */
export async function runService(service: ServiceName, flags: MeshFlags): Promise<void> {
  const options = hostOptions(flags, await pipelineOf(flags), new Set([service]), service)
  const host = new Host(options)
  const { logger } = options.telemetry
  await runAndShutDown(options, host, () => runUntilStopped(host, () => logger.info({ pipeline: options.pipeline.name }, 'ready')))
}

/** Loose flags as exact options. @param listener whose ports `--http-port` and `--grpc-port` set @param log standard output where absent */
function hostOptions(
  flags: MeshFlags,
  pipeline: Pipeline,
  services: ReadonlySet<ServiceName>,
  listener: ServiceName,
  log?: ProcessLog,
): HostOptions {
  const bus: BusAddress =
    flags.bus === undefined ? { kind: 'embedded', path: join(flags.data, `${pipeline.name}.db`) } : parseBus(flags.bus)
  const store = flags.store === undefined ? {} : { store: parseStore(flags.store) }
  const peers = parsePeers(flags.peer)
  const own = defaultPorts[listener]
  const ports = new Map([[listener, { http: flags.httpPort ?? own.http, grpc: flags.grpcPort ?? own.grpc }]])
  const { modelHttpPort, modelGrpcPort } = flags
  if (modelHttpPort !== undefined && modelGrpcPort !== undefined) ports.set('model', { http: modelHttpPort, grpc: modelGrpcPort })
  const telemetry = createTelemetry({
    service: services.size === 1 ? listener : 'spillway',
    logLevel: flags.logLevel,
    otlp: process.env['OTEL_EXPORTER_OTLP_ENDPOINT'] !== undefined,
    ...(log === undefined ? {} : { logDestination: log }),
  })
  return { pipeline, services, bus, ...store, dataPath: flags.data, host: flags.host, ports, peers, telemetry }
}

async function pipelineOf(flags: MeshFlags): Promise<Pipeline> {
  const pipeline = await loadPipeline(flags.pipeline)
  const modelsPath = flags.models === undefined ? pipeline.modelsPath : resolve(flags.models)
  if (flags.links === undefined) return { ...pipeline, modelsPath }
  const { links } = flags
  const placement = {
    features: links,
    escalations: links === 'topic' ? ('topic' as const) : ('local' as const),
    scored: links,
    models: links === 'local' ? ('local' as const) : ('grpc' as const),
  }
  checkOrdering(pipeline, placement)
  return { ...pipeline, modelsPath, placement }
}

async function runAndShutDown(options: HostOptions, host: Host, run: () => Promise<void>): Promise<void> {
  try {
    await run()
  } finally {
    await host.drain()
    await options.telemetry.shutdown()
  }
}
