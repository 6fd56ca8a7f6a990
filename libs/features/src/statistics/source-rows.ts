import type { Batch } from '@spillway/core'
import type { ColumnData } from '../columns/column-data.ts'

/** What columns of one predicting input are made from, a batch of it. */
export interface SourceRows {
  readonly input: string
  readonly batch: Batch
  /** By column: what windows and look-ups computed. */
  readonly given: ReadonlyMap<string, ColumnData>
  /** Rows of the batch that did not fail. */
  readonly rows: readonly number[]
}
