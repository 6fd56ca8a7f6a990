import {
  type Clock,
  type Component,
  type LinkedStage,
  MeshError,
  type Mode,
  type PortLink,
  type Runner,
  type Stage,
  StageLinks,
} from '@spillway/core'
import type { Bus } from '@spillway/bus'
import type { HistoryStore } from '@spillway/features'
import type { GrpcChannel, GrpcService } from '@spillway/rpc'
import type { MeshMetrics, Telemetry } from '@spillway/telemetry'
import type { FrameInfo } from '@spillway/wire'
import { CallLog } from './call-log.ts'
import { CustomStage } from './custom-stage.ts'
import { DeadLetters } from './dead-letters.ts'
import { FeatureLogStage } from './feature-log.ts'
import type { GatewayPipeline } from './gateway-pipeline.ts'
import { gatewayPipeline } from './gateway-predict.ts'
import {
  type Edge,
  featureLogStage,
  type Graph,
  hostedStages,
  pipelineTopics,
  preprocessingStage,
  serviceOf,
  type StageId,
  type StageService,
} from './graph.ts'
import { GrpcRunner, meshService } from './grpc-link.ts'
import { Isolation } from './isolation.ts'
import type { Pipeline } from './pipeline.ts'
import { RedriveHead } from './redrive-head.ts'
import { Segment } from './segment.ts'
import type { Sink } from './sinks.ts'
import { EventSource, FrameSource } from './sources.ts'
import { stageObserver } from './stage-observer.ts'

export interface MeshProcessOptions {
  readonly pipeline: Pipeline
  readonly graph: Graph
  /** The services that this process is. */
  readonly services: ReadonlySet<string>
  readonly bus: Bus
  /** Every stage that the services of this process make, see `hostedStages`; the pipeline's own stages are made here. */
  readonly stages: ReadonlyMap<StageId, Stage>
  /** Channels to services in other processes. */
  readonly peers: ReadonlyMap<StageService, GrpcChannel>
  /** Where the preprocessing stages keep their histories, started; absent where this process has none of these stages. */
  readonly histories?: HistoryStore
  /** Whether its segments take dead letters that are given back to them. */
  readonly takesLetters?: boolean
  readonly telemetry: Telemetry
  readonly metrics: MeshMetrics
  readonly clock: Clock
}

/** One pipeline's share of a process: its stages joined by links, and the segments whose heads it hosts. */
export class MeshProcess implements Component {
  readonly segments: readonly Segment[]
  private readonly options: MeshProcessOptions
  private readonly hosted: ReadonlySet<StageId>
  private readonly links: Readonly<Record<Mode, StageLinks>>
  private readonly frame: FrameInfo
  private readonly stages: ReadonlyMap<StageId, Stage>
  private readonly callLog: CallLog | undefined
  private readonly isolation: Isolation

  /** @throws MeshError INVALID_ARGUMENT where a link needs a service whose address is not given */
  constructor(options: MeshProcessOptions) {
    const { pipeline, graph, services } = options
    this.options = options
    this.hosted = hostedStages(graph, services)
    this.frame = { schema: pipeline.schemaHash, release: pipeline.release, target: '' }
    this.callLog = this.makeCallLog()
    this.isolation = new Isolation({ logger: options.telemetry.logger })
    this.stages = new Map([...options.stages, ...this.ownStages()])
    const observer = stageObserver(options.telemetry, options.metrics)
    const links = (mode: Mode): StageLinks =>
      new StageLinks({ node: (id) => (this.hosted.has(id) ? this.linked(id, mode) : this.remoteRunner(id)), observer })
    this.links = { stream: links('stream'), request: links('request') }
    this.segments = graph.segments.filter((plan) => services.has(plan.service)).map((plan) => this.segment(plan))
  }

  /** Creates missing topics, then begins to consume. */
  async start(signal: AbortSignal): Promise<void> {
    const { bus, pipeline, graph } = this.options
    const { ageMs, bytes } = pipeline.retention
    const retention = { ...(ageMs === undefined ? {} : { retentionMs: ageMs }), ...(bytes === undefined ? {} : { retentionBytes: bytes }) }
    await bus.topics.ensure(pipelineTopics(pipeline, graph).map(({ name }) => ({ name, partitions: pipeline.partitions, ...retention })))
    // Kept for ever: it says which letters are done with.
    if (this.options.takesLetters === true) await bus.topics.ensure([{ name: pipeline.redriveTopic, partitions: pipeline.partitions }])
    await this.callLog?.start()
    for (const segment of this.segments) await segment.start(signal)
  }

  async drain(): Promise<void> {
    await Promise.all(this.segments.map((segment) => segment.drain()))
    await this.callLog?.drain()
  }

  /** Why a segment of this process does not work though it runs; undefined where all do. */
  get problem(): string | undefined {
    return this.segments.find((segment) => segment.problem !== undefined)?.problem
  }

