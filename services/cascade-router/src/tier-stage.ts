import { DEGRADED, ESCALATED, reasons, roundScores, route, type TierDefinition } from '@spillway/cascade'
import { setTimeout as wait } from 'node:timers/promises'
import {
  type Batch,
  type Clock,
  column,
  earliestDeadlineMs,
  type FixedTensor,
  fp64,
  inSourceOrder,
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
import type { InferResponse } from '@spillway/serving'
import type { MeshMetrics } from '@spillway/telemetry'
import { type GuardedModel, ModelUnavailable } from './guarded-model.ts'

export interface TierStageOptions {
  readonly name: string
  readonly tier: TierDefinition
  /** The model of the tier before, which answers where this one cannot; absent for the first. */
  readonly fallbackModel: string | undefined
  readonly model: GuardedModel
  /** Names and types as checked against the model's signature at start. */
  readonly input: { readonly tensor: string; readonly column: string }
  readonly score: { readonly tensor: string; readonly index: number }
  /** Of the first tier, which has no lower answer to give: whether rows of streams that are out of time fail instead of being scored late. */
  readonly refusesLate: boolean
  readonly clock: Clock
  readonly metrics: MeshMetrics
}

/** Time kept back for what follows a degraded answer. */
const marginMs = 10
const firstDelayMs = 50
const maxDelayMs = 2000

/** Why a row is not answered by this tier's model. */
type Reason = 'deadline' | 'unavailable'

/** A batch on its way through the tier: the rows that still wait for the model, and what became of the others. */
interface Pass {
  waiting: Batch
  /** Places of the waiting rows in the batch that the stage was given. */
  rows: ArrayLike<number>
  readonly degraded: Batch[]
  readonly failures: RowFailure[]
}

/**
 * One tier of a cascade: scores the rows, accepts what its policy lets it answer, and escalates the rest.
 * A row that is out of time is answered by the tier before, marked degraded. While the model is not called, calls are answered so at once,
 * and streams where the file says so; otherwise rows wait. The first tier has no lower answer: it fails the rows of calls, and scores those of streams late.
 * A score that is not a finite number is none: the next tier answers, and the last one fails the row.
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
    const { clock, fallbackModel, refusesLate } = this.options
    const rows = Array.from({ length: batch.rowCount }, (_, row) => row)
    const pass: Pass = { waiting: batch, rows, degraded: [], failures: [] }
    const hasDeadlines = context.mode === 'request' || fallbackModel !== undefined || refusesLate
    let neededMs = marginMs
    for (let delayMs = firstDelayMs; ; delayMs = Math.min(delayMs * 2, maxDelayMs)) {
      if (hasDeadlines) this.giveUpLate(pass, neededMs)
      if (pass.waiting.rowCount === 0) return this.result(pass, undefined)
      const deadlineMs = hasDeadlines ? earliestDeadlineMs(pass.waiting.meta.deadlinesMs) - marginMs : Infinity
      const startedMs = clock.nowMs()
      try {
        const response = await this.infer(pass.waiting, deadlineMs, context.signal)
        return this.result(pass, this.decide(pass, response))
      } catch (thrown) {
        const error = MeshError.from(thrown)
        if (!error.retryable || context.signal.aborted) throw error
        const nowMs = clock.nowMs()
        if (error instanceof ModelUnavailable && this.answersAtOnce(context)) {
          this.giveUpUnanswered(pass, context, error)
          if (pass.waiting.rowCount === 0) return this.result(pass, undefined)
        }
        // What has taken this long without an answer will not be answered in less.
        neededMs = error.code === 'DEADLINE_EXCEEDED' ? Math.max(marginMs, nowMs - startedMs) : marginMs
        const untilMs = error instanceof ModelUnavailable ? error.retryAtMs : nowMs + delayMs
        await wait(Math.max(0, Math.min(untilMs, deadlineMs) - nowMs), undefined, { signal: context.signal })
      }
    }
  }

  /** Whether rows are given another answer, and not kept waiting, while the model is not called. */
  private answersAtOnce({ mode }: StageContext): boolean {
    return mode === 'request' || this.options.tier.whenUnavailable === 'degrade'
  }

  private infer(batch: Batch, deadlineMs: number, signal: AbortSignal): Promise<InferResponse> {
    const { model, tier, input } = this.options
    return model.infer({
      model: tier.model,
      ...(tier.version === undefined ? {} : { version: tier.version }),
      inputs: new Map([[input.tensor, column(batch, input.column)]]),
      rowCount: batch.rowCount,
      keys: batch.meta.keys,
      deadlineMs,
      signal,
    })
  }

  /** Gives up rows with no more than `neededMs` left. */
  private giveUpLate(pass: Pass, neededMs: number): void {
    const limitMs = this.options.clock.nowMs() + neededMs
    const late = pass.waiting.meta.deadlinesMs.map((deadlineMs) => (deadlineMs <= limitMs ? 1 : 0))
    if (!late.includes(1)) return
    const { tier } = this.options
    const error = new MeshError('DEADLINE_EXCEEDED', `model "${tier.model}" could not answer before the row's deadline`)
    this.giveUp(pass, late, 'deadline', error)
  }

  /** Gives up all rows of a call, and of streams those that the tier before has scored. */
  private giveUpUnanswered(pass: Pass, { mode }: StageContext, error: MeshError): void {
    const scores = this.scoresBefore(pass.waiting)
    const marks = Float64Array.from({ length: pass.waiting.rowCount }, (_, row) => (mode === 'request' || isScore(scores?.[row]) ? 1 : 0))
    this.giveUp(pass, marks, 'unavailable', error)
  }

  /** What the tier before has made of the rows; the first has none before it. */
  private scoresBefore(batch: Batch): Float64Array | undefined {
    return this.options.fallbackModel === undefined ? undefined : (column(batch, 'score').data as Float64Array)
  }

  /** Rows marked 1: where the tier before has scored them, its score is the answer; where it has not, there is none to give. */
  private giveUp(pass: Pass, marks: Float64Array, reason: Reason, error: MeshError): void {
    const { fallbackModel, metrics, tier } = this.options
    const scores = this.scoresBefore(pass.waiting)
    const given: number[] = []
    const kept: number[] = []
    marks.forEach((mark, row) => {
      if (mark === 0) kept.push(row)
      else if (isScore(scores?.[row])) given.push(row)
      else pass.failures.push({ row: pass.rows[row]!, error: scores === undefined ? error : unscored(error, fallbackModel!, scores[row]!) })
    })
    if (fallbackModel !== undefined && given.length > 0) {
      const degraded = takeRows(pass.waiting, given)
      metrics.degraded(tier.model, reason, degraded.rowCount)
      metrics.tierRows(fallbackModel, 'degraded', degraded.rowCount)
      pass.degraded.push(withColumns(degraded, [['reason', reasonColumn(new Uint8Array(degraded.rowCount).fill(DEGRADED))]]))
    }
    pass.rows = kept.map((row) => pass.rows[row]!)
    pass.waiting = takeRows(pass.waiting, kept)
  }

  private decide(pass: Pass, response: InferResponse): { accepted: Batch; escalated: Batch } {
    const { tier, metrics, score } = this.options
    const { waiting: batch } = pass
    const scores = roundScores(this.scores(response, batch.rowCount))
    const decisions = route(scores, tier.accept)
    const all = withColumns(batch, [
      ['score', fp64(scores)],
      ['model', text(new Array<string>(batch.rowCount).fill(tier.model))],
      ['model_version', text(response.rowVersions ?? new Array<string>(batch.rowCount).fill(response.version))],
      ['reason', reasonColumn(decisions)],
    ])
    const counts = new Array<number>(reasons.length).fill(0)
    const escalated: number[] = []
    const kept: number[] = []
    decisions.forEach((decision, row) => {
      if (decision !== ESCALATED && !isScore(scores[row])) {
        const message = `model "${tier.model}" answered ${scores[row]} in its output "${score.tensor}", which is no score`
        pass.failures.push({ row: pass.rows[row]!, error: new MeshError('INTERNAL', message) })
        return
      }
      counts[decision]!++
      const taken = decision === ESCALATED ? escalated : kept
      taken.push(row)
    })
    counts.forEach((rows, reason) => {
      if (rows > 0) metrics.tierRows(tier.model, reasons[reason]!, rows)
    })
    return { accepted: kept.length === batch.rowCount ? all : takeRows(all, kept), escalated: takeRows(all, escalated) }
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

  private result({ degraded, failures }: Pass, decided: { accepted: Batch; escalated: Batch } | undefined): StageResult {
    const outputs = new Map<string, Batch>()
    const accepted = [...degraded, ...(decided === undefined ? [] : [decided.accepted])].filter((batch) => batch.rowCount > 0)
    if (accepted.length > 0) outputs.set('accepted', inSourceOrder(accepted))
    if (decided !== undefined && decided.escalated.rowCount > 0) outputs.set('escalated', decided.escalated)
    return { outputs, failures }
  }
}

/** JSON has no other numbers, and no threshold can judge them. */
function isScore(score: number | undefined): boolean {
  return Number.isFinite(score)
}

function unscored(error: MeshError, model: string, score: number): MeshError {
  return new MeshError(error.code, `${error.message}, and model "${model}" before it answered ${score}, which is no score`, {
    cause: error,
  })
}

function reasonColumn(codes: Uint8Array): Tensor {
  return { datatype: 'UINT8', shape: [codes.length], data: codes }
}
