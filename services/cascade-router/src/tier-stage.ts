import { DEGRADED, ESCALATED, reasons, roundScores, route, type TierDefinition } from '@spillway/cascade'
import { setTimeout as wait } from 'node:timers/promises'
import {
  type Batch,
  type Clock,
  column,
  earliestDeadlineMs,
  type FixedTensor,
  fp64,
  MeshError,
  type RowFailure,
  type Signature,
  type Stage,
  type StageContext,
  type StageResult,
  takeRows,
  type Tensor,
  text,
  withColumns,
} from '@spillway/core'
import { inSourceOrder } from '@spillway/mesh'
import type { InferResponse, ModelClient } from '@spillway/serving'
import type { MeshMetrics } from '@spillway/telemetry'

export interface TierStageOptions {
  readonly name: string
  readonly tier: TierDefinition
  /** The model of the tier before, which answers where this one cannot in time; absent for the first. */
  readonly fallbackModel: string | undefined
  readonly model: ModelClient
  /** Names and types as checked against the model's signature at start. */
  readonly input: { readonly tensor: string; readonly column: string }
  readonly score: { readonly tensor: string; readonly index: number }
  readonly clock: Clock
  readonly metrics: MeshMetrics
}

/** Time kept back for what follows a degraded answer. */
const marginMs = 10
const firstDelayMs = 50
const maxDelayMs = 2000

/**
 * One tier of a cascade: scores the rows, accepts what its policy lets it answer, and escalates the rest.
 * Where the model is away, rows without a deadline wait; a row with one is answered by the tier before when its time runs out, marked degraded.
 * Columns added: `score` FP64 [rows] (6 decimals), `model` and `model_version` BYTES [rows], `reason` UINT8 [rows] (see `reasons` in cascade).
 */
export class TierStage implements Stage {
  readonly name: string
  readonly accepts: Signature
  readonly ports: Readonly<Record<string, Signature>>
  private readonly options: TierStageOptions

  constructor(options: TierStageOptions) {
    this.name = options.name
    this.options = options
    this.accepts = new Map([[options.input.column, { datatype: 'FP32', rowShape: [-1] }]])
    const scored: Signature = new Map([
      ['score', { datatype: 'FP64', rowShape: [] }],
      ['model', { datatype: 'BYTES', rowShape: [] }],
      ['model_version', { datatype: 'BYTES', rowShape: [] }],
      ['reason', { datatype: 'UINT8', rowShape: [] }],
    ])
    this.ports = options.tier.accept === undefined ? { accepted: scored } : { accepted: scored, escalated: scored }
  }

  async process(batch: Batch, context: StageContext): Promise<StageResult> {
    const accepted: Batch[] = []
    const failures: RowFailure[] = []
    let waiting = batch
    let rows: ArrayLike<number> = Array.from({ length: batch.rowCount }, (_, row) => row)
    for (let delayMs = firstDelayMs; ; delayMs = Math.min(delayMs * 2, maxDelayMs)) {
      const [late, inTime] = this.splitByDeadline(waiting)
      if (late.length > 0) {
        this.giveUp(waiting, late, rows, accepted, failures)
        rows = inTime.map((row) => rows[row]!)
        waiting = takeRows(waiting, inTime)
      }
      if (waiting.rowCount === 0) return this.result(accepted, undefined, failures)
      const deadlineMs = earliestDeadlineMs(waiting.meta.deadlinesMs) - marginMs
      try {
        const response = await this.infer(waiting, deadlineMs, context.signal)
        return this.result(accepted, this.decide(waiting, response), failures)
      } catch (thrown) {
        const error = MeshError.from(thrown)
        if (!error.retryable || context.signal.aborted) throw error
        await wait(Math.min(delayMs, Math.max(0, deadlineMs - this.options.clock.nowMs())), undefined, { signal: context.signal })
      }
    }
  }

  private infer(batch: Batch, deadlineMs: number, signal: AbortSignal): Promise<InferResponse> {
    const { model, tier, input } = this.options
    return model.infer({
      model: tier.model,
      ...(tier.version === undefined ? {} : { version: tier.version }),
      inputs: new Map([[input.tensor, column(batch, input.column)]]),
      rowCount: batch.rowCount,
      deadlineMs,
      signal,
    })
  }

