import { MeshError } from '@spillway/core'
import { rowsPort } from './custom-stage.ts'
import type { CustomStageDefinition } from './custom-stages.ts'
import type { Pipeline } from './pipeline.ts'
import type { LinkKind } from './pipeline-schema.ts'

/** The services that host stages, as processes are named. */
export const stageServices = ['preprocessing', 'cascade-router', 'postprocessing'] as const
export type StageService = (typeof stageServices)[number]

/** A stage of a pipeline: `preprocessing.<input>`, `tier-1` …, `postprocessing`, `feature-log`; of one's own `<name>.<input>` before the features, `<name>` behind them. */
export type StageId = string

/** `log` is the feature log: frames beside the answers, for the pipeline's own tools. */
export type OutputKind = 'predictions' | 'alerts' | 'log'

/** Where a stage's port leads: to another stage over a link, or out of the pipeline. */
export type Edge =
  | { readonly to: 'stage'; readonly stage: StageId; readonly link: LinkKind; readonly topic: string }
  | { readonly to: 'output'; readonly topic: string; readonly output: OutputKind }

export interface StageNode {
  readonly id: StageId
  readonly service: StageService
  readonly edges: ReadonlyMap<string, Edge>
  /** What makes it; absent where the service does. */
  readonly own?: CustomStageDefinition | 'feature-log'
}

/** What a segment's head reads: events of an input, or frames of a topic link. */
export interface SegmentSource {
  readonly topic: string
  readonly stage: StageId
  /** The input whose events these are; absent for frames. */
  readonly input?: string
}

/** The stages between topics. Its head alone touches the bus. */
export interface SegmentPlan {
  readonly name: string
  readonly service: StageService
  readonly group: string
  readonly sources: readonly SegmentSource[]
}

export interface Graph {
  readonly stages: ReadonlyMap<StageId, StageNode>
  readonly segments: readonly SegmentPlan[]
  /** Stage by which the gateway enters for an input. */
  entry(input: string): StageId
}

export const tierStage = (tier: number): StageId => `tier-${tier + 1}`
export const preprocessingStage = (input: string): StageId => `preprocessing.${input}`
export const postprocessingStage: StageId = 'postprocessing'

export const featureLogStage: StageId = 'feature-log'

/** The pipeline's stages, joined as its placement says, cut into segments at the topic links. */
export function compileGraph(pipeline: Pipeline): Graph {
  const { placement } = pipeline
  const stages = new Map<StageId, StageNode>()
  const add = (id: StageId, service: StageService, edges: Readonly<Record<string, Edge>>, own?: StageNode['own']): void =>
    void stages.set(id, { id, service, edges: new Map(Object.entries(edges)), ...(own && { own }) })
  const entries = new Map<string, StageId>()
  const toTier: Edge = { to: 'stage', stage: tierStage(0), link: placement.features, topic: pipeline.topicOf('features') }
  const behindFeatures = addFeatureStages(pipeline, toTier, add)
  for (const input of pipeline.inputs.values()) {
    const id = preprocessingStage(input.name)
    add(id, 'preprocessing', input.predict ? { features: behindFeatures } : {})
    const before = pipeline.stages.filter(({ at, inputs }) => at === 'events' && inputs.includes(input.name))
    const named = before.map((own) => ({ id: `${own.name}.${input.name}`, own }))
    entries.set(input.name, addChain('preprocessing', named, local(id), add).stage)
  }
  const scored = pipeline.stages.filter(({ at }) => at === 'scored').map((own) => ({ id: own.name, own }))
  const toPostprocessing = addChain('postprocessing', scored, local(postprocessingStage), add).stage
  addTiers(pipeline, { to: 'stage', stage: toPostprocessing, link: placement.scored, topic: pipeline.topicOf('scored') }, add)
  add(postprocessingStage, 'postprocessing', {
    predictions: { to: 'output', topic: pipeline.predictions.topic, output: 'predictions' },
    alerts: { to: 'output', topic: pipeline.alerts.topic, output: 'alerts' },
  })
  const entry = (input: string): StageId => entries.get(input)!
  return { stages, segments: compileSegments(pipeline, stages, entry), entry }
}

type StageEdge = Extract<Edge, { to: 'stage' }>
type Add = (id: StageId, service: StageService, edges: Readonly<Record<string, Edge>>, own?: StageNode['own']) => void

