import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Bus } from '@spillway/bus'
import { tierModels, tierStages } from '@spillway/cascade-router'
import { type Component, MeshError, type Stage, systemClock } from '@spillway/core'
import { createLookups, FeatureEngine, type HistoryStore } from '@spillway/features'
import { Gateway } from '@spillway/gateway'
import { compileGraph, type Graph, hostedStages, maxLinkMessageBytes, MeshProcess, type Pipeline, type StageService } from '@spillway/mesh'
import { ModelServer, startModelService } from '@spillway/model'
import { postprocessingStage } from '@spillway/postprocessing'
import { preprocessingStages } from '@spillway/preprocessing'
import { GrpcChannel, GrpcServer } from '@spillway/rpc'
import { LocalModelClient, type ModelClient, ModelManager, OipModelClient, TrafficFile } from '@spillway/serving'
import { createMeshMetrics, type MeshMetrics, OperationsServer, type OwnedTelemetry, type Readiness } from '@spillway/telemetry'
import type { BusAddress } from './bus-address.ts'
import { featureStore } from './feature-store.ts'
import { sampleEvent } from './sample-event.ts'
import { makeBus } from './make-bus.ts'
import { defaultPorts, type ServiceName, type StoreAddress } from './options.ts'

export interface HostOptions {
  readonly pipeline: Pipeline
  readonly services: ReadonlySet<ServiceName>
  readonly bus: BusAddress
  /** Where histories are; embedded where absent. */
  readonly store?: StoreAddress
  /** Folder of what this process keeps: the embedded bus, the feature store, and what was chosen for models at run time. */
  readonly dataPath: string
  readonly host: string
  /** Ports that are not the defaults. */
  readonly ports: ReadonlyMap<ServiceName, { readonly http: number; readonly grpc: number }>
  /** Services in other processes. */
  readonly peers: ReadonlyMap<ServiceName, string>
  readonly telemetry: OwnedTelemetry
}

/** Part of a pipeline's services as one process: everything that it needs, started in order and drained in the opposite one. */
export class Host implements Component {
  readonly metrics: MeshMetrics
  readonly graph: Graph
  private readonly options: HostOptions
  private readonly components: Component[] = []
  private drained: Promise<void> | undefined
  private ready = false
  private startedBus: Bus | undefined
  private startedProcess: MeshProcess | undefined
  private startedGateway: Gateway | undefined

  constructor(options: HostOptions) {
    this.options = options
    this.metrics = createMeshMetrics(options.telemetry.registry)
    this.graph = compileGraph(options.pipeline)
  }

  get bus(): Bus {
    return started(this.startedBus)
  }

  get process(): MeshProcess {
    return started(this.startedProcess)
  }

  /** Where the gateway listens, once started. */
  get gateway(): Gateway {
    return started(this.startedGateway)
  }

  get telemetry(): OwnedTelemetry {
    return this.options.telemetry
  }

  get alertsTopic(): string {
    return this.options.pipeline.alerts.topic
  }

  /** An event for the pipeline's predicted input, as JSON. @param streamTimeMs the time that the stream has reached, where the caller knows it */
  sampleEvent(streamTimeMs = 0): string {
    const { pipeline } = this.options
    const input = [...pipeline.inputs.values()].find(({ predict }) => predict)!
    const newestMs = Math.max(streamTimeMs, ...this.process.segments.map((segment) => segment.newestEventMs))
    return sampleEvent(input.definition, newestMs > 0 ? newestMs : systemClock.nowMs())
  }

  /** @throws MeshError before anything is consumed where a model, an address or the bus's file is wrong */
  async start(signal: AbortSignal): Promise<void> {
    try {
      await this.startAll(signal)
    } catch (error) {
      await this.drain()
      throw error
    }
  }

  /** The last started is drained first: what feeds ends before what is fed. */
  drain(): Promise<void> {
    this.ready = false
    this.drained ??= this.drainAll()
    return this.drained
  }

  private async drainAll(): Promise<void> {
    while (this.components.length > 0) await this.components.pop()!.drain()
  }

  private async begin<T extends Component>(component: T, signal: AbortSignal): Promise<T> {
    this.components.push(component)
    await component.start(signal)
    return component
  }

