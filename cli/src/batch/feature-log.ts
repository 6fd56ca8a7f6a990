import type { Bus, Slice } from '@spillway/bus'
import { type Batch, bytesAt, MeshError } from '@spillway/core'
import type { Pipeline } from '@spillway/mesh'
import { decodeFrame } from '@spillway/wire'
import type { PartFiles } from '../tables/part-files.ts'
import type { ColumnValues, TableColumn, TableRows, TableSchema } from '../tables/table.ts'
import type { PositionsFile, ReadPositions } from './positions-file.ts'
import { rowColumns, rowValues, vectorColumns, vectorValues } from './vector-table.ts'

/** A part is ended when it has so many rows, though no checkpoint is due. */
const maxPartRows = 500_000
const sliceRecords = 64

/** An export's columns, and by what and how each vector was made. A call's vector has no source position. */
export function logSchema(pipeline: Pipeline): TableSchema {
  const nullable = new Set(['topic', 'partition', 'offset'])
  const made = ['definition_hash', 'release', 'mode'].map((name): TableColumn => ({ name, kind: 'string', nullable: false }))
  const columns = [...rowColumns.map((column) => ({ ...column, nullable: nullable.has(column.name) })), ...vectorColumns(pipeline), ...made]
  const metadata = {
    'spillway.table': 'features log',
    'spillway.pipeline': pipeline.name,
    'spillway.definition': pipeline.features.hash,
    'spillway.features': JSON.stringify(pipeline.features.vector.names),
  }
  return { columns, metadata }
}

function logRows(batch: Batch, pipeline: Pipeline, release: string): TableRows {
  const { rowCount, meta } = batch
  const fromCall = Array.from(meta.offsets, (offset) => offset < 0n)
  const [ids, keys, times] = rowValues(batch) as [ColumnValues, ColumnValues, ColumnValues]
  const columns: ColumnValues[] = [
    ids,
    keys,
    times,
    meta.topics.map((topic) => (topic === '' ? null : topic)),
    fromCall.map((call, row) => (call ? null : BigInt(meta.partitions[row]!))),
    fromCall.map((call, row) => (call ? null : meta.offsets[row]!)),
    ...vectorValues(batch, pipeline),
    new Array<string>(rowCount).fill(pipeline.features.hash),
    new Array<string>(rowCount).fill(release),
    fromCall.map((call) => (call ? 'request' : 'stream')),
  ]
  return { rowCount, columns }
}

export interface FeatureLogOptions {
  readonly pipeline: Pipeline
  readonly bus: Bus
  readonly topic: string
  readonly parts: PartFiles<TableRows>
  readonly file: PositionsFile
  readonly checkpointEveryMs: number
  /** Goes on with what is still to come. */
  readonly follow: boolean
  readonly onProgress: (log: FeatureLogWriter) => void
}

/** Writes the feature log's topic to part files, each row once: a part's rows and the positions behind them are as of one checkpoint. */
export class FeatureLogWriter {
  private readonly options: FeatureLogOptions
  private at: ReadPositions
  private rowsSince = 0
  private changed = false
  private readonly passed = new Map<string, number>()

  constructor(options: FeatureLogOptions, from: ReadPositions) {
    this.options = options
    this.at = from
  }

  /** In all runs. */
  get rows(): number {
    return this.at.rows + this.rowsSince
  }

  /** Rows of this run that were left out, by the definition that made them: they have other columns. */
  get otherDefinitions(): ReadonlyMap<string, number> {
    return this.passed
  }

  /** Resolves at the topic's end, or with `follow` when the signal fires. @throws MeshError DATA_LOSS where records were dropped before they were read */
  async run(signal: AbortSignal): Promise<void> {
    const { bus, topic, parts, follow, checkpointEveryMs, onProgress } = this.options
    parts.resume(this.at.checkpoint)
    const ends = new Map((await bus.topics.offsets(topic)).map(({ partition, end }) => [partition, end]))
    const subscription = { topic, from: this.at.positions, complete: this.at.checkpoint > 0, maxSliceRecords: sliceRecords, signal }
    const slices = bus.subscribe(follow ? subscription : { ...subscription, until: ends })[Symbol.asyncIterator]()
    try {
      for (let next = slices.next(); ;) {
        const read = await within(next, checkpointEveryMs)
        if (read === 'due') await this.checkpoint()
        else if (read.done === true) break
        else {
          await this.take(read.value)
          next = slices.next()
        }
        onProgress(this)
      }
    } catch (thrown) {
      if (!signal.aborted) throw thrown
    } finally {
      await this.checkpoint()
    }
  }

  private async take({ partition, records, offsets }: Slice): Promise<void> {
    const { pipeline, parts } = this.options
    for (let record = 0; record < records.count; record++) {
      const { batch, info } = decodeFrame(bytesAt(records.values, record))
      if (info.schema === pipeline.features.hash) {
        await parts.write(logRows(batch, pipeline, info.release))
        this.rowsSince += batch.rowCount
      } else this.passed.set(info.schema, (this.passed.get(info.schema) ?? 0) + batch.rowCount)
    }
    const positions = new Map(this.at.positions).set(partition, offsets.at(-1)! + 1n)
    this.at = { ...this.at, positions }
    this.changed = true
    if (this.rowsSince >= maxPartRows) await this.checkpoint()
  }

  private async checkpoint(): Promise<void> {
    if (!this.changed) return
    const next = { ...this.at, checkpoint: this.at.checkpoint + 1, rows: this.rows }
    await this.options.parts.flush(next.checkpoint)
    this.options.file.store(next)
    this.at = next
    this.rowsSince = 0
    this.changed = false
  }
}

/** `due` where it takes longer. */
async function within<T>(work: Promise<T>, timeMs: number): Promise<T | 'due'> {
  const { promise: over, resolve } = Promise.withResolvers<'due'>()
  const timer = setTimeout(() => resolve('due'), timeMs)
  try {
    return await Promise.race([work, over])
  } finally {
    clearTimeout(timer)
  }
}

/** The pipeline's feature log. @throws MeshError FAILED_PRECONDITION where it keeps none */
export function logTopic(pipeline: Pipeline, file: string): string {
  if (pipeline.featureLog === undefined)
    throw new MeshError('FAILED_PRECONDITION', `${file}: the pipeline keeps no feature log: add "featureLog: {}" to the file`, {
      field: 'featureLog',
    })
  return pipeline.featureLog.topic
}
