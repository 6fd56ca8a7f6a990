import { join, resolve } from 'node:path'
import { checkOrdering, loadPipeline, type Pipeline } from '@spillway/mesh'
import { createTelemetry, type LogLevel } from '@spillway/telemetry'
import { type Command, Option } from 'commander'
import { Host, type HostOptions } from '../host.ts'
import { addModelFlags, givenModelFlag, type ModelFlags } from '../models/model-flags.ts'
import {
  type BusAddress,
  defaultPorts,
  parseBus,
  parsePeers,
  parsePort,
  parseService,
  parseStore,
  type ServiceName,
  serviceNames,
} from '../options.ts'
import { ProcessLog } from '../process-log.ts'
import { runUntilStopped } from '../run-until-stopped.ts'
import { showStatus } from '../status-view.ts'
import { serveModels } from './serve-model.ts'

interface CommonFlags {
  readonly pipeline?: string
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

/** `up` runs every service in this process, `serve` one. */
export function addRunCommands(program: Command): void {
  const up = program
    .command('up')
    .description('run every service of a pipeline in this process')
    .option('--model-http-port <port>', 'HTTP port of the model service', parsePort, defaultPorts.model.http)
    .option('--model-grpc-port <port>', 'gRPC port of the model service', parsePort, defaultPorts.model.grpc)
    .action(async (flags: CommonFlags) => {
      const pipeline = await pipelineOf(flags)
      const log = new ProcessLog(join(flags.data, `${pipeline.name}.log`))
      const options = hostOptions(flags, pipeline, new Set(serviceNames), 'gateway', log)
      const host = new Host(options)
      await runAndShutDown(options, host, () => runUntilStopped(host, (stopping) => showStatus(host, host.sampleEvent(), log, stopping)))
    })
  const serve = program
    .command('serve')
    .description('run one service of a pipeline, or a model service without one, in this process')
    .argument('<service>', serviceNames.join(', '))
    .action(async (name: string, flags: CommonFlags & ModelFlags) => {
      const service = parseService(name)
      const modelFlag = givenModelFlag(flags)
      if (service === 'model' && flags.pipeline === undefined && flags.models === undefined) return serveModels(flags)
      if (modelFlag !== undefined) serve.error(`error: option '${modelFlag}' is for "serve model" without --pipeline`)
      if (flags.pipeline === undefined) serve.error("error: required option '--pipeline <file>' not specified")
      const options = hostOptions(flags, await pipelineOf(flags), new Set([service]), service)
      const host = new Host(options)
      const { logger } = options.telemetry
      await runAndShutDown(options, host, () =>
        runUntilStopped(host, () => logger.info({ service, pipeline: options.pipeline.name }, 'ready')),
      )
    })
  up.requiredOption('--pipeline <file>', 'the pipeline file')
  serve.option('--pipeline <file>', 'the pipeline file; the model service needs none')
  for (const command of [up, serve]) {
    command
      .option('--bus <address>', 'kafka://host:port[,…], nats://host:port[,…] or embedded:FILE (default: embedded:<data>/<pipeline>.db)')
      .option(
        '--store <address>',
        'where histories are: redis://host:port[/database], embedded or embedded:FILE (default: embedded, with the bus or in the data folder)',
      )
      .option('--data <folder>', 'where this process keeps its data', './data')
      .option('--host <address>', 'address to listen on', '127.0.0.1')
      .option('--http-port <port>', 'HTTP port, 0 for any free one (default: the service’s own)', parsePort)
      .option('--grpc-port <port>', 'gRPC port, 0 for any free one (default: the service’s own)', parsePort)
      .option('--models <folder>', 'model repository (default: as in the pipeline file)')
      .option(
        '--peer <service=host:port>',
        'gRPC address of a service in another process; may be repeated',
        (text: string, all: string[]) => [...all, text],
        [],
      )
      .addOption(new Option('--links <kind>', 'make every link of the pipeline of one kind').choices(['local', 'grpc', 'topic']))
      .addOption(
        new Option('--log-level <level>', 'least level to log')
          .choices(['trace', 'debug', 'info', 'warn', 'error', 'silent'])
          .default('info'),
      )
  }
  addModelFlags(serve)
}

/** Loose flags as exact options. @param listener whose ports `--http-port` and `--grpc-port` set @param log standard output where absent */
function hostOptions(
  flags: CommonFlags,
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

async function pipelineOf(flags: CommonFlags): Promise<Pipeline> {
  const pipeline = await loadPipeline(flags.pipeline ?? '')
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
