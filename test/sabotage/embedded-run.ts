import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Bus, EmbeddedBus, type Records, sliceRecords } from '@spillway/bus'
import { tierStages } from '@spillway/cascade-router'
import { type Component, systemClock } from '@spillway/core'
import type { PlayEvent } from '@spillway/example-fraud'
import { EmbeddedHistoryStore, FeatureEngine, type FeaturePlan, type HistoryStore } from '@spillway/features'
import { compileGraph, loadPipeline, MeshProcess, pipelineTopics, type Segment, stageServices } from '@spillway/mesh'
import { postprocessingStage } from '@spillway/postprocessing'
import { preprocessingStages } from '@spillway/preprocessing'
import { LocalModelClient, ModelManager } from '@spillway/serving'
import { createMeshMetrics, createTelemetry } from '@spillway/telemetry'
import { check } from '../checker/check.ts'
import type { CheckedRecord } from '../checker/record.ts'
import type { Report } from '../checker/report.ts'
import { fraudNames, pipelineFacts, topicRecords, writePipeline } from '../e2e/fraud-run.ts'
import { until } from '../e2e/processes.ts'
import { readBus } from '../e2e/read-bus.ts'

/** Where a run may be tampered with: in front of the bus, or of the history store. */
export interface Sabotage {
  readonly bus?: (bus: Bus) => Bus
  readonly store?: (store: HistoryStore, plan: FeaturePlan) => HistoryStore
}

/** Slices small enough that a customer's transactions come in several. */
const slices = { maxRecords: 100, maxBytes: 1_000_000 }

/** Takes the events through the fraud pipeline on the embedded bus, all in this process, and gives what the checker says of it: every score recomputed. */
export async function embeddedRun(events: readonly PlayEvent[], sabotage: Sabotage = {}): Promise<Report> {
  const folder = mkdtempSync(join(tmpdir(), 'spillway-sabotage-'))
  const started: Component[] = []
  const signal = AbortSignal.timeout(60_000)
  const begin = async <T extends Component>(component: T): Promise<T> => {
    started.push(component)
    await component.start(signal)
    return component
  }
  try {
    const names = fraudNames('sabotage')
    const pipeline = { ...(await loadPipeline(writePipeline(folder, names, { predictions: { features: true } }))), slices }
    const graph = compileGraph(pipeline)
    const telemetry = createTelemetry({ service: 'sabotage', logLevel: 'silent', otlp: false })
    const metrics = createMeshMetrics(telemetry.registry)
    const manager = await begin(new ModelManager({ repository: pipeline.modelsPath, telemetry }))
    const bus = await begin(new EmbeddedBus({ path: ':memory:' }))
    const store = await begin(new EmbeddedHistoryStore({ path: ':memory:' }))
    const engine = new FeatureEngine({ plan: pipeline.features, store: sabotage.store?.(store, pipeline.features) ?? store })
    const stages = [
      ...preprocessingStages(pipeline, engine),
      ...(await tierStages({ pipeline, modelOf: () => new LocalModelClient(manager), clock: systemClock, metrics, telemetry, signal })),
      postprocessingStage(pipeline),
    ]
    // All events lie there before the first is read: a slice's cut, and so the point of the sabotage, is the same in every run.
    await bus.topics.ensure(pipelineTopics(pipeline, graph).map(({ name }) => ({ name, partitions: pipeline.partitions })))
    for (const topic of ['transactions', 'labels'] as const) await publishAll(bus, names[topic], topicRecords(events, topic))
    const process = await begin(
      new MeshProcess({
        pipeline,
        graph,
        telemetry,
        metrics,
        clock: systemClock,
        peers: new Map(),
        services: new Set(stageServices),
        bus: sabotage.bus?.(bus) ?? bus,
        stages: new Map(stages.map((stage) => [stage.name, stage])),
      }),
    )
    for (const segment of process.segments) await caughtUp(bus, segment)
    const read = (topic: string): Promise<CheckedRecord[]> => readBus(bus, topic)
    return await check({
      inputs: { [names.transactions]: await read(names.transactions), [names.labels]: await read(names.labels) },
      predictions: await read(names.predictions),
      alerts: await read(names.alerts),
      deadLetters: await read(names.deadLetters),
      pipeline: { ...pipelineFacts(names), showsFeatures: true },
    })
  } finally {
    while (started.length > 0) await started.pop()!.drain()
    rmSync(folder, { recursive: true, force: true })
  }
}

async function publishAll(bus: Bus, topic: string, records: Records): Promise<void> {
  for (let start = 0; start < records.count; start += 2000)
    await bus.publish(topic, sliceRecords(records, start, Math.min(records.count, start + 2000)))
}

/** A segment in front of it must have caught up before. */
async function caughtUp(bus: Bus, segment: Segment): Promise<void> {
  await until(
    `segment ${segment.plan.name} to reach the end of its topics`,
    async () => {
      for (const { topic } of segment.plan.sources) {
        for (const { partition, end } of await bus.topics.offsets(topic)) {
          const lag = segment.lags.find((each) => each.topic === topic && each.partition === partition)
          if (lag?.committedOffset !== end) return undefined
        }
      }
      return true
    },
    60_000,
  )
}
