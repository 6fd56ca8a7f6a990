import type { Batch, Signature, Stage, StageContext, StageResult } from '@spillway/core'
import type { FeatureEngine } from '@spillway/features'
import { type Pipeline, type PipelineInput, preprocessingStage } from '@spillway/mesh'

/**
 * Turns an input's events into features. On streams the events become history first; a request only reads it.
 * Adds the vector's column on port `features`, and keeps of the event's own columns those that stages behind it read.
 */
export class PreprocessingStage implements Stage {
  readonly name: string
  readonly accepts: Signature = new Map()
  readonly ports: Readonly<Record<string, Signature>>
  private readonly input: PipelineInput
  private readonly engine: FeatureEngine
  private readonly kept: ReadonlySet<string>

  constructor(options: { pipeline: Pipeline; input: PipelineInput; engine: FeatureEngine }) {
    const { pipeline, input, engine } = options
    const { vector } = pipeline.features
    this.name = preprocessingStage(input.name)
    this.input = input
    this.engine = engine
    this.kept = new Set([...pipeline.keptColumns, vector.column])
    this.ports = input.predict ? { features: new Map([[vector.column, { datatype: 'FP32', rowShape: [vector.width] }]]) } : {}
  }

  async process(batch: Batch, context: StageContext): Promise<StageResult> {
    const computed = await this.engine.compute(batch, this.input.name, context.mode)
    if (!this.input.predict || computed.batch.rowCount === 0) return { outputs: new Map(), failures: computed.failures }
    const columns = new Map([...computed.batch.columns].filter(([name]) => this.kept.has(name)))
    return { outputs: new Map([['features', { ...computed.batch, columns }]]), failures: computed.failures }
  }
}

/** The pipeline's preprocessing stages, one an input, over one engine. */
export function preprocessingStages(pipeline: Pipeline, engine: FeatureEngine): readonly Stage[] {
  return [...pipeline.inputs.values()].map((input) => new PreprocessingStage({ pipeline, input, engine }))
}
