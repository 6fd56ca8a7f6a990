import { resolve } from 'node:path'
import type { ReplayInput } from '@spillway/bus'
import { MeshError } from '@spillway/core'
import { loadPipeline, type Pipeline } from '@spillway/mesh'
import type { Telemetry } from '@spillway/telemetry'
import type { FieldType } from '@spillway/wire'
import type { Command } from 'commander'
import { unlogged } from '../batch/batch-process.ts'
import { BatchRun } from '../batch/batch-run.ts'
import { BatchSink } from '../batch/batch-sink.ts'
import { batchTelemetry } from '../batch/batch-telemetry.ts'
import { type ExportDefinition, exportSchema, exportTaker, keptFields } from '../batch/export.ts'
import { type BatchInputs, openInputs, parseInputs } from '../batch/inputs.ts'
import { type LabelDefinition, labelDefinition, LabelIndex } from '../batch/label-index.ts'
import { numberText, ProgressLine, replayProgress } from '../batch/progress.ts'
import { RejectedFile } from '../batch/rejected-file.ts'
import { checkUnused, rowOutput, rowTarget } from '../batch/row-output.ts'
import { untilStopped } from '../batch/stop.ts'
import { WorkFolder } from '../batch/work-folder.ts'
import { tableRowFormat } from '../tables/row-format.ts'
import { type BatchFlags, addBatchOptions, commaSeparated, sourceDescription } from './batch-flags.ts'
import { parseTime } from '../batch/parse-time.ts'
import { parseFormat, type TableFormat } from '../tables/table.ts'

interface ExportFlags extends BatchFlags {
  readonly out: string
  readonly format?: TableFormat
  readonly fields: readonly string[]
  readonly label?: string
  readonly on?: string
  readonly labelArrival?: string
  readonly knownBy?: number
}

const about = `
One row an event of the predicting inputs whose event time lies between --from and --to: id, key, event_time, topic, partition, offset, then
--fields, every element of the vector by its name, and the label. All input is read from its beginning, whatever --from says: the windows of the first
row need what came before it. The code is the one that serves: the same reader, engine and alignment.

Rows that cannot be processed are in OUT.rejected.ndjson, each with why.

With --work the run can be gone on with: after Ctrl-C, a kill or a power cut the same command goes on from the last checkpoint, and each row is in the
output once. --out FILE appears when it is whole; a folder fills with part files, and _table.json says that they are all there.`

export function addExportCommand(features: Command): void {
  const command = features
    .command('export')
    .description('replay a topic or files through the pipeline’s own code into a table for training')
    .requiredOption('--out <file|folder>', 'FILE.parquet, FILE.csv or FILE.ndjson, or a folder for part files')
    .option('--format <format>', 'parquet, csv or ndjson (default: as --out says, parquet for a folder)', parseFormat)
    .option('--fields <names>', 'fields of the event that each row repeats, as customer_id,terminal_id', commaSeparated, [])
    .option('--label <input.field>', 'join the value that labels each row, as labels.fraud; nothing where none is known')
    .option('--on <field>', 'field by which labels and events belong together (default: the events’ ids)')
    .option(
      '--label-arrival <field>',
      'timestamp of a label that says when it arrived (default: its record’s time; in files, its event time)',
    )
    .option('--known-by <time>', 'join only labels that had arrived by then (default: all)', parseTime)
    .addHelpText('after', about)
  addBatchOptions(command)
  command.action((flags: ExportFlags) =>
    untilStopped(
      (signal) => runExport(flags, signal),
      flags.work === undefined ? 'stopped; nothing was kept' : `stopped; the same command goes on from here`,
    ),
  )
}

async function runExport(flags: ExportFlags, signal: AbortSignal): Promise<void> {
  const pipeline = await loadPipeline(flags.pipeline)
  const address = parseInputs(flags, pipeline)
  const definition = exportDefinition(flags, pipeline)
  const target = rowTarget(flags.out, flags.format)
  const schema = exportSchema(definition, metadataOf(flags, pipeline))
  const work = flags.work === undefined ? undefined : new WorkFolder(flags.work, describeRun(flags, pipeline))
  if (work?.resumed !== true && target.kind === 'folder') checkUnused(target.path)
  const telemetry = batchTelemetry(flags.logLevel)
  let inputs: BatchInputs | undefined
  try {
    const exported = exportedPipeline(definition, address.kind === 'files')
    inputs = await openInputs(address, exported, telemetry, signal)
    const labels = definition.label && (await readLabels(definition.label, inputs, work, signal))
    const output = rowOutput(target, tableRowFormat(target.format, schema), work?.partsPath('rows'))
    const sink = new BatchSink({
      outputs: [output],
      takers: new Map([[exported.topicOf('features'), exportTaker(definition, output, labels)]]),
      deadLetterTopic: exported.deadLetterTopic,
      rejected: new RejectedFile(`${flags.out.replace(/\/+$/, '')}.rejected.ndjson`),
      work,
    })
    await replay({ flags, exported, inputs, sink, work, telemetry, signal, labelled: definition.label !== undefined })
    work?.remove()
  } finally {
    await inputs?.close()
    await telemetry.shutdown()
  }
}

interface ReplayParts {
  readonly flags: ExportFlags
  readonly exported: Pipeline
  readonly inputs: BatchInputs
  readonly sink: BatchSink
  readonly work: WorkFolder | undefined
  readonly telemetry: Telemetry
  readonly signal: AbortSignal
  readonly labelled: boolean
}

