import { createHash } from 'node:crypto'
import { resolve } from 'node:path'
import { MeshError } from '@spillway/core'
import { compileFeatures, type FeatureInput, type FeaturePlan, StatisticsFitter } from '@spillway/features'
import type { Attachments } from './attachments.ts'
import { compileCustomStages, type CustomStageDefinition, fieldsWithAdded } from './custom-stages.ts'
import { checkOrdering } from './ordering.ts'
import type { FeatureSource, Pipeline, PipelineInput, VectorElement } from './pipeline.ts'
import { checkDistinctTopics, checkIncluded, checkNames, checkNeeds, featureLogTopic, takenNames, wrong } from './pipeline-checks.ts'
import type { PipelineDefinition } from './pipeline-schema.ts'

/**
 * Checks what crosses the file's parts.
 * @param folder of the file
 * @param attached what the file names outside of itself
 * @throws MeshError INVALID_ARGUMENT whose `field` is the path in the file
 */
export function compilePipeline(definition: PipelineDefinition, folder: string, attached: Attachments): Pipeline {
  const inputs = new Map<string, PipelineInput>()
  for (const [name, input] of Object.entries(definition.inputs))
    inputs.set(name, { name, topic: input.topic ?? name, predict: input.predict, definition: input })
  const predicting = [...inputs.values()].filter((input) => input.predict)
  if (predicting.length === 0) throw wrong('inputs', 'no input is predicted: give at least one input, without "predict: false"')
  checkNames(definition)
  checkDistinctTopics(definition, inputs)
  const definitions = new Map([...inputs].map(([input, { definition: fields }]) => [input, fields]))
  const stages = compileCustomStages(definition.stages, attached.stages, definitions, takenNames)
  checkIncluded(definition, predicting, stages)
  checkNeeds(stages, predicting)
  const { maxSkew: givenSkew } = definition.alignment
  const skew = givenSkew === undefined ? {} : { maxSkewMs: givenSkew }
  const featureSource: FeatureSource = {
    ...(definition.features && { definition: definition.features }),
    inputs: featureInputs(inputs, stages),
    options: { ...attached.features, ...skew },
  }
  const features = within('features', () => (attached.unfitted ? unfitted(featureSource) : fitted(featureSource)))
  const { pipeline: name, placement } = definition
  const { timeout: timeoutMs, ...limits } = definition.calls
  checkOrdering(definition, placement)
  return {
    name,
    release: definition.release,
    partitions: definition.partitions,
    inputs,
    features,
    featureSource,
    cascade: definition.cascade,
    predictions: { ...definition.outputs.predictions, features: shownFeatures(definition, features) },
    alerts: definition.outputs.alerts,
    redriveTopic: `${name}.redrive`,
    deadLetterTopic: definition.deadLetters?.topic ?? `${name}.dead-letters`,
    deadline: { withinMs: definition.deadline.within ?? Infinity, late: definition.deadline.late },
    ordering: definition.ordering,
    calls: { ...limits, timeoutMs },
    alignment: { maxSkewMs: maxSkew(definition, features), idleMs: definition.alignment.idle },
    ...(definition.featureLog && { featureLog: { ...definition.featureLog, topic: featureLogTopic(definition) } }),
    stages,
    keptColumns: new Set([...definition.outputs.predictions.include, ...stages.flatMap(({ needs }) => needs)]),
    folder,
    modelsPath: resolve(folder, definition.models),
    placement,
    slices: definition.slices,
    maxEventBytes: definition.maxEventBytes,
    retention: { ageMs: definition.retention.age, bytes: definition.retention.bytes },
    schemaHash: hashOf([
      Object.entries(definition.inputs).map(([input, { fields }]) => [input, fields]),
      features.hash,
      definition.outputs.predictions.include,
      ...(stages.length === 0
        ? []
        : [
            definition.stages.map(({ name: stage, at, inputs: of, needs, settings }, index) => [
              stage,
              at,
              of,
              needs,
              [...stages[index]!.adds],
              settings,
            ]),
          ]),
    ]),
    topicOf: (link) => definition.topics[link] ?? `${name}.${link}`,
    groupOf: (segment) => definition.groups[segment] ?? `${name}.${segment}`,
  }
}

function fitted({ definition, inputs, options }: FeatureSource): FeaturePlan {
  return compileFeatures(definition, inputs, options)
}

function unfitted({ definition, inputs, options }: FeatureSource): FeaturePlan {
  if (definition === undefined)
    throw new MeshError('INVALID_ARGUMENT', 'the file has no features, so there is nothing to fit', { field: 'vector' })
  return new StatisticsFitter(definition, inputs, options).plan
}

/** Errors of a lib name the path in its own part of the file: here it becomes the path in the whole. */
function within<T>(part: string, compile: () => T): T {
  try {
    return compile()
  } catch (error) {
    if (!(error instanceof MeshError) || error.field === undefined) throw error
    throw new MeshError(error.code, error.message, { field: `${part}.${error.field}`, cause: error })
  }
}

function hashOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 16)
}

/**
 * Windows over other keys than the partition's are exact where no input runs further ahead than their delay, less what the input that feeds
 * them is out of order by. Where the file does not say, a quarter of the shortest delay leaves three for that.
 */
function maxSkew(definition: PipelineDefinition, features: FeaturePlan): number {
  const delays = [...features.inputs.values()]
    .flatMap(({ windows }) => windows.map(({ delayMs }) => delayMs))
    .filter((delayMs) => delayMs > 0)
  const shortest = Math.min(Infinity, ...delays)
  const given = definition.alignment.maxSkew
  if (given === undefined) return shortest / 4
  if (given > shortest)
    throw wrong(
      'alignment.maxSkew',
      `it must not be longer than the shortest delay of a window, ${shortest / 3_600_000}h: windows would miss what is still to come`,
    )
  return shortest === Infinity ? Infinity : given
}

function shownFeatures(definition: PipelineDefinition, { vector, unfitted }: FeaturePlan): readonly VectorElement[] {
  if (unfitted) return []
  const { features } = definition.outputs.predictions
  if (typeof features === 'boolean') return features ? vector.names.map((name, index) => ({ name, index })) : []
  return features.map((name, at) => {
    const index = vector.names.indexOf(name)
    if (index === -1)
      throw wrong(`outputs.predictions.features[${at}]`, `the vector has no "${name}": choose among ${vector.names.join(', ')}`)
    return { name, index }
  })
}

function featureInputs(
  inputs: ReadonlyMap<string, PipelineInput>,
  stages: readonly CustomStageDefinition[],
): ReadonlyMap<string, FeatureInput> {
  return new Map(
    [...inputs].map(([name, { definition }]) => [
      name,
      {
        fields: fieldsWithAdded(name, definition.fields, stages),
        keyField: definition.key,
        timeField: definition.time,
        latenessMs: definition.latenessMs,
        predict: definition.predict,
      },
    ]),
  )
}
