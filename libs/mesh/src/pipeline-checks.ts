import { MeshError } from '@spillway/core'
import { type CustomStageDefinition, fieldsWithAdded } from './custom-stages.ts'
import type { PipelineInput } from './pipeline.ts'
import type { PipelineDefinition } from './pipeline-schema.ts'

/** @param field path in the pipeline file */
export function wrong(field: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', message, { field })
}

export function featureLogTopic({ pipeline, featureLog }: PipelineDefinition): string {
  return featureLog?.topic ?? `${pipeline}.feature-log`
}

export function checkDistinctTopics(definition: PipelineDefinition, inputs: ReadonlyMap<string, PipelineInput>): void {
  const users = new Map<string, string>()
  const claim = (topic: string, field: string): void => {
    const other = users.get(topic)
    if (other !== undefined) throw wrong(field, `topic "${topic}" is taken by ${other}: every input and output needs a topic of its own`)
    users.set(topic, field)
  }
  for (const input of inputs.values()) claim(input.topic, `inputs.${input.name}`)
  claim(definition.outputs.predictions.topic, 'outputs.predictions.topic')
  claim(definition.outputs.alerts.topic, 'outputs.alerts.topic')
  if (definition.featureLog !== undefined) claim(featureLogTopic(definition), 'featureLog.topic')
  claim(definition.deadLetters?.topic ?? `${definition.pipeline}.dead-letters`, 'deadLetters.topic')
  claim(`${definition.pipeline}.redrive`, 'pipeline')
  for (const [link, topic] of Object.entries(definition.topics)) claim(topic, `topics.${link}`)
}

/** `topics:` and `groups:` give other names to links and segments that there are. */
export function checkNames(definition: PipelineDefinition): void {
  const tiers = definition.cascade.tiers.slice(1).map((_, index) => `tier-${index + 2}`)
  const known = {
    topics: ['features', 'scored', ...tiers],
    groups: ['preprocessing', 'cascade-router', 'postprocessing', ...tiers.map((tier) => `cascade-router.${tier}`)],
  }
  for (const part of ['topics', 'groups'] as const)
    for (const name of Object.keys(definition[part]))
      if (!known[part].includes(name))
        throw wrong(`${part}.${name}`, `there is no such name to override: choose among ${known[part].join(', ')}`)
}

/** What a prediction says itself, and the columns that stages add to the event's. */
export const takenNames: ReadonlySet<string> = new Set([
  'id',
  'event_time',
  'score',
  'decision',
  'tier',
  'reason',
  'degraded',
  'model_version',
  'model',
  'features',
  'event',
  'reason_text',
])

export function checkIncluded(
  definition: PipelineDefinition,
  predicting: readonly PipelineInput[],
  stages: readonly CustomStageDefinition[],
): void {
  definition.outputs.predictions.include.forEach((field, index) => {
    const at = `outputs.predictions.include[${index}]`
    if (takenNames.has(field)) throw wrong(at, `predictions have a "${field}" of their own: a field of this name cannot be repeated`)
    if (stages.some((stage) => stage.at !== 'events' && stage.adds.has(field))) return
    for (const input of predicting) checkField(input, field, stages, at)
  })
}

export function checkNeeds(stages: readonly CustomStageDefinition[], predicting: readonly PipelineInput[]): void {
  stages.forEach(({ needs }, index) =>
    needs.forEach((field, place) => {
      for (const input of predicting) checkField(input, field, stages, `stages[${index}].needs[${place}]`)
    }),
  )
}

function checkField(input: PipelineInput, field: string, stages: readonly CustomStageDefinition[], at: string): void {
  const fields = fieldsWithAdded(input.name, input.definition.fields, stages)
  if (!fields.has(field)) throw wrong(at, `input "${input.name}" has no field "${field}": choose among ${[...fields.keys()].join(', ')}`)
}