async function replay({ flags, exported, inputs, sink, work, telemetry, signal, labelled }: ReplayParts): Promise<void> {
  const progress = new ProgressLine()
  const facts = (): string[] => [
    `rows ${numberText(sink.count('rows'))}`,
    ...(labelled ? [`labelled ${numberText(sink.count('labelled'))}`] : []),
    `rejected ${numberText(sink.count('rejected'))}`,
  ]
  const run = new BatchRun({
    pipeline: exported,
    redisUrl: flags.lookupRedis,
    services: new Set(['preprocessing']),
    sources: [...exported.inputs.values()].map((input) => inputs.source(input)),
    sink,
    work,
    checkpointEveryMs: flags.checkpointEvery,
    telemetry,
    onProgress: (state) => progress.show(replayProgress(state), facts()),
  })
  try {
    await run.run(signal)
    await sink.finish([sink.count('rows')])
  } catch (thrown) {
    await sink.abandon()
    throw thrown
  } finally {
    progress.end()
  }
  const outside = sink.count('outside')
  const left = outside === 0 ? '' : ` (${numberText(outside)} outside of the range were history only)`
  console.error(`${flags.out}: ${facts().join(', ')}${left}, in ${progress.seconds.toFixed(1)} s`)
  if (sink.count('rejected') > 0) console.error(`why rows were rejected: ${flags.out.replace(/\/+$/, '')}.rejected.ndjson`)
}

function exportDefinition(flags: ExportFlags, pipeline: Pipeline): ExportDefinition {
  const { label, on, labelArrival, knownBy } = flags
  if (label === undefined && (on ?? labelArrival ?? knownBy) !== undefined)
    throw new MeshError('INVALID_ARGUMENT', 'say what is joined: --label input.field, as labels.fraud', { field: '--label' })
  const joined =
    label === undefined
      ? undefined
      : labelDefinition(pipeline, {
          label,
          knownByMs: knownBy ?? Infinity,
          ...(on === undefined ? {} : { on }),
          ...(labelArrival === undefined ? {} : { labelArrival }),
        })
  return { pipeline, fromMs: flags.from ?? -Infinity, toMs: flags.to ?? Infinity, fields: fieldsOf(flags.fields, pipeline), label: joined }
}

function fieldsOf(names: readonly string[], pipeline: Pipeline): ReadonlyMap<string, FieldType> {
  const fields = new Map<string, FieldType>()
  for (const name of names)
    for (const input of pipeline.inputs.values()) {
      if (!input.predict) continue
      const found = Object.hasOwn(input.definition.fields, name) ? input.definition.fields[name] : undefined
      if (found === undefined) {
        const known = Object.keys(input.definition.fields).join(', ')
        throw new MeshError('INVALID_ARGUMENT', `--fields: input "${input.name}" has no field "${name}": choose among ${known}`, {
          field: '--fields',
        })
      }
      fields.set(name, found.type)
    }
  return fields
}

/** Preprocessing alone, its vectors to a topic of frames; old deadlines are over, and nobody waits. */
function exportedPipeline(definition: ExportDefinition, isFiles: boolean): Pipeline {
  const { pipeline } = definition
  return {
    ...unlogged(pipeline),
    placement: { ...pipeline.placement, features: 'topic' },
    keptColumns: new Set([...pipeline.keptColumns, ...keptFields(definition)]),
    deadline: { withinMs: Infinity, late: 'wait' },
    partitions: isFiles ? 1 : pipeline.partitions,
  }
}

/** The labels of all the input that there was when the run began. */
async function readLabels(
  label: LabelDefinition,
  inputs: BatchInputs,
  work: WorkFolder | undefined,
  signal: AbortSignal,
): Promise<LabelIndex> {
  const source = inputs.source(label.input)
  const decide = async (): Promise<StoredRange> => storedRange(await source.open(undefined, signal))
  const stored = work === undefined ? await decide() : await work.decided('labels', decide)
  const range = await source.open(rangeOf(stored), signal)
  return LabelIndex.read(label, source, range, inputs.bus !== undefined, signal)
}

interface StoredRange {
  readonly identity: string
  readonly partitions: readonly { readonly partition: number; readonly from: string; readonly end: string | null }[]
}

function storedRange({ identity, partitions }: ReplayInput): StoredRange {
  return {
    identity,
    partitions: partitions.map(({ partition, from, end }) => ({
      partition,
      from: String(from),
      end: end === undefined ? null : String(end),
    })),
  }
}

function rangeOf({ identity, partitions }: StoredRange): ReplayInput {
  return {
    identity,
    partitions: partitions.map(({ partition, from, end }) => ({
      partition,
      from: BigInt(from),
      end: end === null ? undefined : BigInt(end),
    })),
  }
}

function metadataOf(flags: ExportFlags, pipeline: Pipeline): Readonly<Record<string, string>> {
  return {
    'spillway.table': 'features export',
    'spillway.pipeline': pipeline.name,
    'spillway.release': pipeline.release,
    'spillway.definition': pipeline.features.hash,
    'spillway.features': JSON.stringify(pipeline.features.vector.names),
    ...(flags.label === undefined ? {} : { 'spillway.label': flags.label }),
    ...(flags.from === undefined ? {} : { 'spillway.from': new Date(flags.from).toISOString() }),
    ...(flags.to === undefined ? {} : { 'spillway.to': new Date(flags.to).toISOString() }),
    ...(flags.knownBy === undefined ? {} : { 'spillway.known-by': new Date(flags.knownBy).toISOString() }),
  }
}

function describeRun(flags: ExportFlags, pipeline: Pipeline): Readonly<Record<string, unknown>> {
  const { out, format, fields, label, on, labelArrival, knownBy, from, to } = flags
  return {
    command: 'features export',
    pipeline: pipeline.name,
    definition: pipeline.schemaHash,
    features: pipeline.features.hash,
    ...sourceDescription(flags),
    out: resolve(out),
    format,
    fields,
    label,
    on,
    labelArrival,
    knownBy,
    from,
    to,
  }
}