  private async startAll(signal: AbortSignal): Promise<void> {
    const { pipeline, services, telemetry } = this.options
    const hosted = hostedStages(this.graph, services)
    if (services.size === 1 && services.has('model')) return this.startModelService(signal)
    const needsModels = [...hosted].some((id) => this.graph.stages.get(id)!.service === 'cascade-router')
    const models = await this.models(needsModels, signal)
    // The bus comes before the store: on one file, its lock says that no other process has it.
    const bus = await this.startBus(signal)
    const histories = await this.startStore(hosted, signal)
    const stages = await this.stages(hosted, models, histories, signal)
    const peers = await this.peers(signal)
    const process = new MeshProcess({
      pipeline,
      graph: this.graph,
      services,
      bus,
      stages,
      ...(histories && { histories }),
      takesLetters: true,
      peers,
      telemetry,
      metrics: this.metrics,
      clock: systemClock,
    })
    this.startedProcess = process
    if (services.size === 1 && hosted.size > 0) await this.startLinks(process, signal)
    await this.begin(process, signal)
    if (services.has('gateway')) this.startedGateway = await this.startGateway(process, bus, signal)
    this.ready = true
  }

  /** A tier's model by the tier's index. */
  private async models(needed: boolean, signal: AbortSignal): Promise<(tier: number) => ModelClient> {
    const { pipeline, services, peers } = this.options
    const { tiers } = pipeline.cascade
    const own = [...new Set(tiers.filter((tier) => tier.address === undefined).map((tier) => tier.model))]
    let client: ModelClient | undefined
    if (own.length > 0 && (services.has('model') || (needed && pipeline.placement.models === 'local')))
      client = await this.ownModels(signal)
    else if (own.length > 0 && needed)
      client = await this.remoteModels(peers.get('model') ?? `127.0.0.1:${defaultPorts.model.grpc}`, signal)
    const remote = new Map<string, ModelClient>()
    for (const { address } of needed ? tiers : [])
      if (address !== undefined && !remote.has(address)) remote.set(address, await this.remoteModels(address, signal))
    return (tier) => {
      const { address } = tiers[tier]!
      const found = address === undefined ? client : remote.get(address)
      if (found === undefined) throw new MeshError('INTERNAL', `no model client for tier ${tier}`)
      return found
    }
  }

  /** The pipeline's models in this process, served to others too where it is the model service among others. */
  private async ownModels(signal: AbortSignal): Promise<ModelClient> {
    const { pipeline, services, telemetry, host } = this.options
    const isServed = services.has('model')
    const kept = isServed ? { keptTraffic: this.keptTraffic() } : {}
    const manager = await this.begin(new ModelManager({ ...tierModels(pipeline), ...kept, telemetry }), signal)
    if (isServed) {
      const { http: httpPort, grpc: grpcPort } = this.portsOf('model')
      const server = new ModelServer({ models: manager, host, httpPort, grpcPort, telemetry })
      await this.begin(server, signal)
      server.setServing(true)
    }
    return new LocalModelClient(manager)
  }

  /** Promotions, labels and traffic: in a file of this process, which alone takes such requests. */
  private keptTraffic(): TrafficFile {
    const { dataPath, pipeline } = this.options
    return TrafficFile.openLater(join(dataPath, `${pipeline.name}.models.json`))
  }

  private remoteModels(address: string, signal: AbortSignal): Promise<ModelClient> {
    const channel = new GrpcChannel({ address, telemetry: this.options.telemetry, maxMessageBytes: maxLinkMessageBytes })
    return this.begin(new OipModelClient(channel), signal)
  }

  private async startModelService(signal: AbortSignal): Promise<void> {
    const { pipeline, host, telemetry } = this.options
    const { http: httpPort, grpc: grpcPort } = this.portsOf('model')
    const { repository, listed, expects } = tierModels(pipeline)
    const models = { repository, listed, expects, keptTraffic: this.keptTraffic() }
    this.components.push(await startModelService({ ...models, host, httpPort, grpcPort, telemetry, signal }))
  }

  private async startBus(signal: AbortSignal): Promise<Bus> {
    const { bus: address, telemetry, pipeline } = this.options
    if (address.kind === 'embedded') mkdirSync(dirname(address.path), { recursive: true })
    const bus = makeBus(address, `spillway-${pipeline.name}`, telemetry)
    this.startedBus = await this.begin(bus, signal)
    return bus
  }