  /** The synchronous side and the dead letters, for the gateway: entered in this process where it hosts preprocessing, else over gRPC. */
  gatewayPipeline(): GatewayPipeline {
    const { pipeline, graph, bus, clock } = this.options
    const predicted = [...pipeline.inputs.values()].find((input) => input.predict)!
    const served = gatewayPipeline(pipeline, graph, this.links.request.runner(graph.entry(predicted.name)), clock)
    return { ...served, deadLetters: new DeadLetters({ bus, pipeline, graph }) }
  }

  /** The gRPC service by which other processes enter this one's stages. */
  linkService(): GrpcService {
    const { pipeline } = this.options
    const lookup = (name: string, stage: StageId, mode: Mode): Runner => {
      if (name !== pipeline.name) throw new MeshError('NOT_FOUND', `this process runs pipeline "${pipeline.name}", not "${name}"`)
      if (!this.hosted.has(stage))
        throw new MeshError('NOT_FOUND', `stage "${stage}" is not hosted here: this process has ${[...this.hosted].join(', ')}`)
      return this.links[mode].runner(stage)
    }
    return meshService(lookup, this.frame)
  }

  /** Those of this process's stages that the pipeline file itself makes. */
  private ownStages(): readonly (readonly [StageId, Stage])[] {
    const { graph, pipeline } = this.options
    return [...this.hosted].flatMap((id): readonly (readonly [StageId, Stage])[] => {
      const { own } = graph.stages.get(id)!
      if (own === undefined) return []
      if (own === 'feature-log') return [[id, new FeatureLogStage({ vector: pipeline.features.vector, calls: this.callLog })]]
      return [[id, new CustomStage(id, own)]]
    })
  }

  private makeCallLog(): CallLog | undefined {
    const { pipeline, bus, telemetry, metrics } = this.options
    if (pipeline.featureLog?.calls !== true || !this.hosted.has(featureLogStage)) return undefined
    const frame = { schema: pipeline.features.hash, release: pipeline.release, target: featureLogStage }
    return new CallLog({ bus, topic: pipeline.featureLog.topic, frame, logger: telemetry.logger, metrics })
  }

  /** A stage and what follows it, where it is hosted here. */
  private linked(id: StageId, mode: Mode): LinkedStage {
    const stage = this.stages.get(id)
    if (stage === undefined) throw new MeshError('INTERNAL', `stage "${id}" was not made`)
    const edges = [...this.options.graph.stages.get(id)!.edges]
    return { stage, links: new Map(edges.map(([port, edge]) => [port, linkOf(edge, mode)])) }
  }

  private remoteRunner(id: StageId): Runner {
    const { graph, peers, pipeline } = this.options
    const service = serviceOf(graph, id)
    const channel = peers.get(service)
    if (channel === undefined)
      throw new MeshError(
        'INVALID_ARGUMENT',
        `stage "${id}" runs in service "${service}": give its gRPC address, as in --peer ${service}=127.0.0.1:8101`,
      )
    return new GrpcRunner({ channel, pipeline: pipeline.name, stage: id, frame: this.frame })
  }

  private segment(plan: Graph['segments'][number]): Segment {
    const { pipeline, graph, bus, histories, takesLetters, telemetry, metrics, clock } = this.options
    const entries = new Map(
      plan.sources.map(({ topic, stage, input }) => {
        const definition = input === undefined ? undefined : pipeline.inputs.get(input)!
        const source =
          definition === undefined
            ? new FrameSource({ stage, schema: pipeline.schemaHash, maxRows: pipeline.slices.maxRecords, late: pipeline.deadline.late })
            : new EventSource(pipeline, definition, preprocessingStage(definition.name))
        return [topic, { source, runner: this.links.stream.runner(stage), answers: definition?.predict ?? true }]
      }),
    )
    const runnerOf = (stage: StageId): Runner => this.links.stream.runner(stage)
    return new Segment({
      plan,
      pipeline,
      bus,
      entries,
      sinks: this.sinks(),
      ...(histories && { histories }),
      isolation: this.isolation,
      ...(takesLetters === true && { redrive: new RedriveHead({ plan, pipeline, graph, bus, entries, runnerOf }) }),
      telemetry,
      metrics,
      clock,
    })
  }

  private sinks(): ReadonlyMap<string, Sink> {
    const { pipeline, graph } = this.options
    const sinks = new Map<string, Sink>()
    for (const stage of graph.stages.values())
      for (const edge of stage.edges.values())
        if (edge.to === 'output' || edge.link === 'topic') sinks.set(edge.topic, sinkOf(edge, pipeline))
    return sinks
  }
}

/** On streams a topic link ends the way; a request is taken on by a call instead. */
function linkOf(edge: Edge, mode: Mode): PortLink {
  return edge.to === 'output' || (edge.link === 'topic' && mode === 'stream') ? { sink: edge.topic } : { stage: edge.stage }
}

function sinkOf(edge: Edge, pipeline: Pipeline): Sink {
  if (edge.to === 'stage') return { kind: 'frames', answers: true }
  switch (edge.output) {
    case 'predictions':
      return { kind: 'events', type: `spillway.${pipeline.name}.prediction`, answers: true }
    case 'alerts':
      return { kind: 'events', type: `spillway.${pipeline.name}.alert`, answers: false }
    case 'log':
      return { kind: 'frames', schema: pipeline.features.hash, answers: false }
  }
}
