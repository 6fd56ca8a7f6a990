import { type Batch, MeshError, rowMeta, type Runner, type StageObserver, type Tensor } from '@spillway/core'
import { batchSpan, type Telemetry } from '@spillway/telemetry'
import type { Backend, ModelSignature, Tensors } from '../../backend.ts'
import type { EnsembleStep, ModelConfig } from '../../config/model-config.ts'
import type { Models } from '../../models.ts'
import { answerSink, linkEnsemble } from './ensemble-links.ts'
import { type EnsemblePlan, planEnsemble, stepTitle } from './ensemble-plan.ts'
import { columnsOf } from './step-stage.ts'
import { asRow, ofRow, type TensorType, textOf, typeOf } from './tensor-type.ts'

export interface EnsembleBackendOptions {
  readonly config: ModelConfig
  readonly models: () => Models
  readonly telemetry: Telemetry
}

/**
 * A model that is made of others (Triton's `ensemble_scheduling`): its steps are stages, run as a pipeline's are, and each calls its model as any caller would, so
 * that queue, batches, versions and statistics are the model's.
 */
export class EnsembleBackend implements Backend {
  readonly stoppable = true
  /** It waits for nothing of its own: the queues are its models'. */
  readonly concurrency: number = Infinity
  readonly #options: EnsembleBackendOptions
  readonly #name: string
  readonly #steps: readonly EnsembleStep[]
  #signatures: readonly ModelSignature[] = []
  #plan: EnsemblePlan | undefined
  #runner: Runner | undefined

  constructor(options: EnsembleBackendOptions) {
    this.#options = options
    this.#name = options.config.name
    this.#steps = options.config.ensemble ?? []
  }

  get signature(): ModelSignature {
    return this.#known().signature
  }

  get maxBatchRows(): number {
    return this.#known().maxBatchRows
  }

  #known(): EnsemblePlan {
    if (this.#plan === undefined) throw new MeshError('UNAVAILABLE', `ensemble "${this.#name}" is not loaded`)
    return this.#plan
  }