function local(stage: StageId): StageEdge {
  return { to: 'stage', stage, link: 'local', topic: '' }
}

/** Stages of one's own, one after the other. @returns the edge that leads into them, or `next` where there are none */
function addChain(
  service: StageService,
  chain: readonly { readonly id: StageId; readonly own: CustomStageDefinition }[],
  next: StageEdge,
  add: Add,
): StageEdge {
  let edge = next
  for (const { id, own } of chain.toReversed()) {
    add(id, service, { [rowsPort]: edge }, own)
    edge = local(id)
  }
  return edge
}

/** What lies between the features and the first tier. */
function addFeatureStages(pipeline: Pipeline, toTier: StageEdge, add: Add): StageEdge {
  let edge = toTier
  if (pipeline.featureLog !== undefined) {
    const log: Edge = { to: 'output', topic: pipeline.featureLog.topic, output: 'log' }
    add(featureLogStage, 'preprocessing', { [rowsPort]: edge, log }, 'feature-log')
    edge = local(featureLogStage)
  }
  const chain = pipeline.stages.filter(({ at }) => at === 'features').map((own) => ({ id: own.name, own }))
  return addChain('preprocessing', chain, edge, add)
}

function addTiers(pipeline: Pipeline, accepted: StageEdge, add: Add): void {
  const { tiers } = pipeline.cascade
  tiers.forEach((_, tier) => {
    const next = tierStage(tier + 1)
    const escalated: Edge = { to: 'stage', stage: next, link: pipeline.placement.escalations, topic: pipeline.topicOf(next) }
    add(tierStage(tier), 'cascade-router', tier + 1 < tiers.length ? { accepted, escalated } : { accepted })
  })
}

function compileSegments(
  pipeline: Pipeline,
  stages: ReadonlyMap<StageId, StageNode>,
  entry: (input: string) => StageId,
): readonly SegmentPlan[] {
  const plan = (name: string, service: StageService, sources: readonly SegmentSource[]): SegmentPlan => ({
    name,
    service,
    group: pipeline.groupOf(name),
    sources,
  })
  const inputs = [...pipeline.inputs.values()].map((input) => ({ topic: input.topic, stage: entry(input.name), input: input.name }))
  const segments = [plan('preprocessing', 'preprocessing', inputs)]
  const seen = new Set<StageId>()
  for (const stage of stages.values()) {
    for (const edge of stage.edges.values()) {
      if (edge.to !== 'stage' || edge.link !== 'topic' || seen.has(edge.stage)) continue
      seen.add(edge.stage)
      const { service } = stages.get(edge.stage)!
      const isServices = edge.stage === tierStage(0) || service === 'postprocessing'
      segments.push(plan(isServices ? service : `${service}.${edge.stage}`, service, [{ topic: edge.topic, stage: edge.stage }]))
    }
  }
  return segments
}

/** Stages that a process needs which hosts `services`: theirs, and all that these reach over local links. */
export function hostedStages(graph: Graph, services: ReadonlySet<string>): ReadonlySet<StageId> {
  const hosted = new Set<StageId>()
  const host = (id: StageId): void => {
    if (hosted.has(id)) return
    hosted.add(id)
    for (const edge of graph.stages.get(id)!.edges.values()) if (edge.to === 'stage' && edge.link === 'local') host(edge.stage)
  }
  for (const stage of graph.stages.values()) if (services.has(stage.service)) host(stage.id)
  return hosted
}

/** The service that hosts a stage. @throws MeshError NOT_FOUND */
export function serviceOf(graph: Graph, id: StageId): StageService {
  const stage = graph.stages.get(id)
  if (stage === undefined)
    throw new MeshError('NOT_FOUND', `the pipeline has no stage "${id}": it has ${[...graph.stages.keys()].join(', ')}`)
  return stage.service
}

/** Every topic of a pipeline, each with what it is for. */
export function pipelineTopics(pipeline: Pipeline, graph: Graph): readonly { readonly name: string; readonly internal: boolean }[] {
  const names = new Map<string, boolean>()
  for (const input of pipeline.inputs.values()) names.set(input.topic, false)
  for (const stage of graph.stages.values())
    for (const edge of stage.edges.values())
      if (edge.to === 'output' || edge.link === 'topic') names.set(edge.topic, edge.to === 'stage' || edge.output === 'log')
  names.set(pipeline.deadLetterTopic, false)
  return [...names].map(([name, internal]) => ({ name, internal }))
}
