import { MeshError, parseDurationMs } from '@spillway/core'
import { type Command, Option } from 'commander'
import { parseCount, parsePort } from '../options.ts'

/** What the model service takes when it runs without a pipeline: Triton's names where it has one, then TensorFlow Serving's, then our own. */
export interface ModelFlags {
  readonly modelRepository?: readonly string[]
  readonly modelCache?: string
  readonly modelState?: string
  readonly modelControlMode?: 'none' | 'poll' | 'explicit'
  readonly repositoryPollSecs?: number
  readonly loadModel?: readonly string[]
  readonly httpAddress?: string
  readonly grpcAddress?: string
  readonly exitOnError?: boolean
  readonly strictReadiness?: boolean
  readonly exitTimeoutSecs?: number
  readonly serverName?: string
  readonly modelConfigFile?: string
  readonly modelConfigFilePollWaitSeconds?: number
  readonly modelName?: string
  readonly modelBasePath?: string
  readonly restApiPort?: number
  readonly memoryBudget?: number
  readonly idleUnload?: number
  readonly instances?: number
  readonly threadsPerRun?: number
  readonly maxBatchSize?: number
  readonly maxQueueSize?: number
  readonly maxQueueDelay?: number
  readonly queueTimeout?: number
  readonly maxCallsInFlight?: number
}

/** Every flag of `ModelFlags` by its option's name. */
const names: readonly (keyof ModelFlags)[] = [
  'modelRepository',
  'modelCache',
  'modelState',
  'modelControlMode',
  'repositoryPollSecs',
  'loadModel',
  'httpAddress',
  'grpcAddress',
  'exitOnError',
  'strictReadiness',
  'exitTimeoutSecs',
  'serverName',
  'modelConfigFile',
  'modelConfigFilePollWaitSeconds',
  'modelName',
  'modelBasePath',
  'restApiPort',
  'memoryBudget',
  'idleUnload',
  'instances',
  'threadsPerRun',
  'maxBatchSize',
  'maxQueueSize',
  'maxQueueDelay',
  'queueTimeout',
  'maxCallsInFlight',
]

/** The first that is given, as it is written. */
export function givenModelFlag(flags: ModelFlags): string | undefined {
  const name = names.find((known) => flags[known] !== undefined)
  return name === undefined ? undefined : `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
}

const all = (text: string, before: readonly string[] = []): readonly string[] => [...before, text]

export function addModelFlags(command: Command): void {
  command
    .optionsGroup('The model service without a pipeline:')
    .option('--model-repository <folder>', 'folder, or s3://bucket/prefix, of <model>/<version>/model.onnx; may be repeated', all)
    .option('--model-cache <folder>', 'where versions from s3:// are kept (default: a folder that goes with the process)')
    .option('--model-state <file>', 'keeps promotions, labels and traffic over a restart (default: they end with the process)')
    .addOption(new Option('--model-control-mode <mode>', 'which models are loaded (default: none)').choices(['none', 'poll', 'explicit']))
    .option('--repository-poll-secs <seconds>', 'how often poll mode looks (default: 15)', secondsOf('--repository-poll-secs'))
    .option('--load-model <name>', 'in explicit mode: loaded at the start, * for all; may be repeated', all)
    .option('--model-config-file <file>', "TensorFlow Serving's list of models (ModelServerConfig as text)")
    .option(
      '--model-config-file-poll-wait-seconds <seconds>',
      'how often that list is read again (default: 0, never)',
      secondsOf('--model-config-file-poll-wait-seconds'),
    )
    .option('--model-base-path <folder>', 'one model: folder of <version>/model.onnx')
    .option('--model-name <name>', "that model's name (default: default)")
    .option('--http-address <address>', 'address of HTTP (default: --host)')
    .option('--grpc-address <address>', 'address of gRPC (default: --host)')
    .addOption(new Option('--rest-api-port <port>', 'as --http-port').argParser(parsePort).hideHelp())
    .option(
      '--exit-on-error [boolean]',
      'whether a model that cannot be served ends the start (default: true)',
      booleanOf('--exit-on-error'),
    )
    .option(
      '--strict-readiness [boolean]',
      'whether the server is ready only while every model is (default: true)',
      booleanOf('--strict-readiness'),
    )
    .option('--exit-timeout-secs <seconds>', 'how long a drain may take (default: 10)', secondsOf('--exit-timeout-secs'))
    .option('--server-name <name>', 'what the metadata calls the server (default: spillway)')
    .option('--memory-budget <bytes>', 'what all models may hold, as in 512MiB or 4GB (default: no limit)', parseBytes)
    .option('--idle-unload <duration>', 'unload a model that is not called for so long, as in 10m (default: never)', parseDurationMs)
    .option(
      '--instances <count>',
      'instances of a model whose config does not say it (default: of an ONNX model one for every two cores, and two of two)',
      parseCount,
    )
    .option('--threads-per-run <count>', 'threads within one run (default: 1)', parseCount)
    .option('--max-batch-size <rows>', 'most rows of a run of a model whose config does not say it (default: 1024)', parseCount)
    .option('--max-queue-size <rows>', 'most rows that wait for a model (default: 16384)', parseCount)
    .option('--max-queue-delay <duration>', 'how long a batch waits for more rows, as in 2ms (default: 0ms)', parseDurationMs)
    .option('--queue-timeout <duration>', 'how long a request may wait (default: for ever)', parseDurationMs)
    .option('--max-calls-in-flight <count>', 'calls of models at once, over all protocols; more are refused (default: 4096)', parseCount)
}

/** Flags as TensorFlow Serving writes them, with underscores, by their names with dashes. */
export function withDashes(args: readonly string[]): readonly string[] {
  return args.map((arg) => {
    const [, name = '', rest = ''] = /^(--[a-z][a-z_]*)(=[^]*)?$/.exec(arg) ?? []
    return name.includes('_') ? name.replaceAll('_', '-') + rest : arg
  })
}

function secondsOf(flag: string): (text: string) => number {
  return (text) => {
    if (!/^\d{1,9}(\.\d+)?$/.test(text))
      throw new MeshError('INVALID_ARGUMENT', `${flag} ${text}: expected seconds, as in 15`, { field: flag })
    return Number(text)
  }
}

function booleanOf(flag: string): (text: string) => boolean {
  return (text) => {
    const value = { true: true, false: false, 1: true, 0: false }[text]
    if (value === undefined) throw new MeshError('INVALID_ARGUMENT', `${flag} ${text}: expected true or false`, { field: flag })
    return value
  }
}

const unitBytes: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
}

/** `512MiB`, `4GB` or a count of bytes. @throws MeshError INVALID_ARGUMENT */
function parseBytes(text: string): number {
  const [, number = '', unit = ''] = /^(\d+(?:\.\d+)?) ?([A-Za-z]*)$/.exec(text.trim()) ?? []
  const factor = unitBytes[unit.toUpperCase()]
  const bytes = number === '' || factor === undefined ? NaN : Math.round(Number(number) * factor)
  if (!(bytes >= 1) || !Number.isSafeInteger(bytes))
    throw new MeshError('INVALID_ARGUMENT', `"${text}" is no size: expected bytes, or a number with KiB, MiB, GiB, KB, MB or GB`)
  return bytes
}
