import type { ModelConfig, VersionPolicy } from '../config/model-config.ts'

export const layoutText = '<repository>/<model>/<version>/model.onnx, the version a positive whole number'

/** Where versions of models come from: a folder, a bucket. It says what is there; the manager decides what is loaded. */
export interface ModelSource {
  /** As messages name it. */
  readonly description: string
  /** When another look at an unsettled version is worth it, ms after the first. */
  readonly settleMs: number
  /** Every model that it has, sorted. @throws MeshError where it cannot be asked: what is served then stays as it is. */
  names(signal: AbortSignal): Promise<readonly string[]>
  /** What it has of a model now. @throws MeshError NOT_FOUND saying where it looked and what it expected there, INVALID_ARGUMENT for what is no model name. */
  model(name: string, signal: AbortSignal): Promise<SourceModel>
  /** Calls back when something may have changed, often or never: looking decides. @returns what ends it */
  watch?(changed: () => void): () => void
}

export interface SourceModel {
  readonly name: string
  /** As its config file says, where it has one. */
  readonly config: ModelConfig | undefined
  /** Equal as long as the model's own files (config, warm-up data, class names) are. */
  readonly fingerprint: string
  /** Where it is not the config's. */
  readonly policy?: VersionPolicy
  /** Versions that labels stand for as soon as they are loaded, by label. */
  readonly labels: ReadonlyMap<string, string>
  /** Those that are complete. */
  readonly versions: readonly SourceVersion[]
  /** Those that are being written: they are not to be loaded, and not to be taken as gone. */
  readonly unsettled: readonly string[]
}

/** A complete version of a model, not yet on this machine perhaps. */
export interface SourceVersion {
  /** Decimal, without leading zeros. */
  readonly version: string
  /** Equal as long as its files are: their names, sizes and times, or a bucket's ETags. */
  readonly fingerprint: string
  /** Has its folder on this machine. @throws MeshError */
  fetch(signal: AbortSignal): Promise<LocalVersion>
}

export interface LocalVersion {
  /** The version's. */
  readonly folder: string
  /** The model's: `warmup/`, files of class names. */
  readonly modelFolder: string
  /** Of the version's files together. */
  readonly fileBytes: number
  /** The files are no longer read: the version is unloaded. Idempotent. */
  release(): Promise<void>
}
