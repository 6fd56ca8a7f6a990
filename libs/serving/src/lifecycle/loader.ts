import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { Backend, ModelSignature } from '../backend.ts'
import { backendFor, defaultMaxBatchRows } from '../backends/backend-for.ts'
import type { EnsembleBackend } from '../backends/ensemble/ensemble-backend.ts'
import { OnnxBackend } from '../backends/onnx-backend.ts'
import { type BatcherOptions, batcherOptions } from '../batching/batcher-options.ts'
import { DynamicBatcher } from '../batching/dynamic-batcher.ts'
import { ServableStatistics } from '../batching/statistics.ts'
import type { ModelConfig } from '../config/model-config.ts'
import type { Models } from '../models.ts'
import { checkGolden } from '../validity/golden.ts'
import { checkSameSignature } from '../validity/signature-check.ts'
import { warmUp } from '../validity/warm-up.ts'
import { completeConfig, loadConfig, type ModelDefaults, readClassLabels } from './complete-config.ts'
import type { MemoryEstimate } from './memory-budget.ts'
import { Servable } from './servable.ts'
import { layoutText, type LocalVersion, type SourceModel, type SourceVersion } from './source.ts'

/** Throws where a version's signature is not what somebody who calls the model needs. */
export type SignatureExpectation = (signature: ModelSignature) => void

/** `parameters` of a config that asks of a new version that callers of the served one can go on with it, by this key. */
const sameSignatureParameter = 'same_signature'

export interface LoaderOptions {
  readonly defaults: ModelDefaults
  readonly batching: BatcherOptions
  readonly expects: ReadonlyMap<string, SignatureExpectation>
  readonly telemetry: Telemetry
  readonly memory: MemoryEstimate
  /** The process's resident set, bytes. */
  readonly residentBytes: () => number
  readonly models: () => Models
  /** Those that are loaded. */
  readonly ensembles: () => Iterable<EnsembleBackend>
  /** Resolves when so many bytes more may be taken. @throws MeshError RESOURCE_EXHAUSTED */
  readonly makeRoom: (model: string, neededBytes: number, mayEvict: boolean) => Promise<void>
}

/** Of what a version was loaded: its own files, and the model's. */
export function loadFingerprint(model: SourceModel, version: SourceVersion): string {
  return `${model.fingerprint}\0${version.fingerprint}`
}

export interface LoadRequest {
  readonly model: SourceModel
  readonly version: SourceVersion
  /** The version that calls go to now. */
  readonly served: Servable | undefined
  /** Whether models that are not in use may be unloaded to make room for it. */
  readonly mayEvict: boolean
}

/** Makes a version that is fit to take traffic, or says why it is not. */
export class Loader {
  readonly #options: LoaderOptions

  constructor(options: LoaderOptions) {
    this.#options = options
  }

  /**
   * Loads a version and holds it against everything that is asked of it: the config, what callers expect, the signature of the served version where the
   * config says so, its warm-up requests and its golden ones.
   * @throws MeshError why it is refused; nothing of it is left then
   */
  async load({ model, version, served, mayEvict }: LoadRequest, signal: AbortSignal): Promise<Servable> {
    const files = await version.fetch(signal)
    const startedMs = performance.now()
    try {
      const { memory, makeRoom, defaults } = this.#options
      const config = loadConfig(model.name, model.config, defaults)
      await makeRoom(model.name, memory.before(files.fileBytes, expectedSessions(config)), mayEvict)
      return await this.#open({ model, version, served, mayEvict }, config, files, startedMs, signal)
    } catch (thrown) {
      await this.#leave(model.name, version.version, () => files.release())
      throw MeshError.from(thrown, 'FAILED_PRECONDITION')
    }
  }

