import { readFile } from 'node:fs/promises'
import { type AddressInfo, createServer, type Server as SocketServer, type Socket } from 'node:net'
import { Server, ServerCredentials, type ServiceDefinition, type UntypedServiceImplementation } from '@grpc/grpc-js'
import type { EnumTypeDefinition } from '@grpc/proto-loader'
import { ReflectionService } from '@grpc/reflection'
import { type Component, MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import { descriptorSetFile } from '@spillway/wire'
import { HealthImplementation } from 'grpc-health-check'
import type { Admission } from './admission.ts'
import { filesOf } from './descriptor-files.ts'
import { Front } from './front.ts'
import type { RpcHandler } from './handler.ts'
import { ServerConnection } from './http2/server-connection.ts'
import type { ServedMethod } from './method.ts'
import { Relay, type RelayTarget } from './relay.ts'

/** A service and a handler for each of its methods, by the definition's names. */
export interface GrpcService {
  readonly definition: ServiceDefinition
  readonly implementation: Readonly<Record<string, RpcHandler>>
  /** For methods whose client sends one request, by name: bounds what the server takes on. A call has its place until its stream is closed. */
  readonly admissions?: Readonly<Record<string, Admission>>
}

export interface GrpcServerOptions {
  /** Default 127.0.0.1. */
  readonly host?: string
  /** 0 picks a free one. */
  readonly port: number
  readonly services: readonly GrpcService[]
  readonly telemetry: Telemetry
  /** Limit of a message in and out; default 16 MiB. */
  readonly maxMessageBytes?: number
  /** How long the request of a method with an admission may take to arrive; default 30 s. */
  readonly requestTimeoutMs?: number
  /** How long `drain` lets calls finish before it cuts them; default 10 s. */
  readonly drainTimeoutMs?: number
}

const defaultMaxMessageBytes = 16 * 1024 * 1024

/** A gRPC server with health (grpc.health.v1) and reflection (v1 and v1alpha). It listens from `start` on, and is SERVING once `setServing(true)` says so. */
export class GrpcServer implements Component {
  readonly #options: GrpcServerOptions
  readonly #standard = new StandardServices()
  readonly #health: HealthImplementation
  readonly #serviceNames: readonly string[]
  readonly #front: Front
  readonly #listener: SocketServer
  /** Each with the relay of its own. */
  readonly #connections = new Map<ServerConnection, Relay>()
  #relayTarget: RelayTarget | undefined
  #port: number
  #drained: Promise<void> | undefined

  constructor(options: GrpcServerOptions) {
    this.#options = options
    this.#port = options.port
    this.#serviceNames = options.services.map((service) => serviceName(service.definition))
    this.#health = new HealthImplementation()
    this.#health.addToServer(this.#standard)
    this.#front = new Front(options.requestTimeoutMs ?? 30_000)
    for (const service of options.services) this.#add(service)
    this.#listener = createServer((socket) => this.#connect(socket))
    this.setServing(false)
  }

  #connect(socket: Socket): void {
    const relay = new Relay(this.#relayTarget!)
    const connection: ServerConnection = new ServerConnection(socket, {
      onRequest: (stream, head) => this.#front.begin(stream, head, relay),
      onClose: () => {
        relay.close()
        this.#connections.delete(connection)
      },
    })
    this.#connections.set(connection, relay)
  }

  #add({ definition, implementation, admissions = {} }: GrpcService): void {
    const { telemetry, maxMessageBytes = defaultMaxMessageBytes } = this.#options
    for (const [name, { path, requestDeserialize, responseSerialize }] of Object.entries(definition)) {
      const rpc = implementation[name]
      if (rpc === undefined) throw new MeshError('INTERNAL', `no handler for ${path}`)
      const method: ServedMethod = { path, rpc, read: requestDeserialize, write: responseSerialize, maxMessageBytes, telemetry }
      this.#front.serve(method, admissions[name])
    }
  }

  /** The port that it listens on, once started. */
  get port(): number {
    return this.#port
  }

  /** @throws MeshError FAILED_PRECONDITION where the address cannot be listened on. */
  async start(_signal?: AbortSignal): Promise<void> {
    await this.#addReflection()
    this.#relayTarget = {
      paths: this.#standard.paths,
      injector: this.#standard.createConnectionInjector(ServerCredentials.createInsecure()),
    }
    const { host = '127.0.0.1', port } = this.#options
    await new Promise<void>((resolve, reject) => {
      this.#listener.once('error', (error) => reject(cannotListen(host, port, error)))
      this.#listener.listen({ host, port }, resolve)
    })
    this.#port = (this.#listener.address() as AddressInfo).port
  }

  async #addReflection(): Promise<void> {
    // The files as they are: what protobufjs makes of a message with maps, clients in other languages refuse.
    const files: EnumTypeDefinition = {
      format: 'Protocol Buffer 3 EnumDescriptorProto',
      type: {},
      fileDescriptorProtos: filesOf(await readFile(descriptorSetFile)),
    }
    new ReflectionService({ files }, { services: [...this.#serviceNames] }).addToServer(this.#standard)
  }

  /** What the health service answers, for the server and each of its services. */
  setServing(serving: boolean): void {
    for (const name of ['', ...this.#serviceNames]) this.#health.setStatus(name, serving ? 'SERVING' : 'NOT_SERVING')
  }

  /** Takes no more calls, ends streams with UNAVAILABLE, lets unary calls finish within the limit, then cuts what is left. */
  drain(): Promise<void> {
    this.#drained ??= this.#shutdown()
    return this.#drained
  }

  async #shutdown(): Promise<void> {
    this.setServing(false)
    const reason = new MeshError('UNAVAILABLE', 'the server is shutting down; resume on another or later')
    this.#front.endStreams(reason)
    const closed = new Promise<void>((resolve) => this.#listener.close(() => resolve()))
    const limit = setTimeout(() => {
      for (const connection of this.#connections.keys()) connection.destroy()
    }, this.#options.drainTimeoutMs ?? 10_000)
    for (const [connection, relay] of this.#connections) {
      relay.endStreams(reason)
      connection.drain()
    }
    await closed
    clearTimeout(limit)
    this.#standard.forceShutdown()
  }
}

/** grpc-js's server, for the services that come with it: health and reflection. */
class StandardServices extends Server {
  /** Of its methods. */
  readonly paths = new Set<string>()

  constructor() {
    super({ 'grpc.enable_channelz': 0 })
  }

  override addService(service: ServiceDefinition, implementation: UntypedServiceImplementation): void {
    for (const { path } of Object.values(service)) this.paths.add(path)
    super.addService(service, implementation)
  }
}

function cannotListen(host: string, port: number, error: NodeJS.ErrnoException): MeshError {
  const address = `${host.includes(':') ? `[${host}]` : host}:${port}`
  const why = error.code === 'EADDRINUSE' ? 'the port is in use by another process' : (error.code ?? error.message)
  return new MeshError('FAILED_PRECONDITION', `cannot listen for gRPC on ${address}: ${why}`, { cause: error })
}

/** `package.Service` of the path `/package.Service/Method` that every method carries. */
function serviceName(definition: ServiceDefinition): string {
  const path = Object.values(definition)[0]?.path
  if (path === undefined) throw new MeshError('INTERNAL', 'a gRPC service without methods')
  return path.split('/')[1]!
}
