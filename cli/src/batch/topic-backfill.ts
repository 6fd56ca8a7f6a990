import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Lag } from '@spillway/bus'
import { type Component, MeshError } from '@spillway/core'
import { EmbeddedHistoryStore } from '@spillway/features'
import type { Pipeline } from '@spillway/mesh'
import type { LogLevel } from '@spillway/telemetry'
import type { BusAddress } from '../bus-address.ts'
import { backfillPipeline, backfillStages, type TimeRange, withinRange, withoutDeadlines } from './backfill.ts'
import { cacheBytes } from './batch-histories.ts'
import { batchProcess } from './batch-process.ts'
import { batchTelemetry } from './batch-telemetry.ts'
import { BoundedBus, type Ends, endsOf } from './bounded-bus.ts'
import { batchBus } from './inputs.ts'
import { ProgressLine } from './progress.ts'
import type { WorkFolder } from './work-folder.ts'

export interface TopicBackfillOptions {
  readonly pipeline: Pipeline
  readonly redisUrl: string | undefined
  readonly bus: BusAddress
  readonly range: TimeRange
  /** Behind the names of the pipeline's output topics. */
  readonly suffix: string
  readonly name: string
  readonly work: WorkFolder
  readonly logLevel: LogLevel
  readonly signal: AbortSignal
}

/** A batch run of a pipeline into topics of the bus that it reads. @throws MeshError CANCELLED where the signal fired first */
export async function topicBackfill(options: TopicBackfillOptions): Promise<void> {
  const { range, work, signal, name, redisUrl } = options
  if (existsSync(donePath(work)))
    throw new MeshError('FAILED_PRECONDITION', `run "${name}" has come to its end: give another one another --name and --work`, {
      field: '--name',
    })
  const pipeline = renamed(backfillPipeline(options.pipeline), options)
  const telemetry = batchTelemetry(options.logLevel)
  const components: Component[] = []
  const begin = async <T extends Component>(component: T): Promise<T> => {
    components.push(component)
    await component.start(signal)
    return component
  }
  const progress = new ProgressLine()
  try {
    const bus = await begin(batchBus(options.bus, pipeline, telemetry))
    const topics = [...pipeline.inputs.values()].map(({ topic }) => topic)
    const ends = asEnds(await work.decided('ends', async () => asStored(await endsOf(bus, topics, signal))))
    const bounded = new BoundedBus({
      bus,
      ends,
      prepare: withoutDeadlines,
      write: (write) => (write.topic === pipeline.deadLetterTopic ? write : withinRange(write, range)),
    })
    const store = await begin(new EmbeddedHistoryStore({ path: work.historiesPath, cacheBytes, exclusive: true }))
    const process = await batchProcess(
      {
        pipeline,
        redisUrl,
        services: new Set(['preprocessing', 'cascade-router', 'postprocessing']),
        telemetry,
        otherStages: (parts) => backfillStages(pipeline, telemetry, parts),
      },
      { bus: bounded, store, histories: store, begin, signal },
    )
    await begin(process)
    await bounded.done(signal, (lags) => progress.show(shareOf(lags), []))
    writeFileSync(donePath(work), '{}\n')
  } finally {
    progress.end()
    while (components.length > 0) await components.pop()!.drain()
    await telemetry.shutdown()
  }
  const { predictions, alerts, deadLetterTopic } = pipeline
  console.error(`wrote to ${predictions.topic}, ${alerts.topic} and ${deadLetterTopic}, in ${progress.seconds.toFixed(1)} s`)
  console.error(`run "${name}" is over; its folder ${work.path} and group ${pipeline.groupOf('preprocessing')} may be deleted`)
}

function donePath(work: WorkFolder): string {
  return join(work.path, 'done.json')
}

/** Outputs and group of its own. */
function renamed(pipeline: Pipeline, { suffix, name }: TopicBackfillOptions): Pipeline {
  return {
    ...pipeline,
    predictions: { ...pipeline.predictions, topic: `${pipeline.predictions.topic}${suffix}` },
    alerts: { ...pipeline.alerts, topic: `${pipeline.alerts.topic}${suffix}` },
    deadLetterTopic: `${pipeline.deadLetterTopic}${suffix}`,
    groupOf: () => `${pipeline.name}.backfill.${name}`,
  }
}

function shareOf(lags: readonly Lag[]): { records: number; share: number } {
  let done = 0
  let all = 0
  for (const { committedOffset, endOffset } of lags) {
    all += Number(endOffset)
    done += Number(committedOffset < endOffset ? committedOffset : endOffset)
  }
  return { records: done, share: all === 0 ? 0 : done / all }
}

type StoredEnds = Readonly<Record<string, Readonly<Record<string, string>>>>

function asStored(ends: Ends): StoredEnds {
  return Object.fromEntries(
    [...ends].map(([topic, partitions]) => [
      topic,
      Object.fromEntries([...partitions].map(([partition, end]) => [String(partition), String(end)])),
    ]),
  )
}

function asEnds(stored: StoredEnds): Ends {
  return new Map(
    Object.entries(stored).map(([topic, partitions]) => [
      topic,
      new Map(Object.entries(partitions).map(([partition, end]) => [Number(partition), BigInt(end)])),
    ]),
  )
}
