import { DEGRADED, reasons } from '@spillway/cascade'
import { type Batch, column, type Signature, type Stage, type StageResult, takeRows, type Tensor, text, withColumns } from '@spillway/core'
import { eventColumn, type Pipeline, postprocessingStage as stageId } from '@spillway/mesh'
import { compileEventWriter, type EventWriter, type OutputField } from '@spillway/wire'

const formatted: Signature = new Map([[eventColumn, { datatype: 'BYTES', rowShape: [] }]])

/**
 * Decides, explains and formats: each scored row becomes a prediction on port `predictions`, as JSON in column `event`; one whose score is at
 * least the pipeline's alert threshold goes to port `alerts` too.
 */
class PostprocessingStage implements Stage {
  readonly name = stageId
  readonly accepts: Signature = new Map([
    ['score', { datatype: 'FP64', rowShape: [] }],
    ['model', { datatype: 'BYTES', rowShape: [] }],
    ['model_version', { datatype: 'BYTES', rowShape: [] }],
    ['reason', { datatype: 'UINT8', rowShape: [] }],
  ])
  readonly ports: Readonly<Record<string, Signature>> = { predictions: formatted, alerts: formatted }
  private readonly writer: EventWriter
  private readonly alertAtLeast: number

  constructor(pipeline: Pipeline) {
    this.writer = compileEventWriter(outputFields(pipeline))
    this.alertAtLeast = pipeline.alerts.atLeast
  }

  process(batch: Batch): Promise<StageResult> {
    const scores = column(batch, 'score').data as Float64Array
    const codes = column(batch, 'reason').data as Uint8Array
    const explained = withColumns(batch, [
      ['decision', flags(scores, (score) => score >= this.alertAtLeast)],
      ['reason_text', text(Array.from(codes, (code) => reasons[code] ?? 'unknown'))],
      ['degraded', flags(codes, (code) => code === DEGRADED)],
    ])
    const event: Tensor = { datatype: 'BYTES', shape: [batch.rowCount], data: this.writer.write(explained) }
    const predictions: Batch = { rowCount: batch.rowCount, meta: batch.meta, columns: new Map([[eventColumn, event]]) }
    const alerted: number[] = []
    scores.forEach((score, row) => {
      if (score >= this.alertAtLeast) alerted.push(row)
    })
    const outputs = new Map([['predictions', predictions]])
    if (alerted.length > 0) outputs.set('alerts', takeRows(predictions, alerted))
    return Promise.resolve({ outputs, failures: [] })
  }
}

function flags(values: Float64Array | Uint8Array, holds: (value: number) => boolean): Tensor {
  const data = new Uint8Array(values.length)
  for (let row = 0; row < data.length; row++) data[row] = holds(values[row]!) ? 1 : 0
  return { datatype: 'BOOL', shape: [data.length], data }
}

function outputFields(pipeline: Pipeline): readonly OutputField[] {
  const written = new Map<string, NonNullable<OutputField['as']>>()
  for (const { definition } of pipeline.inputs.values())
    for (const [name, { type }] of Object.entries(definition.fields))
      if (type === 'timestamp' || type === 'boolean') written.set(name, type)
  for (const { adds } of pipeline.stages)
    for (const [name, type] of adds) if (type === 'timestamp' || type === 'boolean') written.set(name, type)
  const own: readonly OutputField[] = [
    { name: 'id', source: { meta: 'ids' } },
    { name: 'event_time', source: { meta: 'eventTimesMs' }, as: 'timestamp' },
    { name: 'score', source: { column: 'score' } },
    { name: 'decision', source: { column: 'decision' } },
    { name: 'tier', source: { column: 'model' } },
    { name: 'reason', source: { column: 'reason_text' } },
    { name: 'degraded', source: { column: 'degraded' } },
    { name: 'model_version', source: { column: 'model_version' } },
  ]
  const included = pipeline.predictions.include.map((name): OutputField => {
    const as = written.get(name)
    return { name, source: { column: name }, ...(as === undefined ? {} : { as }) }
  })
  const { features: elements } = pipeline.predictions
  const shown: readonly OutputField[] =
    elements.length === 0 ? [] : [{ name: 'features', source: { column: pipeline.features.vector.column }, elements }]
  return [...own, ...included, ...shown]
}

/** The pipeline's last stage. */
export function postprocessingStage(pipeline: Pipeline): Stage {
  return new PostprocessingStage(pipeline)
}
