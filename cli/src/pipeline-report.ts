import type { FeaturePlan, InputPlan } from '@spillway/features'
import { compileGraph, type Pipeline } from '@spillway/mesh'

/** What a valid pipeline makes, and what its author should know of it, one line each. */
export function pipelineReport(pipeline: Pipeline): readonly string[] {
  const { features, cascade } = pipeline
  return [
    line('features', features.vector.names.join(', ')),
    line('release', `${pipeline.release}, schema ${pipeline.schemaHash}, definition of features ${features.hash}`),
    line('tiers', cascade.tiers.map((tier) => tier.model).join(' → ')),
    ...pipeline.stages.map(({ name, at, inputs }) => line('stage', `${name} at ${at}${at === 'events' ? ` of ${inputs.join(', ')}` : ''}`)),
    ...features.histories.map(({ title, input, keyFields, retentionMs }) =>
      line('history', `${title}: ${input} by ${keyFields.join(' and ')}, kept for ${durationText(retentionMs)}`),
    ),
    ...[...features.inputs.values()].flatMap((input) => windowLines(pipeline, input)),
    ...features.lookups.map(({ title, keyFields, place }) =>
      line('lookup', `${title}: by ${keyFields.join(' and ')}, from a ${place.kind}`),
    ),
    ...alignmentLines(pipeline),
    ...(pipeline.featureLog === undefined ? [] : [line('log', `served vectors on ${pipeline.featureLog.topic}`)]),
    ...compileGraph(pipeline).segments.map(({ name, sources }) =>
      line('segment', `${name} reads ${sources.map(({ topic }) => topic).join(', ')}`),
    ),
    ...warnings(pipeline).map((warning) => line('warning', warning)),
  ]
}

function line(title: string, text: string): string {
  return `  ${title.padEnd(9)} ${text}`
}

type Exactness = 'exact' | 'aligned' | 'approximate'

/** A window group's columns by name, and on what their exactness rests. */
function exactnessOf(plan: FeaturePlan, input: InputPlan, group: InputPlan['windows'][number]): { names: string; kind: Exactness } {
  const history = plan.histories[group.history]!
  const names = group.outputs.map(({ column }) => input.columns[column]!.name).join(', ')
  if (history.owned && history.input === input.name) return { names, kind: 'exact' }
  return { names, kind: group.delayMs > 0 ? 'aligned' : 'approximate' }
}

function windowLines({ features, alignment }: Pipeline, input: InputPlan): readonly string[] {
  return input.windows.map((group) => {
    const { title } = features.histories[group.history]!
    const { names, kind } = exactnessOf(features, input, group)
    const delay = group.delayMs > 0 ? `, delayed by ${durationText(group.delayMs)}` : ''
    const basis = {
      exact: 'exact: the history goes by the partition key',
      aligned: `exact for what is at most ${durationText(group.delayMs - alignment.maxSkewMs)} out of order`,
      approximate: 'approximate: what it holds depends on what other partitions have delivered',
    }
    return line('windows', `${names} over ${title}${delay}: ${basis[kind]}`)
  })
}

function alignmentLines({ alignment: { maxSkewMs, idleMs } }: Pipeline): readonly string[] {
  if (maxSkewMs === Infinity) return []
  return [
    line(
      'alignment',
      `inputs wait for each other within ${durationText(maxSkewMs)} of event time, but not for one without records for ${durationText(idleMs)}`,
    ),
  ]
}

function warnings({ features, retention, featureLog }: Pipeline): readonly string[] {
  const found: string[] = []
  for (const input of features.inputs.values())
    for (const group of input.windows) {
      const { names, kind } = exactnessOf(features, input, group)
      if (kind === 'approximate') found.push(`${names}: training and serving may differ, since the window is approximate: give it a delay`)
    }
  const longestMs = Math.max(0, ...features.histories.map(({ retentionMs }) => retentionMs))
  if (retention.ageMs !== undefined && retention.ageMs < longestMs)
    found.push(
      `topics keep ${durationText(retention.ageMs)} and histories ${durationText(longestMs)}: a store that is lost cannot be made anew from the topics`,
    )
  if (retention.ageMs !== undefined && featureLog !== undefined)
    found.push(`the feature log keeps ${durationText(retention.ageMs)}, as all topics: export what is to be compared in time`)
  return found
}

const units: readonly (readonly [string, number])[] = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
]

/** As the pipeline file writes it, in the largest unit that leaves at most two decimals. */
function durationText(durationMs: number): string {
  for (const [unit, unitMs] of units) if (durationMs >= unitMs && (durationMs * 100) % unitMs === 0) return `${durationMs / unitMs}${unit}`
  return `${durationMs}ms`
}
