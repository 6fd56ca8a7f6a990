import { resolve } from 'node:path'
import { parseDurationMs } from '@spillway/core'
import type { LogLevel } from '@spillway/telemetry'
import { type Command, Option } from 'commander'
import type { InputFlags } from '../batch/inputs.ts'
import { parseTime } from '../batch/parse-time.ts'

/** What every batch run takes. */
export interface BatchFlags extends InputFlags {
  readonly pipeline: string
  readonly from?: number
  readonly to?: number
  readonly work?: string
  /** In ms. */
  readonly checkpointEvery: number
  readonly logLevel: LogLevel
  readonly lookupRedis?: string
}

export function addInputOptions(command: Command): void {
  command
    .requiredOption('--pipeline <file>', 'the pipeline file')
    .option(
      '--bus <address>',
      'read the inputs’ topics: kafka://host:port[,…], nats://host:port[,…], or embedded:FILE of a mesh that is stopped',
    )
    .option(
      '--input <name=file>',
      'read an input from files of one JSON event a line (may be gzip); several with commas; once for each input',
      (text: string, all: string[]) => [...all, text],
      [],
    )
    .option('--from <time>', 'rows from this event time on: a day as 2018-05-08, or RFC 3339', parseTime)
    .option('--to <time>', 'rows before this event time', parseTime)
    .option('--lookup-redis <url>', 'server of Redis lookups that name none: redis://host:port')
    .addOption(
      new Option('--log-level <level>', 'least level to log, on standard error')
        .choices(['trace', 'debug', 'info', 'warn', 'error', 'silent'])
        .default('warn'),
    )
}

export function addBatchOptions(command: Command): void {
  addInputOptions(command)
  command
    .option('--work <folder>', 'keep here what is needed to go on after a stop; removed at the end')
    .option(
      '--checkpoint-every <duration>',
      'how often to make what was done safe: a killed run does that much again',
      parseDurationMs,
      10_000,
    )
}

export function commaSeparated(text: string): readonly string[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
}

/** What a run reads, for a work folder to know it again. */
export function sourceDescription({ bus, input }: InputFlags): Readonly<Record<string, unknown>> {
  const files = input.map((text) => {
    const [name, paths = ''] = text.split('=', 2) as [string, string?]
    return `${name}=${paths
      .split(',')
      .map((path) => resolve(path))
      .join(',')}`
  })
  return { bus, input: files }
}
