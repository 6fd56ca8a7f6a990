import type { Bus } from '@spillway/bus'
import { type Component, type Stage, systemClock } from '@spillway/core'
import { createLookups, FeatureEngine, type HistoryStore, type SourceRows } from '@spillway/features'
import { compileGraph, MeshProcess, type Pipeline, type StageService } from '@spillway/mesh'
import { preprocessingStages } from '@spillway/preprocessing'
import { createMeshMetrics, type MeshMetrics, type Telemetry } from '@spillway/telemetry'

export interface BatchProcessOptions {
  /** Its placement says which stages the run takes: those behind a topic link are left out. */
  readonly pipeline: Pipeline
  readonly services: ReadonlySet<StageService>
  readonly telemetry: Telemetry
  /** The server of Redis lookups that name none. */
  readonly redisUrl: string | undefined
  /** Told what each column of an event is made from, see `FeatureEngine`. */
  readonly observe?: (rows: SourceRows) => void
  /** The stages behind preprocessing that the run takes. */
  readonly otherStages?: (parts: BatchParts) => Promise<readonly Stage[]>
}

/** Starts a component, to be drained with the run. */
type Begin = <T extends Component>(component: T) => Promise<T>

/** As it is, without a feature log: what a batch run computes was not served. */
export function unlogged({ featureLog: _log, ...pipeline }: Pipeline): Pipeline {
  return pipeline
}

/** What stages are made with; what they begin is drained with the run. */
export interface BatchParts {
  readonly metrics: MeshMetrics
  readonly signal: AbortSignal
  readonly begin: Begin
}

export interface BatchProcessParts {
  readonly bus: Bus
  readonly store: HistoryStore
  /** The store again, where the bus's positions and its histories are apart, so that one may be without the other. */
  readonly histories?: HistoryStore
  readonly signal: AbortSignal
  readonly begin: Begin
}

/** The process of a batch run, not started. */
export async function batchProcess(options: BatchProcessOptions, parts: BatchProcessParts): Promise<MeshProcess> {
  const { pipeline, services, telemetry, redisUrl, observe, otherStages } = options
  const { bus, store, histories, signal, begin } = parts
  const metrics = createMeshMetrics(telemetry.registry)
  const lookups = createLookups(pipeline.features, { folder: pipeline.folder, redisUrl, logger: telemetry.logger })
  for (const lookup of lookups.values()) await begin(lookup)
  const engine = new FeatureEngine({ plan: pipeline.features, store, lookups, ...(observe && { observe }) })
  const stages = [...preprocessingStages(pipeline, engine)]
  if (otherStages !== undefined) stages.push(...(await otherStages({ metrics, signal, begin })))
  return new MeshProcess({
    pipeline,
    graph: compileGraph(pipeline),
    services,
    bus,
    stages: new Map(stages.map((stage) => [stage.name, stage])),
    ...(histories && { histories }),
    peers: new Map(),
    telemetry,
    metrics,
    clock: systemClock,
  })
}
