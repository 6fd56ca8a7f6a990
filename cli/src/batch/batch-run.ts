import { ReplayBus, type ReplayProgress, type ReplaySink, type ReplaySource } from '@spillway/bus'
import { type Component, MeshError, type Stage, systemClock } from '@spillway/core'
import { createLookups, FeatureEngine } from '@spillway/features'
import { compileGraph, MeshProcess, type Pipeline, type StageService } from '@spillway/mesh'
import { preprocessingStages } from '@spillway/preprocessing'
import { createMeshMetrics, type MeshMetrics, type Telemetry } from '@spillway/telemetry'
import { BatchHistories } from './batch-histories.ts'
import type { WorkFolder } from './work-folder.ts'

/** The histories of keys in use are best all in memory: nothing else is. */
const cacheBytes = 1 << 30

export interface BatchRunOptions {
  /** Its placement says which stages the run takes: those behind a topic link are left out. */
  readonly pipeline: Pipeline
  /** Where the pipeline file's relative paths start. */
  readonly folder: string
  readonly services: ReadonlySet<StageService>
  /** One an input. */
  readonly sources: readonly ReplaySource[]
  readonly sink: ReplaySink
  /** Without one, the run is done at one go. */
  readonly work: WorkFolder | undefined
  readonly checkpointEveryMs: number
  readonly telemetry: Telemetry
  readonly onProgress: (progress: ReplayProgress) => void
  /** The stages behind preprocessing that the run takes. */
  readonly otherStages?: (parts: BatchParts) => Promise<readonly Stage[]>
}

/** What further stages are made with; what they start is drained with the run. */
export interface BatchParts {
  readonly metrics: MeshMetrics
  readonly signal: AbortSignal
  begin<T extends Component>(component: T): Promise<T>
}

/** A pipeline over finite inputs: the code that serves, on a replay bus. Runs once. */
export class BatchRun {
  private readonly options: BatchRunOptions
  private readonly components: Component[] = []

  constructor(options: BatchRunOptions) {
    this.options = options
  }

  /**
   * Resolves when every input is read to its end and all outputs are with the sink.
   * @throws MeshError CANCELLED where the signal fired first (with a work folder, another run goes on from there); what sources, stages and sink threw
   */
  async run(signal: AbortSignal): Promise<void> {
    const { work, sources, sink, pipeline, checkpointEveryMs, onProgress } = this.options
    try {
      const histories = new BatchHistories(work, cacheBytes)
      await this.begin(histories.store, signal)
      const bus = new ReplayBus({
        sources,
        sink,
        checkpointEveryMs,
        partitions: pipeline.partitions,
        onProgress,
        ...(histories.checkpoints && { checkpoints: histories.checkpoints }),
      })
      await this.begin(bus, signal)
      await this.begin(await this.process(bus, histories, signal), signal)
      await unlessAborted(bus.done(), signal)
    } finally {
      // The last started is drained first; the bus then takes its last checkpoint, with the histories still there.
      while (this.components.length > 0) await this.components.pop()!.drain()
    }
  }

  private async begin<T extends Component>(component: T, signal: AbortSignal): Promise<T> {
    this.components.push(component)
    await component.start(signal)
    return component
  }

  private async process(bus: ReplayBus, { store }: BatchHistories, signal: AbortSignal): Promise<MeshProcess> {
    const { pipeline, services, telemetry, folder, otherStages } = this.options
    const metrics = createMeshMetrics(telemetry.registry)
    const lookups = createLookups(pipeline.features, { folder, logger: telemetry.logger })
    for (const lookup of lookups.values()) await this.begin(lookup, signal)
    const stages = [...preprocessingStages(pipeline, new FeatureEngine({ plan: pipeline.features, store, lookups }))]
    if (otherStages !== undefined)
      stages.push(...(await otherStages({ metrics, signal, begin: (component) => this.begin(component, signal) })))
    return new MeshProcess({
      pipeline,
      graph: compileGraph(pipeline),
      services,
      bus,
      stages: new Map(stages.map((stage) => [stage.name, stage])),
      peers: new Map(),
      telemetry,
      metrics,
      clock: systemClock,
    })
  }
}

async function unlessAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  const stopped = Promise.withResolvers<void>()
  const stop = (): void => stopped.reject(new MeshError('CANCELLED', 'stopped before its end'))
  signal.addEventListener('abort', stop, { once: true })
  try {
    if (signal.aborted) stop()
    await Promise.race([work, stopped.promise])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