  /** @throws MeshError UNAVAILABLE where a step's model is not loaded, FAILED_PRECONDITION where the steps do not fit; both name ensemble, step and tensor */
  async start(signal: AbortSignal): Promise<void> {
    this.#signatures = await Promise.all(this.#steps.map((step, index) => this.#signatureOf(step, index)))
    if (signal.aborted) throw MeshError.from(signal.reason, 'CANCELLED')
    const plan = planEnsemble(this.#options.config, this.#signatures)
    const { signature, batched } = plan
    const answer = new Map(
      Array.from(signature.outputs.keys(), (name): [string, TensorType] => [name, typeOf(signature, 'outputs', name)!]),
    )
    this.#plan = plan
    this.#runner = linkEnsemble({
      ensemble: this.#name,
      plan,
      answer: columnsOf(answer, batched),
      models: this.#options.models,
      observer: this.#observer(),
    })
  }

  async #signatureOf(step: EnsembleStep, index: number): Promise<ModelSignature> {
    const { model, version } = step
    const who = `ensemble "${this.#name}": ${stepTitle(index, step)}`
    if (model === this.#name)
      throw new MeshError('FAILED_PRECONDITION', `${who} is the ensemble itself: expected another model`, {
        field: `ensemble_scheduling.step[${index}].model_name`,
      })
    try {
      const handle = await this.#options.models().acquire(model, version === undefined ? {} : { version })
      handle.release()
      return handle.signature
    } catch (thrown) {
      // It may come yet: another attempt is worth it.
      throw new MeshError('UNAVAILABLE', `${who} is not loaded: ${MeshError.from(thrown).message}`, {
        cause: thrown,
        field: `ensemble_scheduling.step[${index}].model_name`,
      })
    }
  }

  /** Whether it would go on with this version of one of its models. @throws MeshError FAILED_PRECONDITION naming both, and why not */
  checkStep(model: string, version: string, signature: ModelSignature): void {
    const concerns = (step: EnsembleStep): boolean => step.model === model && (step.version ?? version) === version
    if (this.#plan === undefined || !this.#steps.some(concerns)) return
    const { config } = this.#options
    const { batched, maxBatchRows, signature: own } = this.#plan
    try {
      const plan = planEnsemble(
        { ...config, maxBatchSize: batched ? (config.maxBatchSize ?? Math.min(maxBatchRows, Number.MAX_SAFE_INTEGER)) : 0 },
        this.#steps.map((step, index) => (concerns(step) ? signature : this.#signatures[index]!)),
      )
      for (const kind of ['inputs', 'outputs'] as const) this.#checkSame(kind, plan.signature, own)
    } catch (thrown) {
      const { code, message } = MeshError.from(thrown)
      throw new MeshError(code, `model "${model}": with version ${version} the ensemble made of it would not work: ${message}`, {
        cause: thrown,
      })
    }
  }

  /** Its callers know its tensors as they are. */
  #checkSame(kind: 'inputs' | 'outputs', signature: ModelSignature, own: ModelSignature): void {
    for (const name of own[kind].keys()) {
      const [before, after] = [own, signature].map((one) => {
        const type = typeOf(one, kind, name)
        return type === undefined ? 'missing' : textOf(type, one.wholeShapes === undefined)
      })
      if (before !== after)
        throw new MeshError(
          'FAILED_PRECONDITION',
          `ensemble "${this.#name}": its ${kind.slice(0, -1)} "${name}" is ${before} and would be ${after}`,
          { field: name },
        )
    }
  }

  async run(inputs: Tensors, signal: AbortSignal, deadlineMs: number = Infinity): Promise<Tensors> {
    const { batched } = this.#known()
    // A step that fails ends those beside it.
    const over = new AbortController()
    const end = (): void => over.abort(signal.reason)
    signal.addEventListener('abort', end, { once: true })
    if (signal.aborted) end()
    try {
      const { outputs, failures } = await this.#runner!.run(batchOf(inputs, batched, deadlineMs), { signal: over.signal, mode: 'request' })
      const [error] = failures.flatMap(({ errors }) => errors)
      if (error !== undefined) throw error
      const answer = outputs.get(answerSink)
      if (answer === undefined) throw new MeshError('INTERNAL', `ensemble "${this.#name}" gave no answer`)
      return batched ? answer.columns : new Map(Array.from(answer.columns, ([name, tensor]) => [name, ofRow(tensor)]))
    } catch (error) {
      over.abort(error)
      throw error
    } finally {
      signal.removeEventListener('abort', end)
    }
  }

  #observer(): StageObserver {
    const { telemetry } = this.#options
    return {
      observe: (stage, { rowCount, meta }, work) =>
        telemetry.recording
          ? batchSpan(telemetry, stage, { 'spillway.stage': stage, 'spillway.rows': rowCount }, meta.traceParents, work)
          : work(),
      threw: (stage, error) => telemetry.logger.error({ err: error, stage }, 'a step of an ensemble threw'),
    }
  }

  /** Its models are their own. */
  drain(): Promise<void> {
    return Promise.resolve()
  }
}

/** Rows in their order; a request that is no rows is one. */
function batchOf(inputs: Tensors, batched: boolean, deadlineMs: number): Batch {
  const rowCount = batched ? (inputs.values().next().value?.shape[0] ?? 0) : 1
  const offsets = new BigInt64Array(rowCount)
  for (let row = 0; row < rowCount; row++) offsets[row] = BigInt(row)
  const meta = rowMeta(rowCount, { offsets, deadlinesMs: new Float64Array(rowCount).fill(deadlineMs) })
  const columns = new Map<string, Tensor>()
  for (const [name, tensor] of inputs) columns.set(name, batched ? tensor : asRow(tensor))
  return { rowCount, meta, columns }
}
