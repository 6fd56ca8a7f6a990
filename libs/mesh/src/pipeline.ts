import { createHash } from 'node:crypto'
import { resolve } from 'node:path'
import { MeshError } from '@spillway/core'
import {
  compileFeatures,
  type CompileOptions,
  type FeatureInput,
  type FeaturePlan,
  type FeaturesDefinition,
  StatisticsFitter,
} from '@spillway/features'
import type { CascadeDefinition } from '@spillway/cascade'
import type { InputDefinition } from '@spillway/wire'
import type { Attachments } from './attachments.ts'
import { compileCustomStages, type CustomStageDefinition, fieldsWithAdded } from './custom-stages.ts'
import { checkOrdering } from './ordering.ts'
import type { LatePolicy, PipelineDefinition, Placement } from './pipeline-schema.ts'

/** A pipeline as the mesh runs it: exact, readonly, nothing optional left to decide. */
export interface Pipeline {
  readonly name: string
  readonly release: string
  readonly partitions: number
  readonly inputs: ReadonlyMap<string, PipelineInput>
  readonly features: FeaturePlan
  /** What `features` was compiled from: to fit its statistics to rows. */
  readonly featureSource: FeatureSource
  readonly cascade: CascadeDefinition
  /** `features`: elements of the vector that predictions show. */
  readonly predictions: { readonly topic: string; readonly include: readonly string[]; readonly features: readonly VectorElement[] }
  readonly alerts: { readonly topic: string; readonly atLeast: number }
  /** What became of dead letters, and the letters that are given back to their segments. */
  readonly redriveTopic: string
  readonly deadLetterTopic: string
  /** `withinMs` of taking an event in, Infinity where streams have no deadline; `late`: what becomes of one that is over when its event is read. */
  readonly deadline: { readonly withinMs: number; readonly late: LatePolicy }
  readonly calls: {
    readonly maxInFlight: number
    readonly maxRowsInFlight: number
    readonly maxBytesInFlight: number
    readonly timeoutMs: number
  }
  /** How inputs are kept together in event time; `maxSkewMs` is Infinity where no window asks for it. */
  readonly alignment: { readonly maxSkewMs: number; readonly idleMs: number }
  /** Where every served vector is kept; absent where it is not. `calls`: those of synchronous calls too. */
  readonly featureLog?: { readonly topic: string; readonly calls: boolean }
  /** Stages of one's own, in the order of the file. */
  readonly stages: readonly CustomStageDefinition[]
  /** Columns of events that stages behind preprocessing read. */
  readonly keptColumns: ReadonlySet<string>
  /** Absolute path of the file's folder: what its paths are relative to. */
  readonly folder: string
  /** Absolute path of the model repository. */
  readonly modelsPath: string
  readonly placement: Placement
  readonly ordering: PipelineDefinition['ordering']
  readonly slices: { readonly maxRecords: number; readonly maxBytes: number }
  readonly maxEventBytes: number
  readonly retention: { readonly ageMs: number | undefined; readonly bytes: number | undefined }
  /** Hash of what the rows between stages mean: the inputs' fields, the features, what predictions repeat. Frames carry it. */
  readonly schemaHash: string
  topicOf(link: string): string
  groupOf(segment: string): string
}

export interface PipelineInput {
  readonly name: string
  readonly topic: string
  /** Whether its events are answered; otherwise they only feed histories. */
  readonly predict: boolean
  readonly definition: InputDefinition
}

export interface FeatureSource {
  /** Absent where the file has no such section. */
  readonly definition?: FeaturesDefinition
  readonly inputs: ReadonlyMap<string, FeatureInput>
  readonly options: CompileOptions
}

export interface VectorElement {
  readonly name: string
  /** Place in the vector. */
  readonly index: number
}

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

function wrong(field: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', message, { field })
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

function featureLogTopic({ pipeline, featureLog }: PipelineDefinition): string {
  return featureLog?.topic ?? `${pipeline}.feature-log`
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

function checkDistinctTopics(definition: PipelineDefinition, inputs: ReadonlyMap<string, PipelineInput>): void {
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
function checkNames(definition: PipelineDefinition): void {
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
const takenNames: ReadonlySet<string> = new Set([
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

function checkIncluded(
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

function checkNeeds(stages: readonly CustomStageDefinition[], predicting: readonly PipelineInput[]): void {
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
