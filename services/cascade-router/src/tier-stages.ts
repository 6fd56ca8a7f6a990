import { setTimeout as wait } from 'node:timers/promises'
import { type Clock, fitsType, MeshError, type Stage, typeText } from '@spillway/core'
import { type Pipeline, tierStage } from '@spillway/mesh'
import type { ModelClient, ModelSignature, SignatureExpectation } from '@spillway/serving'
import type { MeshMetrics, Telemetry } from '@spillway/telemetry'
import { GuardedModel } from './guarded-model.ts'
import { TierStage } from './tier-stage.ts'

export interface TierStagesOptions {
  readonly pipeline: Pipeline
  /** The server of a tier's model: its own address where the file gives one, else the pipeline's model service. */
  readonly modelOf: (tier: number) => ModelClient
  readonly clock: Clock
  readonly metrics: MeshMetrics
  readonly telemetry: Telemetry
  readonly signal: AbortSignal
}

/**
 * The cascade's tiers as stages, each model's signature checked against the features that the pipeline gives it.
 * @throws MeshError INVALID_ARGUMENT whose field is the tier's path in the file; the model client's own errors where a model cannot be had
 */
export async function tierStages(options: TierStagesOptions): Promise<readonly Stage[]> {
  const { pipeline, modelOf, clock, metrics, telemetry } = options
  const { tiers } = pipeline.cascade
  return Promise.all(
    tiers.map(async (tier, index) => {
      const model = modelOf(index)
      const check = new SignatureCheck(pipeline, index, await availableSignature(model, tier.model, options))
      return new TierStage({
        name: tierStage(index),
        tier,
        fallbackModel: tiers[index - 1]?.model,
        model: new GuardedModel({ model: tier.model, client: model, lateIsFailure: index > 0, clock, metrics, logger: telemetry.logger }),
        input: check.input(),
        score: check.score(),
        refusesLate: index === 0 && pipeline.deadline.late === 'refuse',
        clock,
        metrics,
      })
    }),
  )
}

/**
 * Holds versions of a tier's model against what the pipeline file says and makes, and later ones against the first: the tier goes on calling the tensors that
 * it found there. What it gives throws a MeshError INVALID_ARGUMENT whose field is the tier's path in the file.
 */
export function tierExpectation(pipeline: Pipeline, tier: number): SignatureExpectation {
  let called: { readonly input: string; readonly score: string } | undefined
  return (signature) => {
    const check = new SignatureCheck(pipeline, tier, signature)
    const found = { input: check.input().tensor, score: check.score().tensor }
    called ??= found
    if (found.input !== called.input) throw check.renamed('input', found.input, called.input)
    if (found.score !== called.score) throw check.renamed('score', found.score, called.score)
  }
}

/** A model server may start later than the router: its signature is waited for. */
async function availableSignature(client: ModelClient, model: string, { telemetry, signal }: TierStagesOptions): Promise<ModelSignature> {
  for (let delayMs = 100; ; delayMs = Math.min(delayMs * 2, 2000)) {
    try {
      return await client.signature(model, signal)
    } catch (thrown) {
      const error = MeshError.from(thrown)
      if (!error.retryable) throw error
      telemetry.logger.warn({ model, reason: error.message, delayMs }, 'the model is not available yet: trying again')
      await wait(delayMs, undefined, { signal })
    }
  }
}

/** What a tier's model takes and gives, held against what the pipeline file says and makes. */
class SignatureCheck {
  private readonly pipeline: Pipeline
  private readonly index: number
  private readonly signature: ModelSignature

  constructor(pipeline: Pipeline, index: number, signature: ModelSignature) {
    this.pipeline = pipeline
    this.index = index
    this.signature = signature
  }

  private get tier(): Pipeline['cascade']['tiers'][number] {
    return this.pipeline.cascade.tiers[this.index]!
  }

  private wrong(setting: string, message: string): MeshError {
    return new MeshError('INVALID_ARGUMENT', `model "${this.tier.model}": ${message}`, { field: `cascade.tiers[${this.index}].${setting}` })
  }

  renamed(setting: 'input' | 'score', name: string, called: string): MeshError {
    return this.wrong(
      setting,
      `it has "${name}" where the version before has "${called}": start the pipeline anew with it, or keep the name`,
    )
  }

  private choose(setting: 'input' | 'score', tensors: ModelSignature['inputs'], kind: string): string {
    const names = [...tensors.keys()]
    const named = this.tier[setting]
    if (named !== undefined) {
      if (!tensors.has(named)) throw this.wrong(setting, `it has no ${kind} "${named}": choose among ${names.join(', ')}`)
      return named
    }
    if (names.length !== 1)
      throw this.wrong(setting, `it has ${names.length} ${kind}s (${names.join(', ')}): say which one with "${setting}:"`)
    return names[0]!
  }

  input(): { tensor: string; column: string } {
    const { vector } = this.pipeline.features
    const { inputs } = this.signature
    const tensor = this.choose('input', inputs, 'input')
    if (inputs.size !== 1)
      throw this.wrong(
        'input',
        `it needs ${inputs.size} inputs (${[...inputs.keys()].join(', ')}), and a pipeline gives one, the feature vector`,
      )
    const type = inputs.get(tensor)!
    if (!fitsType(vector.type, type))
      throw this.wrong(
        'input',
        `its input "${tensor}" is ${typeText(type)}, and the pipeline gives ${typeText(vector.type)} (${vector.names.join(', ')})`,
      )
    return { tensor, column: vector.column }
  }

  score(): { tensor: string; index: number } {
    const tensor = this.choose('score', this.signature.outputs, 'output')
    const { datatype, rowShape } = this.signature.outputs.get(tensor)!
    const width = rowShape.reduce((product, size) => product * size, 1)
    if (datatype !== 'FP32' && datatype !== 'FP64')
      throw this.wrong('score', `its output "${tensor}" is ${datatype}: a score is FP32 or FP64`)
    if (width > 1 && this.tier.class === undefined)
      throw this.wrong('class', `its output "${tensor}" has ${width} values a row: say which one is the score, as in "class: ${width - 1}"`)
    const index = this.tier.class ?? 0
    if (width > 0 && index >= width)
      throw this.wrong('class', `its output "${tensor}" has ${width} values a row: "class" must be under ${width}`)
    return { tensor, index }
  }
}
