import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { parseDurationMs } from '@spillway/core'
import { loadPipeline } from '@spillway/mesh'
import type { LogLevel } from '@spillway/telemetry'
import { type Command, Option } from 'commander'
import { batchTelemetry } from '../batch/batch-telemetry.ts'
import { FeatureLogWriter, logSchema, logTopic } from '../batch/feature-log.ts'
import { batchBus } from '../batch/inputs.ts'
import { PositionsFile } from '../batch/positions-file.ts'
import { numberText } from '../batch/progress.ts'
import { checkFolderName } from '../batch/row-output.ts'
import { untilStopped } from '../batch/stop.ts'
import { parseBus } from '../bus-address.ts'
import { writeDescription } from '../tables/description.ts'
import { PartFiles } from '../tables/part-files.ts'
import { tableRowFormat } from '../tables/row-format.ts'
import type { TableFormat } from '../tables/table.ts'

interface LogFlags {
  readonly pipeline: string
  readonly bus: string
  readonly out: string
  readonly format: TableFormat
  readonly follow: boolean
  readonly checkpointEvery: number
  readonly logLevel: LogLevel
}

const about = `
Every vector that was served, a row each: an export's columns, then definition_hash, release and mode (stream, or request for a synchronous call, which has no source
position). The same command later goes on where this one ended; each row is in the folder once, whatever is killed when.

Rows of another definition of features have other columns: they are counted, and left out. Give the pipeline file that made them, and a folder of its own.

The file of an embedded bus belongs to the process that runs the mesh: stop it first, or keep the mesh on Kafka to follow its log while it runs.`

export function addLogCommand(features: Command): void {
  features
    .command('log')
    .description('write the feature log, every vector that was served, to part files')
    .requiredOption('--pipeline <file>', 'the pipeline file')
    .requiredOption('--bus <address>', 'kafka://host:port[,…], nats://host:port[,…], or embedded:FILE of a mesh that is stopped')
    .requiredOption('--out <folder>', 'folder for part files')
    .addOption(new Option('--format <format>', 'of the part files').choices(['parquet', 'csv', 'ndjson']).default('parquet'))
    .option('--follow', 'go on with what is still to come, until Ctrl-C', false)
    .option('--checkpoint-every <duration>', 'how often a part is ended, at least', parseDurationMs, 60_000)
    .addOption(
      new Option('--log-level <level>', 'least level to log, on standard error')
        .choices(['trace', 'debug', 'info', 'warn', 'error', 'silent'])
        .default('warn'),
    )
    .addHelpText('after', about)
    .action((flags: LogFlags) => untilStopped((signal) => runLog(flags, signal), 'stopped; the same command goes on from here'))
}

async function runLog(flags: LogFlags, signal: AbortSignal): Promise<void> {
  const pipeline = await loadPipeline(flags.pipeline)
  checkFolderName(flags.out)
  const topic = logTopic(pipeline, flags.pipeline)
  const schema = logSchema(pipeline)
  mkdirSync(flags.out, { recursive: true })
  const file = new PositionsFile(join(flags.out, '_positions.json'))
  const telemetry = batchTelemetry(flags.logLevel)
  const bus = batchBus(parseBus(flags.bus), pipeline, telemetry)
  try {
    const from = file.load({ topic, definition: pipeline.features.hash, format: flags.format })
    await bus.start(signal)
    const writer = new FeatureLogWriter(
      {
        pipeline,
        bus,
        topic,
        parts: new PartFiles(flags.out, tableRowFormat(flags.format, schema)),
        file,
        checkpointEveryMs: flags.checkpointEvery,
        follow: flags.follow,
        onProgress: () => undefined,
      },
      from,
    )
    await writer.run(signal)
    writeDescription(flags.out, schema, writer.rows)
    console.error(`${flags.out}: ${numberText(writer.rows)} rows, ${numberText(writer.rows - from.rows)} of them new`)
    for (const [hash, rows] of writer.otherDefinitions)
      console.error(`${numberText(rows)} rows were made by another definition of features, ${hash}: they are left out`)
  } finally {
    await bus.drain()
    file.release()
    await telemetry.shutdown()
  }
}
