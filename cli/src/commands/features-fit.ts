import { MeshError } from '@spillway/core'
import { StatisticsFitter, statisticsText } from '@spillway/features'
import { loadPipeline, type Pipeline } from '@spillway/mesh'
import type { Command } from 'commander'
import { unlogged } from '../batch/batch-process.ts'
import { BatchRun } from '../batch/batch-run.ts'
import { batchTelemetry } from '../batch/batch-telemetry.ts'
import { FittedRows } from '../batch/fitted-rows.ts'
import { type BatchInputs, openInputs, parseInputs } from '../batch/inputs.ts'
import { labelDefinition, LabelIndex } from '../batch/label-index.ts'
import { numberText, ProgressLine, replayProgress } from '../batch/progress.ts'
import { untilStopped } from '../batch/stop.ts'
import { parseCount } from '../options.ts'
import { FinalFile } from '../tables/final-file.ts'
import { addInputOptions, type BatchFlags } from './batch-flags.ts'

interface FitFlags extends Omit<BatchFlags, 'work' | 'checkpointEvery'> {
  readonly out: string
  readonly rows: number
  readonly seed: number
  readonly on?: string
}

const about = `
Reads all input from its beginning through the pipeline's own reader and engine, and fits what the features' definition leaves to be fitted (standardise, normalise,
vocabularies, bucket edges, selection …) to the events of the predicting inputs with --from <= event time < --to. The statistics belong to the definition that
they were fitted for: a pipeline with another one refuses them. Name the file in the pipeline file: features.statistics.`

export function addFitCommand(features: Command): void {
  const command = features
    .command('fit')
    .description('fit the statistics that feature definitions need to a topic’s past or to files')
    .requiredOption('--out <file>', 'where the statistics go, as statistics.json')
    .option('--rows <count>', 'most rows that are fitted to, drawn by chance of all', parseCount, 1_000_000)
    .option('--seed <number>', 'of that draw', parseSeed, 0)
    .option('--on <field>', 'field by which the events and the label of a selection belong together (default: their ids)')
    .addHelpText('after', about)
  addInputOptions(command)
  command.action((flags: FitFlags) => untilStopped((signal) => runFit(flags, signal), 'stopped; nothing was written'))
}

function parseSeed(text: string): number {
  const seed = Number(text)
  if (!Number.isInteger(seed)) throw new MeshError('INVALID_ARGUMENT', `"${text}" is no seed: expected a whole number`)
  return seed
}

async function runFit(flags: FitFlags, signal: AbortSignal): Promise<void> {
  const pipeline = await loadPipeline(flags.pipeline, { unfitted: true })
  const address = parseInputs(flags, pipeline)
  const { definition, inputs: given, options } = pipeline.featureSource
  if (definition === undefined) throw new MeshError('INVALID_ARGUMENT', `${flags.pipeline}: has no features, so there is nothing to fit`)
  const fitter = new StatisticsFitter(definition, given, { ...options, rows: flags.rows, seed: flags.seed })
  const telemetry = batchTelemetry(flags.logLevel)
  let inputs: BatchInputs | undefined
  try {
    const replayed = unfittedPipeline(pipeline, address.kind === 'files')
    inputs = await openInputs(address, replayed, telemetry, signal)
    const labels = await readLabels(definition.select?.label, flags, pipeline, inputs, signal)
    const rows = new FittedRows({ fitter, fromMs: flags.from ?? -Infinity, toMs: flags.to ?? Infinity, labels, on: flags.on })
    const progress = new ProgressLine()
    const run = new BatchRun({
      pipeline: replayed,
      services: new Set(['preprocessing']),
      sources: [...pipeline.inputs.values()].map((input) => inputs!.source(input)),
      sink: rows.sink(pipeline.deadLetterTopic),
      work: undefined,
      checkpointEveryMs: 10_000,
      telemetry,
      redisUrl: flags.lookupRedis,
      observe: (source) => rows.add(source),
      onProgress: (state) => progress.show(replayProgress(state), rows.facts()),
    })
    try {
      await run.run(signal)
    } finally {
      progress.end()
    }
    const statistics = fitter.finish(new Date())
    const file = new FinalFile(flags.out)
    file.append(Buffer.from(statisticsText(statistics)))
    file.finish()
    const { rows: seen, sampled, columns } = statistics
    console.error(`${flags.out}: ${Object.keys(columns).length} columns fitted to ${numberText(sampled)} of ${numberText(seen)} rows`)
    if (rows.rejected > 0) console.error(`${numberText(rows.rejected)} events could not be processed: "features export" says why`)
  } finally {
    await inputs?.close()
    await telemetry.shutdown()
  }
}

/** Preprocessing without what comes behind it: there is no vector yet. */
function unfittedPipeline(pipeline: Pipeline, isFiles: boolean): Pipeline {
  return {
    ...unlogged(pipeline),
    placement: { ...pipeline.placement, features: 'topic' },
    stages: pipeline.stages.filter(({ at }) => at === 'events'),
    deadline: { withinMs: Infinity, late: 'wait' },
    partitions: isFiles ? 1 : pipeline.partitions,
  }
}

/** The labels of a selection, where they are of another input than the one that it selects for. */
async function readLabels(
  label: string | undefined,
  { on }: FitFlags,
  pipeline: Pipeline,
  inputs: BatchInputs,
  signal: AbortSignal,
): Promise<LabelIndex | undefined> {
  if (label === undefined || !pipeline.inputs.has(label.split('.', 1)[0]!) || !label.includes('.')) return undefined
  const definition = labelDefinition(pipeline, { label, knownByMs: Infinity, ...(on === undefined ? {} : { on }) })
  const source = inputs.source(definition.input)
  return LabelIndex.read(definition, source, await source.open(undefined, signal), inputs.bus !== undefined, signal)
}
