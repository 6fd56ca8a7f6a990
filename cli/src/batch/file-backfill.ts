import { join } from 'node:path'
import type { Write } from '@spillway/bus'
import type { BytesColumn } from '@spillway/core'
import type { Pipeline } from '@spillway/mesh'
import type { LogLevel, Telemetry } from '@spillway/telemetry'
import { lineFormat, tableRowFormat } from '../tables/row-format.ts'
import type { TableFormat, TableRows } from '../tables/table.ts'
import {
  backfillPipeline,
  backfillStages,
  predictionRows,
  predictionSchema,
  type TimeRange,
  timelessSource,
  withinRange,
} from './backfill.ts'
import { BatchRun } from './batch-run.ts'
import { BatchSink, type WriteTaker } from './batch-sink.ts'
import { batchTelemetry } from './batch-telemetry.ts'
import { type BatchInputs, type InputAddress, openInputs } from './inputs.ts'
import { numberText, ProgressLine, replayProgress } from './progress.ts'
import { RejectedFile } from './rejected-file.ts'
import { type BatchOutput, checkUnused, rowOutput } from './row-output.ts'
import type { WorkFolder } from './work-folder.ts'

export interface FileBackfillOptions {
  readonly pipeline: Pipeline
  readonly redisUrl: string | undefined
  readonly address: InputAddress
  readonly range: TimeRange
  readonly out: string
  readonly format: TableFormat
  readonly work: WorkFolder | undefined
  readonly checkpointEveryMs: number
  readonly logLevel: LogLevel
  readonly signal: AbortSignal
}

/** A batch run of a pipeline into files. @throws MeshError CANCELLED where the signal fired first */
export async function fileBackfill(options: FileBackfillOptions): Promise<void> {
  const { work, out, logLevel, signal, address } = options
  const folders = ['predictions', 'alerts'].map((name) => join(out, name))
  if (work?.resumed !== true) for (const folder of folders) checkUnused(folder)
  const pipeline = { ...backfillPipeline(options.pipeline), ...(address.kind === 'files' && { partitions: 1 }) }
  const telemetry = batchTelemetry(logLevel)
  let inputs: BatchInputs | undefined
  try {
    inputs = await openInputs(address, pipeline, telemetry, signal)
    await replay(options, { pipeline, inputs, telemetry })
    work?.remove()
  } finally {
    await inputs?.close()
    await telemetry.shutdown()
  }
}

interface ReplayParts {
  readonly pipeline: Pipeline
  readonly inputs: BatchInputs
  readonly telemetry: Telemetry
}

async function replay(options: FileBackfillOptions, { pipeline, inputs, telemetry }: ReplayParts): Promise<void> {
  const { out, work, redisUrl, checkpointEveryMs, signal } = options
  const tables = [pipeline.predictions.topic, pipeline.alerts.topic].map((topic, index) =>
    eventTable(join(out, index === 0 ? 'predictions' : 'alerts'), index === 0 ? 'predictions' : 'alerts', { ...options, pipeline }, topic),
  )
  const sink = new BatchSink({
    outputs: tables.map(({ output }) => output),
    takers: new Map(tables.map(({ topic, take }) => [topic, take])),
    deadLetterTopic: pipeline.deadLetterTopic,
    rejected: new RejectedFile(join(out, 'dead-letters.ndjson')),
    work,
  })
  const progress = new ProgressLine()
  const facts = (): string[] => [
    `predictions ${numberText(sink.count('predictions'))}`,
    `alerts ${numberText(sink.count('alerts'))}`,
    `dead letters ${numberText(sink.count('rejected'))}`,
  ]
  const run = new BatchRun({
    pipeline,
    redisUrl,
    services: new Set(['preprocessing', 'cascade-router', 'postprocessing']),
    sources: [...pipeline.inputs.values()].map((input) => timelessSource(inputs.source(input))),
    otherStages: (parts) => backfillStages(pipeline, telemetry, parts),
    sink,
    work,
    checkpointEveryMs,
    telemetry,
    onProgress: (state) => progress.show(replayProgress(state), facts()),
  })
  try {
    await run.run(signal)
    await sink.finish([sink.count('predictions'), sink.count('alerts')])
  } catch (thrown) {
    await sink.abandon()
    throw thrown
  } finally {
    progress.end()
  }
  const outside = sink.count('outside')
  const left = outside === 0 ? '' : ` (${numberText(outside)} predictions outside of the range were not written)`
  console.error(`${out}: ${facts().join(', ')}${left}, in ${progress.seconds.toFixed(1)} s`)
}

interface EventTable {
  readonly topic: string
  readonly output: BatchOutput
  readonly take: WriteTaker
}

/** NDJSON is the events as they would lie on the topic; the other formats have their members as columns. */
function eventTable(folder: string, name: string, options: FileBackfillOptions, topic: string): EventTable {
  const { format, pipeline, range } = options
  const target = { path: folder, kind: 'folder', format } as const
  const taker =
    (write: (events: BytesColumn) => Promise<void>): WriteTaker =>
    async (given: Write) => {
      const { records } = withinRange(given, range)
      await write(records.values)
      const outside = name === 'predictions' ? given.records.count - records.count : 0
      return { [name]: records.count, outside }
    }
  if (format === 'ndjson') {
    const output = rowOutput<BytesColumn>(target, lineFormat('ndjson'), undefined)
    return { topic, output, take: taker((events) => output.write(events)) }
  }
  const schema = predictionSchema(pipeline, {
    'spillway.table': name,
    'spillway.pipeline': pipeline.name,
    'spillway.release': pipeline.release,
    'spillway.definition': pipeline.features.hash,
  })
  const output = rowOutput<TableRows>(target, tableRowFormat(format, schema), undefined)
  return { topic, output, take: taker((events) => output.write(predictionRows(schema, events))) }
}