  /** Ends what was begun of a version that is refused. Why it is refused is what its callers need, so what goes wrong here is only logged. */
  async #leave(model: string, version: string, end: () => Promise<void>): Promise<void> {
    try {
      await end()
    } catch (error) {
      this.#options.telemetry.logger.warn({ model, version, err: error }, 'a model version that is refused could not be ended')
    }
  }

  async #open(
    { model, version: source, served, mayEvict }: LoadRequest,
    given: ModelConfig,
    files: LocalVersion,
    startedMs: number,
    signal: AbortSignal,
  ): Promise<Servable> {
    const { batching, telemetry, memory, residentBytes, makeRoom } = this.#options
    const { name } = model
    const { version } = source
    await checkFile(given, files)
    const residentBefore = residentBytes()
    const { folder, modelFolder, fileBytes } = files
    const backend = backendFor({
      model: name,
      version,
      folder,
      modelFolder,
      config: given,
      models: this.#options.models,
      logger: telemetry.logger,
      telemetry,
    })
    try {
      await backend.start(signal)
      const config = completeConfig(given, backend.signature, backend.maxBatchRows, batching.maxBatchRows ?? defaultMaxBatchRows)
      const goldens = await this.#check(name, version, config, backend, files, served, signal)
      const classLabels = await readClassLabels(config, modelFolder)
      // An ensemble holds nothing itself: what grew meanwhile are its models.
      const grownBytes = config.backend === 'ensemble' ? 0 : residentBytes() - residentBefore
      const memoryBytes = memory.after(fileBytes, sessionsOf(config, backend), grownBytes)
      // What it takes is known now: one that takes more than there is does not stay.
      await makeRoom(name, memoryBytes, mayEvict)
      const statistics = new ServableStatistics(name, version)
      const batcher = new DynamicBatcher(backend, statistics, batcherOptions(config, { ...batching, telemetry }))
      const tookMs = Math.round(performance.now() - startedMs)
      const placement = backend instanceof OnnxBackend ? backend.placement : undefined
      telemetry.logger.info({ model: name, version, tookMs, memoryBytes, goldens, ...placement }, 'a model version is loaded')
      return new Servable({
        model: name,
        version,
        fingerprint: loadFingerprint(model, source),
        config,
        classLabels,
        backend,
        batcher,
        statistics,
        files,
        memoryBytes,
      })
    } catch (error) {
      await this.#leave(name, version, () => backend.drain())
      throw error
    }
  }

  /** @returns how many golden requests held */
  async #check(
    model: string,
    version: string,
    config: ModelConfig,
    backend: Backend,
    { folder, modelFolder }: LocalVersion,
    served: Servable | undefined,
    signal: AbortSignal,
  ): Promise<number> {
    this.#options.expects.get(model)?.(backend.signature)
    for (const ensemble of this.#options.ensembles()) ensemble.checkStep(model, version, backend.signature)
    if (served !== undefined && config.parameters.get(sameSignatureParameter) === 'true')
      checkSameSignature(model, backend.signature, served.signature, served.version)
    await warmUp(backend, config, modelFolder, signal)
    return checkGolden(backend, model, folder, signal)
  }
}

/** Before the backend says whether it runs inline. */
function expectedSessions({ backend, instanceCount = 1 }: ModelConfig): number {
  return backend === 'onnxruntime' ? instanceCount : 0
}

/** Copies of the model in memory. */
function sessionsOf({ backend: kind }: ModelConfig, { concurrency }: Backend): number {
  return kind === 'onnxruntime' ? concurrency : 1
}

/** What is missing is said better than by the runtime. */
async function checkFile({ backend, file = 'model.onnx' }: ModelConfig, { folder }: LocalVersion): Promise<void> {
  if (backend !== 'onnxruntime') return
  const path = join(folder, file)
  const found = await stat(path).catch(() => undefined)
  if (found?.isFile() !== true) throw new MeshError('NOT_FOUND', `${path} is missing or no file: expected ${layoutText}`)
  if (found.size === 0) throw new MeshError('FAILED_PRECONDITION', `${path} is empty: expected an ONNX model`)
}
