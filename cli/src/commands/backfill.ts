import { resolve } from 'node:path'
import { MeshError } from '@spillway/core'
import { loadPipeline } from '@spillway/mesh'
import { type Command, Option } from 'commander'
import { fileBackfill } from '../batch/file-backfill.ts'
import { parseInputs } from '../batch/inputs.ts'
import { checkFolderName } from '../batch/row-output.ts'
import { untilStopped } from '../batch/stop.ts'
import { topicBackfill } from '../batch/topic-backfill.ts'
import { WorkFolder } from '../batch/work-folder.ts'
import type { TableFormat } from '../tables/table.ts'
import { addBatchOptions, type BatchFlags, sourceDescription } from './batch-flags.ts'

interface BackfillFlags extends BatchFlags {
  readonly out?: string
  readonly format: TableFormat
  readonly outTopicSuffix?: string
  readonly name: string
}

const about = `
A batch run of the whole pipeline in this process, models included, over all input that there is when it begins. Windows are as exact as live: the inputs are
kept together in event time, and all input is read from its beginning, whatever --from says; --from and --to choose by event time which predictions and
alerts are written. Deadlines do not count.

--out DIR writes files: DIR/predictions and DIR/alerts (part files), DIR/dead-letters.ndjson. Each event is in them once. With --work the run can be gone on
with: after Ctrl-C, a kill or a power cut the same command goes on from the last checkpoint.

--out-topic-suffix .backfill writes to topics of the bus that is read, named as the pipeline's with the suffix, exactly once: as the consumer group
<pipeline>.backfill.<name>, outputs and positions in one transaction. It needs --work, whose histories the group's positions rest on: another run takes another
--name and folder, and other output topics or empty ones.`

/** A batch run of a pipeline. */
export function defineBackfill(command: Command): void {
  command
    .option('--out <folder>', 'write predictions, alerts and dead letters to files in it')
    .addOption(
      new Option('--format <format>', 'of predictions and alerts in files').choices(['ndjson', 'parquet', 'csv']).default('ndjson'),
    )
    .option('--out-topic-suffix <suffix>', 'write them to topics with this suffix, as .backfill')
    .option('--name <name>', 'of a run that writes to topics: part of its consumer group’s name', 'default')
    .addHelpText('after', about)
  addBatchOptions(command)
  command.action((flags: BackfillFlags) =>
    untilStopped(
      (signal) => runBackfill(flags, signal),
      flags.work === undefined ? 'stopped; nothing was kept' : 'stopped; the same command goes on from here',
    ),
  )
}

async function runBackfill(flags: BackfillFlags, signal: AbortSignal): Promise<void> {
  const pipeline = await loadPipeline(flags.pipeline)
  const address = parseInputs(flags, pipeline)
  const { out, outTopicSuffix, from, to, format, name } = flags
  if ((out === undefined) === (outTopicSuffix === undefined))
    throw new MeshError('INVALID_ARGUMENT', 'say where to write: --out DIR or --out-topic-suffix SUFFIX, one of them', { field: '--out' })
  if (out !== undefined) checkFolderName(out)
  const description = {
    command: 'backfill',
    pipeline: pipeline.name,
    release: pipeline.release,
    definition: pipeline.schemaHash,
    features: pipeline.features.hash,
    ...sourceDescription(flags),
    from,
    to,
  }
  const common = { pipeline, redisUrl: flags.lookupRedis, address, signal, logLevel: flags.logLevel }
  const range = { fromMs: from ?? -Infinity, toMs: to ?? Infinity }
  if (out !== undefined) {
    const described = { ...description, out: resolve(out), format }
    const work = flags.work === undefined ? undefined : new WorkFolder(flags.work, described)
    return fileBackfill({ ...common, range, out, format, work, checkpointEveryMs: flags.checkpointEvery })
  }
  if (address.kind === 'files')
    throw new MeshError('INVALID_ARGUMENT', '--out-topic-suffix writes to the bus that is read: give --bus, or --out for files', {
      field: '--out-topic-suffix',
    })
  if (flags.work === undefined)
    throw new MeshError('INVALID_ARGUMENT', '--out-topic-suffix needs --work, a folder for the run’s histories', { field: '--work' })
  const work = new WorkFolder(flags.work, { ...description, suffix: outTopicSuffix, name })
  return topicBackfill({ ...common, bus: address.address, range, suffix: outTopicSuffix!, name, work })
}
