import { MeshError } from '@spillway/core'
import type { Pipeline } from './pipeline.ts'
import type { LinkKind } from './pipeline-schema.ts'

/** The services that host stages, as processes are named. */
export const stageServices = ['preprocessing', 'cascade-router', 'postprocessing'] as const
export type StageService = (typeof stageServices)[number]

/** A stage of a pipeline: `preprocessing.<input>`, `tier-1` …, `postprocessing`. */
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

/** The pipeline's stages, joined as its placement says, cut into segments at the topic links. */
export function compileGraph(pipeline: Pipeline): Graph {
  const { placement } = pipeline
  const stages = new Map<StageId, StageNode>()
  const featuresTopic = pipeline.topicOf('features')
  for (const input of pipeline.inputs.values()) {
    const edges = new Map<string, Edge>()
    if (input.predict) edges.set('features', { to: 'stage', stage: tierStage(0), link: placement.features, topic: featuresTopic })
    stages.set(preprocessingStage(input.name), { id: preprocessingStage(input.name), service: 'preprocessing', edges })
  }
  const { tiers } = pipeline.cascade
  const scored: Edge = { to: 'stage', stage: postprocessingStage, link: placement.scored, topic: pipeline.topicOf('scored') }
  tiers.forEach((_, tier) => {
    const edges = new Map<string, Edge>([['accepted', scored]])
    const next = tierStage(tier + 1)
    if (tier + 1 < tiers.length)
      edges.set('escalated', { to: 'stage', stage: next, link: placement.escalations, topic: pipeline.topicOf(next) })
    stages.set(tierStage(tier), { id: tierStage(tier), service: 'cascade-router', edges })
  })
  stages.set(postprocessingStage, {
    id: postprocessingStage,
    service: 'postprocessing',
    edges: new Map<string, Edge>([
      ['predictions', { to: 'output', topic: pipeline.predictions.topic, output: 'predictions' }],
      ['alerts', { to: 'output', topic: pipeline.alerts.topic, output: 'alerts' }],
    ]),
  })
  return { stages, segments: compileSegments(pipeline, stages), entry: preprocessingStage }
}

function compileSegments(pipeline: Pipeline, stages: ReadonlyMap<StageId, StageNode>): readonly SegmentPlan[] {
  const plan = (name: string, service: StageService, sources: readonly SegmentSource[]): SegmentPlan => ({
    name,
    service,
    group: pipeline.groupOf(name),
    sources,
  })
  const inputs = [...pipeline.inputs.values()].map((input) => ({
    topic: input.topic,
    stage: preprocessingStage(input.name),
    input: input.name,
  }))
  const segments = [plan('preprocessing', 'preprocessing', inputs)]
  const seen = new Set<StageId>()
  for (const stage of stages.values()) {
    for (const edge of stage.edges.values()) {
      if (edge.to !== 'stage' || edge.link !== 'topic' || seen.has(edge.stage)) continue
      seen.add(edge.stage)
      const { service } = stages.get(edge.stage)!
      const name =
        edge.stage === tierStage(0) ? service : edge.stage === postprocessingStage ? 'postprocessing' : `${service}.${edge.stage}`
      segments.push(plan(name, service, [{ topic: edge.topic, stage: edge.stage }]))
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
