import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { type Bus, recordsOf } from '@spillway/bus'
import { bytesAt } from '@spillway/core'
import { type BrokerFaults, type RedisServer, startRedis } from '../brokers/mod.ts'
import type { CheckedRecord } from '../checker/record.ts'
import { type FraudNames, fraudNames, writePipeline } from '../e2e/fraud-run.ts'
import { FaultyProxy } from './faulty-proxy.ts'
import { Instance } from './instance.ts'
import type { Menu } from './plan.ts'
import { freePorts } from '../brokers/ports.ts'
import { type Links, metricsLag, type NewRecord, type System, transactionIdOf } from './system.ts'

const partitions = 8
/** A client that has still to publish waits for a broker that is gone for two minutes more. */
const longestPartingMs = 5000
/** How many of each there are; `preprocessing` shares its histories in Redis. */
const startOrder = [
  'model-1',
  'postprocessing-1',
  'postprocessing-2',
  'cascade-router-1',
  'cascade-router-2',
  'preprocessing-1',
  'preprocessing-2',
]
const serviceOf = (name: string): string => name.slice(0, name.lastIndexOf('-'))
const onTheBus = (name: string): boolean => serviceOf(name) !== 'model'

/** A broker with a listener for each proxy in front of it. */
export interface ProxiedBroker {
  /** `kafka://host:port`, `nats://host:port` of a port in front of, or of, the broker. */
  address(port: number): string
  /** The broker's own port. */
  readonly port: number
  /** Where the proxies lead to, one each. */
  readonly targetPorts: readonly number[]
  readonly faults: BrokerFaults
  /** A client straight to the broker. */
  open(): Bus
  read(topic: string): Promise<readonly CheckedRecord[]>
  stop(): Promise<void>
}

export interface DistributedOptions {
  readonly links: Links
  /**
   * The lines of every second instance call its transactions by other names than the first's, so that none is fenced when the other takes over:
   * what a bus without fencing would do. For showing that this is found.
   */
  readonly unfenced?: boolean
  readonly startBroker: (proxyPorts: readonly number[]) => Promise<ProxiedBroker | { readonly skipped: string }>
}

function pipelineName({ links }: DistributedOptions): string {
  return `chaos-${links}`
}

/**
 * A process's transactional ids are `<group>-<uuid>-<digit>`, and a group begins with the pipeline's name: another sign before the uuid is another id, as long. What records say of it is the uuid
 * alone, and stays.
 */
function withOtherTransactions(pipeline: string): (chunk: Buffer) => Buffer {
  const uuid = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
  const ids = new RegExp(`${pipeline}\\.[\\w.]+(?=-${uuid}-\\d)`, 'g')
  return (chunk) => {
    for (const { 0: group, index } of chunk.toString('latin1').matchAll(ids)) chunk[index + group.length] = '_'.charCodeAt(0)
    return chunk
  }
}

/** Every service in processes of its own, two of each that may be several, over a broker and Redis, each behind a proxy of its own. */
export class DistributedSystem implements System {
  readonly names: FraudNames
  readonly partitions: number = partitions
  readonly menu: Menu
  readonly instances: Map<string, Instance> = new Map()
  readonly links: ReadonlyMap<string, FaultyProxy>
  readonly servers: ReadonlyMap<'broker' | 'redis', BrokerFaults>
  readonly #options: DistributedOptions
  readonly #broker: ProxiedBroker
  readonly #redis: RedisServer
  readonly #bus: Bus
  readonly #folder: string
  readonly #pipeline: string
  readonly #ports = new Map<string, { readonly http: number; readonly grpc: number }>()

  private constructor(options: DistributedOptions, broker: ProxiedBroker, redis: RedisServer, links: ReadonlyMap<string, FaultyProxy>) {
    this.#options = options
    this.#broker = broker
    this.#redis = redis
    this.#bus = broker.open()
    this.links = new Map(links)
    this.servers = new Map([
      ['broker', broker.faults],
      ['redis', redis.faults!],
    ])
    this.names = fraudNames(pipelineName(options))
    this.#folder = mkdtempSync(join(tmpdir(), 'spillway-chaos-'))
    this.#pipeline = writePipeline(this.#folder, this.names, { predictions: { features: true } })
    this.menu = {
      instances: startOrder,
      links: [...links.keys()],
      servers: ['broker', 'redis'],
      scalable: ['preprocessing', 'cascade-router', 'postprocessing'],
      sessionTimeoutMs: 10_000,
    }
  }