  /** Rows whose time is up, and the others. */
  private splitByDeadline(batch: Batch): readonly [late: number[], inTime: number[]] {
    const limitMs = this.options.clock.nowMs() + marginMs
    const late: number[] = []
    const inTime: number[] = []
    batch.meta.deadlinesMs.forEach((deadlineMs, row) => (deadlineMs <= limitMs ? late : inTime).push(row))
    return [late, inTime]
  }

  /** Rows out of time: the tier before has scored them, and its score is the answer; the first tier has none to give. */
  private giveUp(batch: Batch, late: readonly number[], rows: ArrayLike<number>, accepted: Batch[], failures: RowFailure[]): void {
    const { fallbackModel, metrics, tier } = this.options
    if (fallbackModel === undefined) {
      const error = new MeshError('DEADLINE_EXCEEDED', `model "${tier.model}" could not answer before the row's deadline`)
      failures.push(...late.map((row) => ({ row: rows[row]!, error })))
      return
    }
    const degraded = takeRows(batch, late)
    metrics.degraded(tier.model, degraded.rowCount)
    metrics.tierRows(fallbackModel, 'degraded', degraded.rowCount)
    accepted.push(withColumns(degraded, [['reason', reasonColumn(new Uint8Array(degraded.rowCount).fill(DEGRADED))]]))
  }

  private decide(batch: Batch, response: InferResponse): { accepted: Batch; escalated: Batch } {
    const { tier, metrics } = this.options
    const scores = roundScores(this.scores(response, batch.rowCount))
    const decisions = route(scores, tier.accept)
    const all = withColumns(batch, [
      ['score', fp64(scores)],
      ['model', text(new Array<string>(batch.rowCount).fill(tier.model))],
      ['model_version', text(new Array<string>(batch.rowCount).fill(response.version))],
      ['reason', reasonColumn(decisions)],
    ])
    const counts = new Array<number>(reasons.length).fill(0)
    for (const decision of decisions) counts[decision]!++
    counts.forEach((rows, reason) => {
      if (rows > 0) metrics.tierRows(tier.model, reasons[reason]!, rows)
    })
    if (counts[ESCALATED] === 0) return { accepted: all, escalated: takeRows(all, []) }
    const escalated: number[] = []
    const kept: number[] = []
    decisions.forEach((decision, row) => (decision === ESCALATED ? escalated : kept).push(row))
    return { accepted: takeRows(all, kept), escalated: takeRows(all, escalated) }
  }

  private scores(response: InferResponse, rowCount: number): ArrayLike<number> {
    const { score, tier } = this.options
    const output: Tensor | undefined = response.outputs.get(score.tensor)
    if (output === undefined || output.datatype === 'BYTES')
      throw new MeshError('INTERNAL', `model "${tier.model}" answered without its numeric output "${score.tensor}"`)
    const { data } = output as FixedTensor
    if (rowCount === 0 || data.length % rowCount !== 0)
      throw new MeshError('INTERNAL', `model "${tier.model}" answered ${data.length} values for ${rowCount} rows`)
    const width = data.length / rowCount
    if (width === 1 && !(data instanceof BigInt64Array) && !(data instanceof BigUint64Array)) return data
    return Float64Array.from({ length: rowCount }, (_, row) => Number(data[row * width + score.index]))
  }

  private result(
    degraded: readonly Batch[],
    decided: { accepted: Batch; escalated: Batch } | undefined,
    failures: readonly RowFailure[],
  ): StageResult {
    const outputs = new Map<string, Batch>()
    const accepted = [...degraded, ...(decided === undefined ? [] : [decided.accepted])].filter((batch) => batch.rowCount > 0)
    if (accepted.length > 0) outputs.set('accepted', inSourceOrder(accepted))
    if (decided !== undefined && decided.escalated.rowCount > 0) outputs.set('escalated', decided.escalated)
    return { outputs, failures }
  }
}

function reasonColumn(codes: Uint8Array): Tensor {
  return { datatype: 'UINT8', shape: [codes.length], data: codes }
}
