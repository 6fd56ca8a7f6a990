import { dirname, join } from 'node:path'
import { freePorts } from '../brokers/ports.ts'
import { metricsOf } from './metrics.ts'
import { SpillwayProcess } from './processes.ts'

export interface MeshServices {
  /** Path of the pipeline file. */
  readonly pipeline: string
  /** `kafka://…`, `nats://…` */
  readonly bus: string
  readonly links: 'topic' | 'grpc'
  /** `spillway serve` of each, in this order; a service may be there several times. */
  readonly services: readonly string[]
  /** `redis://…`: where `preprocessing` keeps its histories; each on its own where absent. */
  readonly store?: string
  /** Folder of what the processes keep. */
  readonly data: string
  /** Where the first of them listens; any free one where absent. */
  readonly grpcPort?: number
}

/** A service in a process of its own, and where its metrics are. */
export class ServiceProcess extends SpillwayProcess {
  readonly httpPort: number

  constructor(args: readonly string[], cwd: string) {
    super(args, cwd)
    this.httpPort = Number(args[args.indexOf('--http-port') + 1])
  }

  override again(): ServiceProcess {
    return new ServiceProcess(this.args, this.cwd)
  }

  async metrics(): Promise<string> {
    return metricsOf(`http://127.0.0.1:${this.httpPort}`)
  }
}

/** Starts them all, and waits until each is ready; peers are the first of each service. */
export async function startServices({ pipeline, bus, links, services, store, data, ...more }: MeshServices): Promise<ServiceProcess[]> {
  const ports = [...(await freePorts(services.length * 2))]
  if (more.grpcPort !== undefined) ports[1] = more.grpcPort
  const grpcPort = (service: string): number => ports[services.indexOf(service) * 2 + 1]!
  const others = [...new Set(services)].filter((service) => service !== 'gateway')
  const peers = others.flatMap((service) => ['--peer', `${service}=127.0.0.1:${grpcPort(service)}`])
  const processes = services.map((service, index) => {
    // The same folder however many others are started with it: a service that is started anew finds what it kept.
    const number = services.slice(0, index).filter((before) => before === service).length
    const own = ['--links', links, '--data', join(data, `${service}-${number}`)]
    const listening = ['--http-port', String(ports[index * 2]), '--grpc-port', String(ports[index * 2 + 1])]
    const shared = service === 'preprocessing' && store !== undefined ? ['--store', store] : []
    return new ServiceProcess(
      ['serve', service, '--pipeline', pipeline, '--bus', bus, ...own, ...shared, ...listening, ...peers],
      dirname(data),
    )
  })
  try {
    await Promise.all(processes.map((service) => service.printed(/"msg":"ready"/)))
  } catch (error) {
    await killAll(processes)
    throw error
  }
  return processes
}

/** `kill -9` of the service's process that stands at `index` among those of its name, and the same command once more. */
export async function killAndRestart(mesh: ServiceProcess[], service: string, index = 0): Promise<ServiceProcess> {
  const killed = mesh.filter(({ name }) => name === `serve ${service}`)[index]!
  await killed.stop('SIGKILL')
  const again = killed.again()
  mesh[mesh.indexOf(killed)] = again
  return again
}

/** SIGTERM to each, once it is ready: one that was just started again would not hear it. @returns those that did not end with 0, with their last words */
export async function drainAll(mesh: readonly SpillwayProcess[]): Promise<readonly string[]> {
  const failed: string[] = []
  for (const service of mesh) {
    await service.printed(/"msg":"ready"/)
    const code = await service.stop()
    if (code !== 0) failed.push(`${service.name} ended with ${code}: ${service.output.slice(-2000)}`)
  }
  return failed
}

export async function killAll(mesh: readonly SpillwayProcess[]): Promise<void> {
  await Promise.all(mesh.map((service) => service.stop('SIGKILL')))
}

/** The end of what each printed, for a failure's message. */
export function lastWords(mesh: readonly SpillwayProcess[]): string {
  return mesh.map((service) => `--- ${service.name}\n${service.output.slice(-1500)}`).join('\n')
}