  /** The histories of the preprocessing stages, where this process has any. */
  private async startStore(hosted: ReadonlySet<string>, signal: AbortSignal): Promise<HistoryStore | undefined> {
    const { pipeline, bus, dataPath, telemetry, store = { kind: 'embedded' } } = this.options
    if (![...hosted].some((id) => this.graph.stages.get(id)!.service === 'preprocessing')) return undefined
    return this.begin(featureStore({ pipeline: pipeline.name, store, bus, dataPath, logger: telemetry.logger }), signal)
  }

  /** With the look-ups of its features, whose tables are read and checked here. */
  private async engine(store: HistoryStore, signal: AbortSignal): Promise<FeatureEngine> {
    const { pipeline, store: address, telemetry } = this.options
    const redisUrl = address?.kind === 'redis' ? address.url : undefined
    const lookups = createLookups(pipeline.features, { folder: pipeline.folder, redisUrl, logger: telemetry.logger })
    for (const lookup of lookups.values()) await this.begin(lookup, signal)
    return new FeatureEngine({ plan: pipeline.features, store, lookups })
  }

  private async stages(
    hosted: ReadonlySet<string>,
    modelOf: (tier: number) => ModelClient,
    store: HistoryStore | undefined,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, Stage>> {
    const { pipeline } = this.options
    const services = new Set([...hosted].map((id) => this.graph.stages.get(id)!.service))
    const stages: Stage[] = []
    if (store !== undefined) stages.push(...preprocessingStages(pipeline, await this.engine(store, signal)))
    if (services.has('cascade-router'))
      stages.push(
        ...(await tierStages({ pipeline, modelOf, clock: systemClock, metrics: this.metrics, telemetry: this.options.telemetry, signal })),
      )
    if (services.has('postprocessing')) stages.push(postprocessingStage(pipeline))
    return new Map(stages.map((stage) => [stage.name, stage]))
  }

  /** Channels to the stage services that this process is not: it may need them for links and for synchronous calls. */
  private async peers(signal: AbortSignal): Promise<ReadonlyMap<StageService, GrpcChannel>> {
    const { services, peers, telemetry } = this.options
    const channels = new Map<StageService, GrpcChannel>()
    for (const service of ['preprocessing', 'cascade-router', 'postprocessing'] as const) {
      if (services.has(service)) continue
      const address = peers.get(service) ?? `127.0.0.1:${defaultPorts[service].grpc}`
      channels.set(service, await this.begin(new GrpcChannel({ address, telemetry, maxMessageBytes: maxLinkMessageBytes }), signal))
    }
    return channels
  }

  private readiness(): Readiness {
    const reason = this.startedProcess?.problem
    return this.ready && reason !== undefined ? { ready: false, reason } : this.ready
  }

  private portsOf(service: ServiceName): { readonly http: number; readonly grpc: number } {
    return this.options.ports.get(service) ?? defaultPorts[service]
  }

  private async startLinks(process: MeshProcess, signal: AbortSignal): Promise<void> {
    const { services, host, telemetry } = this.options
    const [service] = services as Iterable<ServiceName>
    const { http, grpc } = this.portsOf(service!)
    const server = new GrpcServer({ host, port: grpc, services: [process.linkService()], telemetry, maxMessageBytes: maxLinkMessageBytes })
    await this.begin(server, signal)
    server.setServing(true)
    await this.begin(new OperationsServer({ host, port: http, telemetry, ready: () => this.readiness() }), signal)
  }

  private async startGateway(process: MeshProcess, bus: Bus, signal: AbortSignal): Promise<Gateway> {
    const { host, telemetry } = this.options
    const { http, grpc } = this.portsOf('gateway')
    const pipelines = [process.gatewayPipeline()]
    const { maxInFlight: maxCallsInFlight, timeoutMs: defaultTimeoutMs, ...bounds } = this.options.pipeline.calls
    const limits = { ...bounds, maxCallsInFlight, defaultTimeoutMs }
    return this.begin(
      new Gateway({ host, httpPort: http, grpcPort: grpc, bus, pipelines, telemetry, ...limits, ready: () => this.readiness() }),
      signal,
    )
  }
}

function started<T>(part: T | undefined): T {
  if (part === undefined) throw new MeshError('FAILED_PRECONDITION', 'the process has not started')
  return part
}
