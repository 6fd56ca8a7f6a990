import { join } from 'node:path'
import { InferenceSession, Tensor } from 'onnxruntime-node'

/** A tier as the pipeline file has it. Only the last has no thresholds. */
export interface Tier {
  readonly model: string
  readonly below?: number
  readonly above?: number
}

export interface ExpectedAnswer {
  readonly tier: string
  readonly reason: string
  readonly score: number
}

/** Scores are compared and cut at 6 decimals: runtimes differ in the last bits between batch sizes. */
export const scoreTolerance = 1.000001e-6

/** Models run one row at a time, straight on ONNX Runtime. */
export class Cascade {
  readonly #tiers: readonly Tier[]
  readonly #sessions: readonly InferenceSession[]

  private constructor(tiers: readonly Tier[], sessions: readonly InferenceSession[]) {
    this.#tiers = tiers
    this.#sessions = sessions
  }

  /** Reads `<models>/<model>/1/model.onnx` for each tier. */
  static async load(models: string, tiers: readonly Tier[]): Promise<Cascade> {
    const options = { intraOpNumThreads: 1, interOpNumThreads: 1 }
    const sessions = await Promise.all(tiers.map((tier) => InferenceSession.create(join(models, tier.model, '1', 'model.onnx'), options)))
    return new Cascade(tiers, sessions)
  }

  /**
   * Every answer that is right for these features: one, or two where a score is within the tolerance of a threshold.
   * With `degraded` each tier's own score is right, since the next one may have been away.
   */
  async answers(features: Float32Array, degraded: boolean): Promise<ExpectedAnswer[]> {
    const right: ExpectedAnswer[] = []
    for (const [index, tier] of this.#tiers.entries()) {
      const score = await this.#score(index, features)
      const last = index === this.#tiers.length - 1
      if (last) right.push({ tier: tier.model, reason: 'final-tier', score })
      const below = tier.below ?? -Infinity
      const above = tier.above ?? Infinity
      if (!last && score < below + scoreTolerance) right.push({ tier: tier.model, reason: 'accepted-below', score })
      if (!last && score > above - scoreTolerance) right.push({ tier: tier.model, reason: 'accepted-above', score })
      const surelyAccepted = score < below - scoreTolerance || score > above + scoreTolerance
      if (last || surelyAccepted) break
      if (degraded) right.push({ tier: tier.model, reason: 'degraded', score })
    }
    return right
  }

  async #score(tier: number, features: Float32Array): Promise<number> {
    const session = this.#sessions[tier]!
    const outputs = await session.run({ [session.inputNames[0]!]: new Tensor('float32', features, [1, features.length]) })
    const data = outputs[session.outputNames[0]!]!.data as Float32Array
    return Math.round(data[0]! * 1e6) / 1e6
  }

  async close(): Promise<void> {
    await Promise.all(this.#sessions.map((session) => session.release()))
  }
}