  static async start(options: DistributedOptions): Promise<DistributedSystem | { readonly skipped: string }> {
    const redis = await startRedis({ withFaults: true })
    if ('skipped' in redis) return redis
    const clients = startOrder.filter(onTheBus)
    const toBroker = await Promise.all(clients.map(() => FaultyProxy.listen()))
    const stopAll = async (): Promise<void> => {
      await Promise.all([redis.stop(), ...toBroker.map((proxy) => proxy.close())])
    }
    const broker = await options.startBroker(toBroker.map(({ port }) => port)).catch(async (error: unknown) => {
      await stopAll()
      throw error
    })
    if ('skipped' in broker) {
      await stopAll()
      return broker
    }
    for (const [index, proxy] of toBroker.entries()) {
      proxy.targetPort = broker.targetPorts[index]!
      if (options.unfenced === true && clients[index]!.endsWith('-2')) proxy.rewrite = withOtherTransactions(pipelineName(options))
    }
    const links = new Map(clients.map((name, index) => [`${name} to the broker`, toBroker[index]!]))
    for (const name of clients.filter((each) => serviceOf(each) === 'preprocessing')) {
      const proxy = await FaultyProxy.listen()
      proxy.targetPort = Number(new URL(redis.url).port)
      links.set(`${name} to Redis`, proxy)
    }
    const system = new DistributedSystem(options, broker, redis, links)
    try {
      await system.#startAll()
    } catch (error) {
      await system.close()
      throw error
    }
    return system
  }

  async #startAll(): Promise<void> {
    await this.#bus.start(AbortSignal.timeout(60_000))
    await this.#bus.topics.ensure([this.names.transactions, this.names.labels].map((name) => ({ name, partitions })))
    const ports = await freePorts(startOrder.length * 2)
    for (const [index, name] of startOrder.entries()) this.#ports.set(name, { http: ports[index * 2]!, grpc: ports[index * 2 + 1]! })
    for (const name of startOrder) this.#make(name, this.links.get(`${name} to the broker`)?.port ?? this.#broker.port).start()
    await Promise.all([...this.instances.values()].map((instance) => instance.ready(60_000)))
  }

  #make(name: string, brokerPort: number): Instance {
    const service = serviceOf(name)
    const ports = this.#ports.get(name)!
    const redisPort = this.links.get(`${name} to Redis`)?.port
    const store = redisPort === undefined ? this.#redis.url : `redis://127.0.0.1:${redisPort}/0`
    const instance = new Instance({
      name,
      httpPort: ports.http,
      folder: this.#folder,
      arguments: [
        'serve',
        service,
        '--pipeline',
        this.#pipeline,
        '--bus',
        this.#broker.address(brokerPort),
        '--links',
        this.#options.links,
        '--data',
        join(this.#folder, name),
        ...(service === 'preprocessing' ? ['--store', store] : []),
        '--http-port',
        String(ports.http),
        '--grpc-port',
        String(ports.grpc),
        ...this.#peers(name),
      ],
    })
    this.instances.set(name, instance)
    return instance
  }

  /** Over gRPC links the first calls the first, the second the second; any other the first. */
  #peers(name: string): string[] {
    const number = name.endsWith('-2') ? 2 : 1
    const peers = ['model-1', ...['preprocessing', 'cascade-router', 'postprocessing'].map((service) => `${service}-${number}`)]
    return peers.flatMap((peer) => ['--peer', `${serviceOf(peer)}=127.0.0.1:${this.#ports.get(peer)!.grpc}`])
  }

  async add(service: string): Promise<Instance> {
    const name = `${service}-3`
    const [http, grpc] = (await freePorts(2)) as unknown as [number, number]
    this.#ports.set(name, { http, grpc })
    const instance = this.#make(name, this.#broker.port)
    instance.start()
    return instance
  }

  async remove(instance: Instance, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    await instance.end(signal)
    this.instances.delete(instance.name)
  }

  async publish(topic: 'transactions' | 'labels', records: readonly NewRecord[]): ReturnType<System['publish']> {
    const name = this.names[topic]
    const places = await this.#bus.publish(name, recordsOf(records))
    return places.map(({ partition, offset }) => ({ topic: name, partition, offset: Number(offset) }))
  }

  async watch(onPrediction: (transactionId: number) => void, signal: AbortSignal): Promise<void> {
    const next = new Map<number, bigint>()
    const decoder = new TextDecoder()
    while (!signal.aborted) {
      try {
        const subscription = { topic: this.names.predictions, from: new Map(next), maxSliceRecords: 1000, signal }
        for await (const { partition, offsets, records } of this.#bus.subscribe(subscription)) {
          for (let row = 0; row < records.count; row++) onPrediction(transactionIdOf(decoder.decode(bytesAt(records.values, row))))
          next.set(partition, offsets[records.count - 1]! + 1n)
        }
      } catch {
        // The broker is away: that is what is tried here.
        if (!signal.aborted) await wait(100)
      }
    }
  }

  lag(): Promise<number> {
    const readers = [...this.instances.values()].filter(({ name }) => onTheBus(name))
    // Two inputs; between services the features, what they are scored to, and what is escalated.
    return metricsLag(readers, partitions * (this.#options.links === 'topic' ? 5 : 2))
  }

  read(topic: string): Promise<readonly CheckedRecord[]> {
    return this.#broker.read(topic)
  }

  async close(): Promise<void> {
    await Promise.all([...this.instances.values()].map((instance) => instance.end('SIGKILL')))
    try {
      await Promise.race([this.#bus.drain(), wait(longestPartingMs, undefined, { ref: false })])
    } finally {
      await Promise.all([...this.links.values()].map((proxy) => proxy.close()))
      await Promise.all([this.#broker.stop(), this.#redis.stop()])
      rmSync(this.#folder, { recursive: true, force: true })
    }
  }
}
