import { readFile } from 'node:fs/promises'
import {
  type handleBidiStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  Server,
  ServerCredentials,
  type ServiceDefinition,
} from '@grpc/grpc-js'
import { loadFileDescriptorSetFromBuffer } from '@grpc/proto-loader'
import { ReflectionService } from '@grpc/reflection'
import { type Component, MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import { descriptorSetFile } from '@spillway/wire'
import { HealthImplementation } from 'grpc-health-check'
import type { Admission } from './admission.ts'
import type { ServerCall } from './call.ts'
import { gateStreams } from './gate.ts'
import { bindBidiStream, bindServerStream, bindUnary, type Binding, type RpcHandler } from './handler.ts'
import type { UnaryRoute } from './unary-stream.ts'

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

type GrpcHandler = handleUnaryCall<Buffer, unknown> | handleServerStreamingCall<Buffer, unknown> | handleBidiStreamingCall<Buffer, unknown>

/** A gRPC server with health (grpc.health.v1) and reflection (v1 and v1alpha). It listens from `start` on, and is SERVING once `setServing(true)` says so. */
export class GrpcServer implements Component {
  readonly #options: GrpcServerOptions
  readonly #server: Server
  readonly #health: HealthImplementation
  readonly #serviceNames: readonly string[]
  readonly #streams = new Set<ServerCall>()
  readonly #admissions = new Map<string, Admission>()
  readonly #routes = new Map<string, UnaryRoute>()
  readonly #maxMessageBytes: number
  #port: number
  #drained: Promise<void> | undefined

  constructor(options: GrpcServerOptions) {
    this.#options = options
    this.#port = options.port
    const maxBytes = options.maxMessageBytes ?? 16 * 1024 * 1024
    this.#maxMessageBytes = maxBytes
    this.#server = new Server({
      'grpc.max_receive_message_length': maxBytes,
      'grpc.max_send_message_length': maxBytes,
      'grpc.keepalive_time_ms': 60_000,
      'grpc.keepalive_timeout_ms': 20_000,
      'grpc.enable_channelz': 0,
      'grpc.so_reuseport': 0,
    })
    this.#serviceNames = options.services.map((service) => serviceName(service.definition))
    for (const service of options.services) this.#add(service)
    this.#health = new HealthImplementation()
    this.#health.addToServer(this.#server)
    this.setServing(false)
  }

  #add({ definition, implementation, admissions = {} }: GrpcService): void {
    const handlers: Record<string, GrpcHandler> = {}
    const unread: Record<string, ServiceDefinition[string]> = {}
    for (const [name, method] of Object.entries(definition)) {
      const rpc = implementation[name]
      if (rpc === undefined) throw new MeshError('INTERNAL', `no handler for ${method.path}`)
      const admission = admissions[name]
      if (admission !== undefined) this.#admissions.set(method.path, admission)
      const binding: Binding = { path: method.path, read: method.requestDeserialize, telemetry: this.#options.telemetry }
      handlers[name] = bind(rpc, binding, this.#streams)
      if (rpc.kind === 'unary')
        this.#routes.set(method.path, { rpc, binding, write: method.responseSerialize, maxMessageBytes: this.#maxMessageBytes })
      unread[name] = { ...method, requestDeserialize: (bytes: Buffer) => bytes }
    }
    this.#server.addService(unread, handlers as Parameters<Server['addService']>[1])
  }

  /** The port that it listens on, once started. */
  get port(): number {
    return this.#port
  }

  /** @throws MeshError FAILED_PRECONDITION where the address cannot be listened on. */
  async start(_signal?: AbortSignal): Promise<void> {
    await this.#addReflection()
    const host = this.#options.host ?? '127.0.0.1'
    const address = `${host.includes(':') ? `[${host}]` : host}:${this.#options.port}`
    this.#port = await new Promise<number>((resolve, reject) => {
      this.#server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) => {
        if (error === null) return resolve(port)
        // grpc-js keeps the reason to itself ("No address added out of total 1 resolved").
        const message = `cannot listen for gRPC on ${address}: the port is in use by another process, or the host is not this machine's`
        reject(new MeshError('FAILED_PRECONDITION', message, { cause: error }))
      })
    })
    const { requestTimeoutMs = 30_000 } = this.#options
    gateStreams(this.#server, {
      routes: this.#routes,
      admissions: this.#admissions,
      maxMessageBytes: this.#maxMessageBytes,
      requestTimeoutMs,
    })
  }

  async #addReflection(): Promise<void> {
    const descriptors = await readFile(descriptorSetFile)
    new ReflectionService(loadFileDescriptorSetFromBuffer(descriptors), { services: [...this.#serviceNames] }).addToServer(this.#server)
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
    for (const call of this.#streams) call.abort(new MeshError('UNAVAILABLE', 'the server is shutting down; resume on another or later'))
    await new Promise<void>((resolve) => {
      const limit = setTimeout(() => {
        this.#server.forceShutdown()
        resolve()
      }, this.#options.drainTimeoutMs ?? 10_000)
      this.#server.tryShutdown(() => {
        clearTimeout(limit)
        resolve()
      })
    })
  }
}

function bind(rpc: RpcHandler, binding: Binding, streams: Set<ServerCall>): GrpcHandler {
  if (rpc.kind === 'unary') return bindUnary(rpc, binding)
  return rpc.kind === 'serverStream' ? bindServerStream(rpc, binding, streams) : bindBidiStream(rpc, binding, streams)
}

/** `package.Service` of the path `/package.Service/Method` that every method carries. */
function serviceName(definition: ServiceDefinition): string {
  const path = Object.values(definition)[0]?.path
  if (path === undefined) throw new MeshError('INTERNAL', 'a gRPC service without methods')
  return path.split('/')[1]!
}
