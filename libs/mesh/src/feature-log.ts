import { type Batch, column, rowMeta, type Signature, type Stage, type StageContext, type StageResult } from '@spillway/core'
import type { FeaturePlan } from '@spillway/features'
import type { CallLog } from './call-log.ts'
import { rowsPort } from './custom-stage.ts'
import { featureLogStage, type StageId } from './graph.ts'

/**
 * Keeps the vectors that the first tier is about to be given: on a stream beside the answers, in the same commit; those of calls in `calls`, as far as there
 * is room. A row of the log has the event's id, key, times and source position, which a call's has not, and the vector's column; nothing else.
 */
export class FeatureLogStage implements Stage {
  readonly name: StageId = featureLogStage
  readonly accepts: Signature
  readonly ports: Readonly<Record<string, Signature>>
  private readonly column: string
  private readonly calls: CallLog | undefined

  constructor(options: { readonly vector: FeaturePlan['vector']; readonly calls: CallLog | undefined }) {
    const { vector, calls } = options
    const served: Signature = new Map([[vector.column, vector.type]])
    this.accepts = served
    this.ports = { [rowsPort]: served, log: served }
    this.column = vector.column
    this.calls = calls
  }

  process(batch: Batch, { mode }: StageContext): Promise<StageResult> {
    const outputs = new Map([[rowsPort, batch]])
    if (mode === 'stream') outputs.set('log', this.logged(batch, true))
    else this.calls?.offer(this.logged(batch, false))
    return Promise.resolve({ outputs, failures: [] })
  }

  private logged(batch: Batch, positioned: boolean): Batch {
    const { ids, keys, eventTimesMs, ingestTimesMs, topics, partitions, offsets } = batch.meta
    const known = { ids, keys, eventTimesMs, ingestTimesMs, ...(positioned && { topics, partitions, offsets }) }
    const columns = new Map([[this.column, column(batch, this.column)]])
    return { rowCount: batch.rowCount, meta: rowMeta(batch.rowCount, known), columns }
  }
}
