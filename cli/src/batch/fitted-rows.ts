import type { ReplaySink } from '@spillway/bus'
import type { SourceRows, StatisticsFitter } from '@spillway/features'
import { joinKeys, type LabelIndex } from './label-index.ts'
import { numberText } from './progress.ts'

export interface FittedRowsOptions {
  readonly fitter: StatisticsFitter
  /** Event times that count, ms since the epoch: from inclusive, to exclusive. */
  readonly fromMs: number
  readonly toMs: number
  readonly labels: LabelIndex | undefined
  /** Field by which labels and events belong together; their ids where undefined. */
  readonly on: string | undefined
}

/** Gives a fitter the rows that count, with their labels. */
export class FittedRows {
  private readonly options: FittedRowsOptions
  private given = 0
  private rejectedEvents = 0

  constructor(options: FittedRowsOptions) {
    this.options = options
  }

  add(source: SourceRows): void {
    const { fitter, fromMs, toMs } = this.options
    const { eventTimesMs } = source.batch.meta
    const rows = source.rows.filter((row) => eventTimesMs[row]! >= fromMs && eventTimesMs[row]! < toMs)
    if (rows.length === 0) return
    this.given += rows.length
    fitter.add({ ...source, rows }, this.labelsOf(source))
  }

  get rejected(): number {
    return this.rejectedEvents
  }

  facts(): readonly string[] {
    return [`rows ${numberText(this.given)}`, `rejected ${numberText(this.rejectedEvents)}`]
  }

  /** There are no outputs; dead letters are counted. */
  sink(deadLetterTopic: string): ReplaySink {
    return {
      resume: () => Promise.resolve(),
      flush: () => Promise.resolve(),
      write: (_slice, writes) => {
        for (const { topic, records } of writes) if (topic === deadLetterTopic) this.rejectedEvents += records.count
        return Promise.resolve()
      },
    }
  }

  /** One a row of the batch; NaN where no label is known. */
  private labelsOf({ batch }: SourceRows): Float64Array | undefined {
    const { labels, on } = this.options
    if (labels === undefined) return undefined
    const key = joinKeys(batch, on)
    return Float64Array.from({ length: batch.rowCount }, (_, row) => Number(labels.get(key(row)) ?? NaN))
  }
}
