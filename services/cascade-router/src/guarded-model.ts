import { type BreakerSettings, CircuitBreaker, type CallOutcome } from '@spillway/cascade'
import { type Clock, MeshError } from '@spillway/core'
import type { InferRequest, InferResponse, ModelClient } from '@spillway/serving'
import type { MeshMetrics, Telemetry } from '@spillway/telemetry'

export interface GuardedModelOptions {
  /** The tier's model. */
  readonly model: string
  readonly client: ModelClient
  /** Whether an answer that comes too late, or a full queue, is a failure too: it is where another tier can answer instead, and only load where none can. */
  readonly lateIsFailure: boolean
  readonly clock: Clock
  readonly metrics: MeshMetrics
  readonly logger: Telemetry['logger']
  readonly breaker?: BreakerSettings
}

/** A caller that gave the model less time than this says nothing of the model when it gets no answer. */
const fairTrialMs = 50

/** The model is not called: its breaker is open. */
export class ModelUnavailable extends MeshError {
  /** When another attempt is worth making, ms since the epoch. */
  readonly retryAtMs: number

  constructor(model: string, retryAtMs: number, cause: MeshError | undefined) {
    const because = cause === undefined ? '' : `: ${cause.message}`
    super('UNAVAILABLE', `model "${model}" fails, and is not called for the moment${because}`, { cause })
    this.retryAtMs = retryAtMs
  }
}

/** A tier's model behind a circuit breaker: while it is away or overloaded it is not called, but for a probe now and then. */
export class GuardedModel {
  private readonly options: GuardedModelOptions
  private readonly breaker: CircuitBreaker
  private lastFailure: MeshError | undefined

  constructor(options: GuardedModelOptions) {
    const { model, metrics, logger } = options
    this.options = options
    metrics.breaker(model, 'closed')
    let away = false
    this.breaker = new CircuitBreaker(options.breaker, (state) => {
      metrics.breaker(model, state)
      const reason = this.lastFailure?.message
      if (state === 'closed') logger.info({ model }, 'the model answers: its circuit breaker is closed')
      else if (state === 'open' && !away) logger.warn({ model, reason }, 'the model fails: its circuit breaker is open')
      else logger.debug({ model, state, reason }, 'the model is probed')
      away = state !== 'closed'
    })
  }

  /** @throws ModelUnavailable where it is not called; else as the client does */
  async infer(request: InferRequest): Promise<InferResponse> {
    const { model, client, clock } = this.options
    const startedMs = clock.nowMs()
    const permit = this.breaker.ask(startedMs)
    if (permit === undefined) throw new ModelUnavailable(model, this.breaker.retryAtMs(startedMs), this.lastFailure)
    try {
      const response = await client.infer(request)
      permit.settle('answered', clock.nowMs())
      return response
    } catch (thrown) {
      const error = MeshError.from(thrown)
      const nowMs = clock.nowMs()
      const outcome = this.options.lateIsFailure || error.code === 'UNAVAILABLE' ? outcomeOf(error, request, startedMs, nowMs) : 'unknown'
      if (outcome === 'failed') this.lastFailure = error
      permit.settle(outcome, nowMs)
      // Whoever opened it, or probed in vain, is told like those that come after.
      throw outcome === 'failed' && this.breaker.state === 'open'
        ? new ModelUnavailable(model, this.breaker.retryAtMs(nowMs), error)
        : error
    }
  }
}

/** Other codes than transient ones are about the rows: the model has answered. */
function outcomeOf(error: MeshError, { signal, deadlineMs }: InferRequest, startedMs: number, nowMs: number): CallOutcome {
  if (!error.retryable && error.code !== 'CANCELLED') return 'answered'
  // A caller's cancellation and its deadline come at the same moment where the deadline is why it cancels.
  const late = error.code === 'DEADLINE_EXCEEDED' || nowMs >= deadlineMs
  if (late) return deadlineMs - startedMs < fairTrialMs ? 'unknown' : 'failed'
  return signal.aborted || error.code === 'CANCELLED' ? 'unknown' : 'failed'
}
