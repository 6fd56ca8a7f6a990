import { type Command, Option } from 'commander'
import { addModelFlags, givenModelFlag, type ModelFlags } from '../models/model-flags.ts'
import { defaultPorts, parsePort, parseService, serviceNames } from '../options.ts'
import type { MeshFlags } from './run-mesh.ts'

type ServeFlags = Omit<MeshFlags, 'pipeline'> & ModelFlags & { readonly pipeline?: string }

/** `up`: every service in this process. What it runs is loaded when it is: its help is there at once. */
export function defineUp(command: Command): void {
  command
    .requiredOption('--pipeline <file>', 'the pipeline file')
    .option('--model-http-port <port>', 'HTTP port of the model service', parsePort, defaultPorts.model.http)
    .option('--model-grpc-port <port>', 'gRPC port of the model service', parsePort, defaultPorts.model.grpc)
    .action(async (flags: MeshFlags) => (await import('./run-mesh.ts')).runAll(flags))
  addMeshOptions(command)
}

/** `serve`: one service in this process. Models alone do without what a mesh brings. */
export function defineServe(command: Command): void {
  command
    .argument('<service>', serviceNames.join(', '))
    .option('--pipeline <file>', 'the pipeline file; the model service needs none')
    .action(async (name: string, flags: ServeFlags) => {
      const service = parseService(name)
      const modelFlag = givenModelFlag(flags)
      const { pipeline } = flags
      if (service === 'model' && pipeline === undefined && flags.models === undefined)
        return (await import('./serve-model.ts')).serveModels(flags)
      if (modelFlag !== undefined) command.error(`error: option '${modelFlag}' is for "serve model" without --pipeline`)
      if (pipeline === undefined) return command.error("error: required option '--pipeline <file>' not specified")
      await (await import('./run-mesh.ts')).runService(service, { ...flags, pipeline })
    })
  addMeshOptions(command)
  addModelFlags(command)
}

function addMeshOptions(command: Command): void {
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
