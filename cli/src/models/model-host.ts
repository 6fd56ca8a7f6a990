import { resolve } from 'node:path'
import { type Component, MeshError } from '@spillway/core'
import { type ModelService, type ModelServiceOptions, startModelService } from '@spillway/model'
import {
  type BatcherOptions,
  CombinedSource,
  defaultIdentity,
  DirectorySource,
  modelConfigParsers,
  ModelListSource,
  type ModelSource,
  S3Source,
  TrafficFile,
} from '@spillway/serving'
import type { Telemetry } from '@spillway/telemetry'
import { defaultPorts } from '../options.ts'
import type { ModelFlags } from './model-flags.ts'
import { repositorySource } from './repository-source.ts'

export interface ModelHostFlags extends ModelFlags {
  readonly host: string
  readonly httpPort?: number
  readonly grpcPort?: number
}

/** TensorFlow Serving looks for versions this often. */
const listPollSecs = 1

/** The model service as a process of its own, from flags. */
export class ModelHost implements Component {
  readonly #flags: ModelHostFlags
  readonly #telemetry: Telemetry
  readonly #closing: (() => Promise<void>)[] = []
  #service: ModelService | undefined

  /** @throws MeshError INVALID_ARGUMENT naming flags that do not go together */
  constructor(flags: ModelHostFlags, telemetry: Telemetry) {
    checkFlags(flags)
    this.#flags = flags
    this.#telemetry = telemetry
  }

  get service(): ModelService {
    if (this.#service === undefined) throw new MeshError('FAILED_PRECONDITION', 'the model service has not started')
    return this.#service
  }

  async start(signal: AbortSignal): Promise<void> {
    const source = await openSource(this.#flags, this.#telemetry, (close) => this.#closing.push(close))
    this.#service = await startModelService({ ...serviceOptions(this.#flags), source, telemetry: this.#telemetry, signal })
  }

  async drain(): Promise<void> {
    await this.#service?.drain()
    for (const close of this.#closing.splice(0)) await close()
  }
}

/** @throws MeshError INVALID_ARGUMENT */
function checkFlags(flags: ModelHostFlags): void {
  const { modelRepository, modelConfigFile, modelBasePath, modelName, modelControlMode, loadModel, httpPort, restApiPort } = flags
  const refuse = (message: string): never => {
    throw new MeshError('INVALID_ARGUMENT', message)
  }
  if (modelRepository === undefined && modelConfigFile === undefined && modelBasePath === undefined)
    refuse('no models are given: expected --model-repository FOLDER, --model-config-file FILE, --model-base-path FOLDER or --pipeline FILE')
  if (modelConfigFile !== undefined && modelBasePath !== undefined)
    refuse('--model-config-file and --model-base-path both list models: expected one of them')
  if (modelName !== undefined && modelBasePath === undefined) refuse('--model-name names the model of --model-base-path, which is missing')
  if (loadModel !== undefined && modelControlMode !== 'explicit') refuse('--load-model needs --model-control-mode explicit')
  if (flags.repositoryPollSecs !== undefined && modeOf(flags) !== 'poll') refuse('--repository-poll-secs needs --model-control-mode poll')
  if (flags.repositoryPollSecs === 0) refuse('--repository-poll-secs 0: expected more than 0, or --model-control-mode none')
  if (flags.modelConfigFilePollWaitSeconds && modeOf(flags) !== 'poll')
    refuse('--model-config-file-poll-wait-seconds needs --model-control-mode poll')
  if (httpPort !== undefined && restApiPort !== undefined) refuse('--http-port and --rest-api-port are the same port: expected one of them')
}

/** A list of models is followed, as TensorFlow Serving does; a repository is not, as Triton does. */
function modeOf({ modelControlMode, modelConfigFile, modelBasePath }: ModelHostFlags): 'none' | 'poll' | 'explicit' {
  return modelControlMode ?? (modelConfigFile === undefined && modelBasePath === undefined ? 'none' : 'poll')
}

/** @param closing takes what is to be closed at the end */
async function openSource(
  flags: ModelHostFlags,
  { logger }: Telemetry,
  closing: (close: () => Promise<void>) => void,
): Promise<ModelSource> {
  const { modelRepository = [], modelConfigFile, modelConfigFilePollWaitSeconds = 0, modelBasePath, modelName = 'default' } = flags
  const { parseConfig } = modelConfigParsers(logger)
  const sources: ModelSource[] = modelRepository.map((repository) => {
    const source = repositorySource(repository, parseConfig, flags.modelCache, process.env)
    if (source instanceof S3Source) closing(() => source.close())
    return source
  })
  if (modelConfigFile !== undefined) {
    const rereadMs = modelConfigFilePollWaitSeconds * 1000
    sources.push(await ModelListSource.open({ path: resolve(modelConfigFile), rereadMs, parseConfig, logger }))
  }
  if (modelBasePath !== undefined)
    sources.push(new DirectorySource({ listed: [{ name: modelName, basePath: resolve(modelBasePath) }], parseConfig }))
  return sources.length === 1 ? sources[0]! : new CombinedSource(sources)
}

function serviceOptions(flags: ModelHostFlags): Omit<ModelServiceOptions, 'source' | 'telemetry' | 'signal'> {
  const mode = modeOf(flags)
  const listed = flags.modelConfigFile !== undefined || flags.modelBasePath !== undefined
  const pollSecs = flags.repositoryPollSecs ?? (listed ? listPollSecs : undefined)
  const { host, httpAddress = host, grpcAddress = host, memoryBudget, idleUnload, instances, threadsPerRun, exitTimeoutSecs } = flags
  const { maxCallsInFlight } = flags
  return {
    host: httpAddress,
    grpcHost: grpcAddress,
    httpPort: flags.httpPort ?? flags.restApiPort ?? defaultPorts.model.http,
    grpcPort: flags.grpcPort ?? defaultPorts.model.grpc,
    mode,
    exitOnError: flags.exitOnError ?? true,
    strictReadiness: flags.strictReadiness ?? true,
    identity: { ...defaultIdentity, ...(flags.serverName !== undefined && { name: flags.serverName }) },
    batching: batching(flags),
    ...(flags.modelState !== undefined && { keptTraffic: TrafficFile.open(resolve(flags.modelState)) }),
    ...(flags.loadModel !== undefined && { loadModels: flags.loadModel }),
    ...(pollSecs !== undefined && { pollMs: pollSecs * 1000 }),
    ...(memoryBudget !== undefined && { memoryBudgetBytes: memoryBudget }),
    ...(idleUnload !== undefined && { idleUnloadMs: idleUnload }),
    ...(instances !== undefined && { workers: instances }),
    ...(threadsPerRun !== undefined && { threadsPerRun }),
    ...(maxCallsInFlight !== undefined && { maxCallsInFlight }),
    ...(exitTimeoutSecs !== undefined && { drainTimeoutMs: exitTimeoutSecs * 1000 }),
  }
}

function batching({ maxBatchSize, maxQueueSize, maxQueueDelay, queueTimeout }: ModelHostFlags): BatcherOptions {
  return {
    ...(maxBatchSize !== undefined && { maxBatchRows: maxBatchSize }),
    ...(maxQueueSize !== undefined && { maxQueueRows: maxQueueSize }),
    ...(maxQueueDelay !== undefined && { maxQueueDelayMs: maxQueueDelay }),
    ...(queueTimeout !== undefined && { defaultTimeoutMs: queueTimeout }),
  }
}
